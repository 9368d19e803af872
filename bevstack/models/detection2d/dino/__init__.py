"""DINO (arXiv 2203.03605): a detector that predicts a set of boxes, without suppression."""
