"""The multiplier and the block memory as the primitives of families of FPGAs, a family a module."""

from __future__ import annotations

from siligrad_hdl.vendor.technology import (
    ECP5,
    GOWIN,
    ICE40,
    ICE40_ULTRA_PLUS,
    NEXUS,
    Technology,
    is_lean,
    technology_of,
)

__all__ = [
    "ECP5",
    "GOWIN",
    "ICE40",
    "ICE40_ULTRA_PLUS",
    "NEXUS",
    "Technology",
    "is_lean",
    "technology_of",
]
