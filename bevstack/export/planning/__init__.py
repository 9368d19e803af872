"""Objects, paths and cues in the formats that planners read, one file a format."""
