"""Objects of a scene, their positions and their motion."""
