"""The 13-table format of nuScenes: names, reader, writer and splits."""
