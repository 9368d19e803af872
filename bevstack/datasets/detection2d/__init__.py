"""Single pictures with labelled objects: COCO files, preparation, augmentation, batches."""
