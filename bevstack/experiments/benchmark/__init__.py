"""Speed and memory of this machine: operators, backbones, whole detectors and exported files."""
