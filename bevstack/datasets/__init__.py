"""From files to model input: nuScenes-format roots, clips, preprocessing, augmentation, loading."""
