"""The inference node without ROS: messages in, boxes, tracks, cues and diagnostics out."""
