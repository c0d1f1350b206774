"""The model line: load, towers, tuning, forward, generate, and the tiny model."""
