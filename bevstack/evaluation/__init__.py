"""From detections to scores: nuScenes submissions, the official metric, and baselines."""
