"""Random cases as a hypothesis strategy, which draws them and shrinks those that fail.

Whatever a case holds is drawn from booleans. Hypothesis would now and then choose a number that
occurs in some module that happens to be loaded; then a case would not follow from the seed alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

from hypothesis import strategies as st

from siligrad.isa import Geometry, Rounding
from siligrad_sim.campaign.case import (
    BareCase,
    Case,
    Contents,
    Formats,
    Loss,
    NetworkCase,
    Output,
    Residual,
)

__all__ = ["campaign_geometry", "cases"]

_Item = TypeVar("_Item")

TILES = {"x": 56, "w": 72, "e": 56}
"""Tiles that each memory of a campaign's accelerators has room for."""

PROGRAM_LINES = 128

LAYERS = 5
"""Most layers of a network."""


def campaign_geometry(array: int, operand_bits: int = 16) -> Geometry:
    """Return the accelerator that cases of this array run on: one, so that it is built once.

    Arrays of odd size have as few bits in an accumulator as such cases need.
    """
    sum_bits = {(16, 0): 40, (16, 1): 38, (8, 0): 32, (8, 1): 28}[operand_bits, array % 2]
    return Geometry(
        array=array,
        operand_bits=operand_bits,
        sum_bits=sum_bits,
        program_depth=PROGRAM_LINES,
        **{f"{name}_depth": tiles * array for name, tiles in TILES.items()},
    )


def cases(geometries: Sequence[Geometry], *, first_seed: int = 0) -> st.SearchStrategy[Case]:
    """Return the strategy of cases for any of `geometries`.

    They shrink towards the first of these, few and narrow layers, one step, one run, zeros.

    Parameters
    ----------
    geometries
        Accelerators to choose from.
    first_seed
        Seeds of cases count from here.
    """

    @st.composite
    def draw_case(draw: Any) -> Case:
        geometry = _one_of(draw, geometries)
        if _chance(draw, 2):
            return _bare(draw, geometry, first_seed)
        return _network(draw, geometry, first_seed)

    return draw_case()


def _bare(draw: Any, geometry: Geometry, first_seed: int) -> BareCase:
    count = 1 + _number(draw, 11)
    # Seven of eight, when drawn; they shrink to none, and one must stay.
    kept = [any(draw(_BOOLEAN) for _ in range(3)) for _ in range(count)]
    if not any(kept):
        kept[-1] = True
    contents: Sequence[Contents] = ("zeros", "random", "coarse", "largest", "coarse")
    return BareCase(
        geometry=geometry,
        instructions=count,
        kept=tuple(kept),
        steps=1 + _number(draw, 3) * _chance(draw, 1),
        runs=1 + _number(draw, 2),
        contents=_one_of(draw, contents),
        seed=first_seed + _number(draw, (1 << 16) - 1),
    )


def _network(draw: Any, geometry: Geometry, first_seed: int) -> NetworkCase:
    n = geometry.array
    widths = [_width(draw, n), _width(draw, n)]
    biases = [bool(draw(_BOOLEAN))]
    # A layer with all that is drawn for it can be left out, so failures lose their layers.
    while len(widths) < LAYERS + 1 and any(draw(_BOOLEAN) for _ in range(2)):
        widths.append(_width(draw, n))
        biases.append(bool(draw(_BOOLEAN)))
    depth = len(biases)
    same = depth > 1 and bool(_chance(draw, 1))  # what is shared, or added, is equally wide
    if same:
        widths[1:-1] = [widths[1]] * (depth - 1)
    loss: Loss = _one_of(draw, ("none", "hinge", "squares", "hinge", "squares"))
    outputs: dict[Loss, Sequence[Output]] = {
        "none": ("none", "activations"),
        "hinge": ("none", "predictions", "activations", "input gradient", "margins", "none"),
        "squares": ("none", "predictions", "activations", "input gradient", "errors", "none"),
    }
    residuals: Sequence[Residual] = ("none", "before", "after")
    modules = depth > 1 and bool(_chance(draw, 2))
    contents: Sequence[Contents] = ("zeros", "example", "coarse", "random", "largest", "example")
    formats: Sequence[Formats] = ("max", "percentile", "mse", "declared")
    return NetworkCase(
        geometry=geometry,
        rounding=_one_of(draw, tuple(Rounding)),
        update_rounding=_one_of(draw, tuple(Rounding)),
        widths=tuple(widths),
        batch=_width(draw, n),
        biases=tuple(biases),
        shared=same and bool(_chance(draw, 1)),
        residual=_one_of(draw, residuals) if same else "none",
        times=1 + _number(draw, 3) * (depth > 1 and _chance(draw, 2)),
        modules=modules,
        frozen=modules and bool(_chance(draw, 1)),
        loss=loss,
        rate=_number(draw, 7),
        output=_one_of(draw, outputs[loss]),
        formats=_one_of(draw, formats),
        headroom=_number(draw, 2),
        steps=1 + _number(draw, 3) * _chance(draw, 2),
        runs=1 + _number(draw, 2),
        inputs=_one_of(draw, contents),
        parameters=_one_of(draw, contents),
        leftover=_one_of(draw, ("zeros", "random", "largest")),
        seed=first_seed + _number(draw, (1 << 16) - 1),
    )


def _width(draw: Any, array: int) -> int:
    """Draw a size: up to a tile, or a multiple of it, or one that is none."""
    if _chance(draw, 1):
        return array * (1 + _number(draw, 1))
    return 1 + _number(draw, 2 * array)


def _number(draw: Any, most: int) -> int:
    """Draw a whole number from 0 to `most`; it shrinks towards 0."""
    value = 0
    for _ in range(most.bit_length() + 2 * (most & (most + 1) > 0)):  # else some would be rare
        value = 2 * value + draw(_BOOLEAN)
    return value % (most + 1)


def _chance(draw: Any, halvings: int) -> int:
    """Draw 1 with a probability of ``2**-halvings``, else 0."""
    return int(all(draw(_BOOLEAN) for _ in range(halvings)))


def _one_of(draw: Any, items: Sequence[_Item]) -> _Item:
    """Draw one of `items`; it shrinks towards the first."""
    return items[_number(draw, len(items) - 1)]


_BOOLEAN = st.booleans()
