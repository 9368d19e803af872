"""The same metric computed by nuscenes-devkit, as an independent check."""
