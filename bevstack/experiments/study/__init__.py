"""The parts of `bevstack study`: what is compared, what a budget buys, and the table.

variants.py  the configurations that are compared, and what each leaves out
budget.py    how many steps of each stage a budget of processor time pays for
study.py     finished variants, table
"""
