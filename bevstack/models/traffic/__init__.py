"""The traffic head: lights and signs in the front cameras, their state, place and relevance."""
