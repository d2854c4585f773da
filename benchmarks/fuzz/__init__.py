"""Fuzzing of what reads bytes that others wrote: ``python -m benchmarks.fuzz``."""

from __future__ import annotations

__all__: list[str] = []
