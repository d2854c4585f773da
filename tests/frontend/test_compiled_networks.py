"""Networks of every kind, compiled for every kind of array: the programs are those committed.

Whether they are right is asked elsewhere, of the reference and of the hardware; here nothing may
change by accident, neither a program nor which networks are too large.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import astuple
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest

from siligrad.compiler import CapacityError
from siligrad.isa import Memory, Rounding
from siligrad.program import Program
from siligrad_sim.campaign.case import Loss, NetworkCase, Output
from siligrad_sim.campaign.drawing import campaign_geometry
from siligrad_sim.campaign.networks import compiled

CASES = 72

_Item = TypeVar("_Item")


def draw(number: int) -> NetworkCase:
    """Draw a case; the numbers are numpy's, which stay the same."""
    rng = np.random.default_rng(number)

    def one_of(items: Sequence[_Item]) -> _Item:
        return items[int(rng.integers(len(items)))]

    array = int(rng.integers(2, 9))
    depth = int(rng.integers(1, 5))
    widths = [int(rng.integers(1, 2 * array + 2)) for _ in range(depth + 1)]
    same = depth > 1 and bool(rng.integers(2))
    if same:
        widths[1:-1] = [widths[1]] * (depth - 1)
    loss: Loss = one_of(("none", "hinge", "squares", "hinge", "squares"))
    outputs: dict[Loss, Sequence[Output]] = {
        "none": ("none", "activations"),
        "hinge": ("none", "predictions", "activations", "input gradient", "margins"),
        "squares": ("none", "predictions", "activations", "input gradient", "errors"),
    }
    modules = depth > 1 and bool(rng.integers(2))
    return NetworkCase(
        geometry=campaign_geometry(array, one_of((8, 16))),
        rounding=one_of(tuple(Rounding)),
        update_rounding=one_of(tuple(Rounding)),
        widths=tuple(widths),
        batch=int(rng.integers(1, 2 * array + 2)),
        biases=tuple(bool(rng.integers(2)) for _ in range(depth)),
        shared=same and bool(rng.integers(2)),
        residual=one_of(("none", "before", "after")) if same else "none",
        times=one_of((1, 1, 2, 3)) if depth > 1 else 1,
        modules=modules,
        frozen=modules and bool(rng.integers(2)),
        loss=loss,
        rate=int(rng.integers(8)),
        output=one_of(outputs[loss]),
        formats=one_of(("max", "percentile", "mse", "declared")),
        headroom=int(rng.integers(3)),
        steps=one_of((1, 1, 2, 4)),
        runs=1,
        inputs="example",
        parameters="example",
        leftover="zeros",
        seed=number,
    )


def line(number: int, program: Program | None) -> str:
    """Return what is committed of a case."""
    case = draw(number)
    biases = "".join("b" if each else "-" for each in case.biases)
    said = f"{number:2} N={case.geometry.array} {case.widths} {biases} {case.loss} {case.formats}"
    if program is None:
        return f"{said}: too large"
    tensors: list[Any] = [
        (each.name, each.memory, each.base, each.rows, each.columns, str(each.format), each.limit)
        for each in program.tensors
    ]
    everything = (
        [astuple(each) for each in program.instructions],
        tensors,
        astuple(program.loop),
        program.macs,
        program.sources,
        sorted((index, codes.tolist()) for index, codes in program.initial.items()),
    )
    digest = hashlib.sha256(repr(everything).encode()).hexdigest()[:16]
    counts = f"{len(program.instructions)} instructions, {program.cycles} cycles"
    return f"{said}: {counts}, {len(program.tensors)} tensors, {digest}"


def test_networks_of_every_kind_compile_to_the_committed_programs(
    request: pytest.FixtureRequest,
) -> None:
    lines, seen = [], Counter[str]()
    for number in range(CASES):
        try:
            program = compiled(draw(number))[0]
        except CapacityError:
            lines.append(line(number, None))
            seen["too large"] += 1
            continue
        lines.append(line(number, program))
        seen["compiled"] += 1
        for memory in Memory:
            seen[memory.name] += any(each.memory is memory for each in program.tensors)
    assert seen["compiled"] > CASES / 2
    assert min(seen[memory.name] for memory in Memory) > CASES / 4
    golden = Path(__file__).parent / "golden" / "networks.txt"
    text = "\n".join(lines) + "\n"
    if request.config.getoption("--update-golden"):
        golden.write_text(text, encoding="utf-8")
    assert text.splitlines() == golden.read_text(encoding="utf-8").splitlines()
