"""Where other projects' names and formats are translated into this one's."""
