"""Where an address leads."""

from __future__ import annotations
