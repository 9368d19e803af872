"""The perspective head, its decoding, and the proposals made of it."""
