"""Roads, ground and the cycle of traffic lights."""
