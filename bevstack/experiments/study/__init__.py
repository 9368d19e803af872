"""Parts of `bevstack study`: the compared variants, their budget, and the table.

variants.py  the compared configurations, and the part that each leaves out
budget.py    the number of steps of each stage within a budget of processor time
study.py     finished variants, table
"""
