"""Fuzzing of every reader of files: structure-aware mutations of valid files, with kept seeds."""
