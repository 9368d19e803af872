"""Pictures with one class each, and their preparation."""
