"""Results files in nuScenes' format: reading, checking, writing."""
