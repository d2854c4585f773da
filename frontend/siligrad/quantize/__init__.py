"""Quantization: from floating point to the integers that the hardware computes with."""

from __future__ import annotations

from siligrad.quantize.calibration import METHODS
from siligrad.quantize.fake import fake_quantize
from siligrad.quantize.integer import IntegerEpoch, IntegerRun, classify, train
from siligrad.quantize.report import QuantizationReport, TensorQuantization, measure
from siligrad.quantize.training import aware, post_training

__all__ = [
    "METHODS",
    "IntegerEpoch",
    "IntegerRun",
    "QuantizationReport",
    "TensorQuantization",
    "aware",
    "classify",
    "fake_quantize",
    "measure",
    "post_training",
    "train",
]
