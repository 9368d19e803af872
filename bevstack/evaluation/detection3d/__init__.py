"""The nuScenes detection metric on arrays."""
