"""The RoboBEV benchmark of corrupted images, made while a detector is scored."""
