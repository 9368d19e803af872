"""Running a trained model: on a rig's images, on a data set, and into pictures."""
