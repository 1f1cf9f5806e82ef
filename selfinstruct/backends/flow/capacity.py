"""How many requests a kind of backend takes at once, where the configuration leaves it open."""

from __future__ import annotations

from selfinstruct.inputs.config import BackendConfig

SLOTS = {"llamacpp": 4, "scripted": 8}
"""Requests in flight, from the first to the last, with a backend that answers so many at once and no more."""
SEQUENCES = 256
"""Requests that a vLLM server which we start has at once, when nothing is said (its own default)."""
ORDERED = 64
"""Requests in flight that the window of an ordered run is meant for, where nothing is said."""
BATCH = 20_000
"""Requests in flight at most with `batch`, where nothing is said: each job that waits takes some 25 kB of memory."""
MOST = 1024
"""Requests in flight at most, where their number finds itself and nothing is said."""


def widest(config: BackendConfig) -> tuple[int, bool]:
    """How many requests may be in flight, and whether so many are from the first to the last."""
    most = BATCH if config.batch else SLOTS.get(config.kind, MOST)
    return config.concurrency or most, config.batch or config.kind in SLOTS
