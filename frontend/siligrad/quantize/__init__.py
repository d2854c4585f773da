"""Quantization: from floating point to the integers that the hardware computes with."""

from __future__ import annotations

from siligrad.quantize.integer import IntegerEpoch, IntegerRun, classify, train

__all__ = ["IntegerEpoch", "IntegerRun", "classify", "train"]
