"""Benchmarks: one module for each part of `benchmarks/run.py`, and shared code.

A part is a module listed in `benchmarks/run.py` with three names:

    SUMMARY                     one line for the help
    add_arguments(parser)       adds the part's options
    run(arguments) -> dict      measures, prints a line for each result, returns all results in a
                                form that can be written as JSON
"""
