"""The tracking metric of nuScenes (AMOTA), and files of tracks in nuScenes' format."""
