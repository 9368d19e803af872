"""Preparation of pictures for models that label pixels."""
