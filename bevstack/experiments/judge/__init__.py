"""Parts of `bevstack judge`: the rows of its table, and the checks that they must pass.

rows.py          the rows, and how each is made
detectors.py     variants of one model: without history, or its perspective head alone
splits.py        the samples of a split, for a configuration
lifting.py       true 2D boxes with noise, lifted to the ground plane
disturbances.py  disturbed images and calibrations, on which a model must score low
turned_world.py  the same scenes seen by cameras that are really turned
figures.py       from results to figures
verdict.py       the checks, with all thresholds and their reasons
judge.py         finished rows, tables
shuffled_labels.py  images with another scene's labels, for training (`shuffled_training.py`)
"""
