"""Samples of traffic lights and signs: the front cameras' own view, its labels and batches."""
