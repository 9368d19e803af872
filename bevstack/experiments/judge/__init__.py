"""The parts of `bevstack judge`: rows of a table, what makes each, and what they must show.

rows.py          the rows and what each is
detectors.py     one model used in other ways: without history, its perspective head alone
splits.py        the samples of a split as a configuration wants them
lifting.py       true rectangles with noise, stood on the ground
disturbances.py  images and calibrations that a model must not do well on
turned_world.py  the same scenes seen by cameras that are really turned
figures.py       results to figures
verdict.py       what the rows must show, with all thresholds and their reasons
judge.py         finished rows, tables
shuffled_labels.py  images with another scene's labels, for training (`shuffled_training.py`)
"""
