"""The perspective head, decoding of its output, and proposals for the decoder."""
