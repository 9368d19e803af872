"""The parts of `tools/study.py`: what is compared, what a budget buys, and the table.

variants.py  the configurations that are compared, and what each leaves out
budget.py    how many steps of each stage a budget of processor time pays for
program.py   command line, what is finished, table
"""
