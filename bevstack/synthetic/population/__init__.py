"""What stands and moves in a scene, and where."""
