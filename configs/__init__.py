"""Packaged configurations: each file defines `CONFIG` by its differences from the defaults."""
