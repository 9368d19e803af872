"""The node with ROS: messages to its inputs, results to messages, and transports."""
