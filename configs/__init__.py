"""Configurations: each file defines `CONFIG` and states what differs from the defaults."""
