"""The same metric by nuscenes-devkit, as an independent check."""
