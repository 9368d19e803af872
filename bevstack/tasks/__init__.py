"""Tasks: what a model learns, and the wiring from data to score of each."""
