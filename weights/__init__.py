"""Weights that come with bevstack, in half precision; `bevstack.load` takes their names."""
