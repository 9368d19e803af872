"""The parts of `benchmarks/run.py`, one module each, and what they share.

A part is a module with three names, listed in `benchmarks/run.py`:

    SUMMARY                     one line for the help
    add_arguments(parser)       its own options
    run(arguments) -> dict      measures, prints a line for each result, returns all of them as
                                what JSON holds
"""
