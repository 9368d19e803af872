"""The BEV encoder, the decoder and the box code."""
