"""A run: what it is told, its folder, its state, and the engine that drives it."""
