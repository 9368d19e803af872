"""The ray caster: primitives, patterns, shading, weather."""
