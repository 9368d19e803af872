"""Running of trained models on camera rigs and data sets, and drawing of the results."""
