"""Turns a handful of seed tasks into a large, diverse, explained instruction dataset; see `selfinstruct --help`."""
