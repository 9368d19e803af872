"""Planning: what traffic lights and signs mean for the vehicle."""
