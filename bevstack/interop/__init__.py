"""Translation of other projects' names and formats into those of bevstack."""
