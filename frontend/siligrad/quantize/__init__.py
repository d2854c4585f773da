"""Quantization: from floating point to the integers that the hardware computes with."""

from __future__ import annotations

from siligrad.quantize.calibration import METHODS
from siligrad.quantize.fake import fake_quantize
from siligrad.quantize.integer import IntegerEpoch, IntegerRun, classify, train

__all__ = ["METHODS", "IntegerEpoch", "IntegerRun", "classify", "fake_quantize", "train"]
