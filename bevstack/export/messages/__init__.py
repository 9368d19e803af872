"""Definitions of ROS messages for a distribution and a version of Autoware chosen by the user."""
