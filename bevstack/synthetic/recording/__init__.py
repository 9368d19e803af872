"""Recording of a scene: images, lidar sweeps, labels and tables."""
