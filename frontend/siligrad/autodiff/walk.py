"""The two walks over a tape: cotangents backward, tangents forward.

A walk applies the rules to the *values* of the tape's tracers. Those are arrays, or tracers of an
enclosing transformation, which then records the walk.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from siligrad.autodiff.arrangement import broadcast_to
from siligrad.autodiff.elementwise import astype
from siligrad.autodiff.reduction import unbroadcast
from siligrad.autodiff.source import derived_from
from siligrad.autodiff.tracer import Array, Tape, Tracer
from siligrad.errors import ShapeError

__all__ = ["pull_back", "push_forward"]


def pull_back(
    tape: Tape,
    records: Sequence[Tracer],
    seeds: Iterable[tuple[Any, Array | None]],
    inputs: Sequence[Tracer],
) -> list[Array | None]:
    """Carry cotangents of results back to the inputs of a tape (reverse mode).

    ``seeds`` are pairs of a result and its cotangent, None for zero; results that are not on the
    tape are constants and are left out. An input that no seed depends on gets None. The cost is at
    most a small multiple of the cost of the recorded function, whatever the number of inputs.
    """
    cotangents: list[Array | None] = [None] * len(records)
    last = -1
    for result, g in seeds:
        if g is not None and type(result) is Tracer and result.tape is tape:
            held = cotangents[result.index]
            cotangents[result.index] = g if held is None else held + g
            last = max(last, result.index)
    for record in reversed(records[: last + 1]):
        g = cotangents[record.index]
        if g is None or not record.inputs or record.primitive.vjp is None:
            continue
        cotangents[record.index] = None  # nobody needs it again
        if record.source is None:
            _pull_back_one(tape, record, g, cotangents)
        else:
            with derived_from(record.source):
                _pull_back_one(tape, record, g, cotangents)
    return [cotangents[tracer.index] for tracer in inputs]


def _pull_back_one(tape: Tape, record: Tracer, g: Array, cotangents: list[Array | None]) -> None:
    primitive = record.primitive
    assert primitive.vjp is not None
    operands = _values(tape, record)
    for operand, rule in zip(record.inputs, primitive.vjp, strict=False):
        if type(operand) is not Tracer or operand.tape is not tape or rule is None:
            continue
        if operand.primitive.vjp is None:
            continue  # a mask or an index: it has no derivative to pass on
        cotangent = rule(g, record.value, *operands, **record.params)
        if cotangent is None:
            continue
        target = operand.value
        if cotangent.shape != target.shape:
            if not primitive.elementwise:
                raise ShapeError(
                    f"the vjp rule of {primitive.name} returned a cotangent of shape "
                    f"{cotangent.shape} for an operand of shape {target.shape}"
                )
            cotangent = unbroadcast(cotangent, target.shape)
        if cotangent.dtype != target.dtype:
            if target.dtype.kind != "f":
                continue
            cotangent = astype(cotangent, dtype=str(target.dtype))
        held = cotangents[operand.index]
        cotangents[operand.index] = cotangent if held is None else held + cotangent


def push_forward(
    tape: Tape,
    records: Sequence[Tracer],
    seeds: Iterable[tuple[Tracer, Array | None]],
    results: Sequence[Any],
) -> list[Array | None]:
    """Carry tangents of inputs forward to ``results`` (forward mode).

    A result that does not depend on the seeds gets None.
    """
    tangents: list[Array | None] = [None] * len(records)
    for tracer, t in seeds:
        tangents[tracer.index] = t
    for record in records:
        if not record.inputs or record.primitive.vjp is None:
            continue
        if record.source is None:
            tangents[record.index] = _push_forward_one(tape, record, tangents)
        else:
            with derived_from(record.source):
                tangents[record.index] = _push_forward_one(tape, record, tangents)
    return [
        tangents[result.index] if type(result) is Tracer and result.tape is tape else None
        for result in results
    ]


def _push_forward_one(tape: Tape, record: Tracer, tangents: list[Array | None]) -> Array | None:
    primitive = record.primitive
    operands = _values(tape, record)
    total: Array | None = None
    rules = primitive.jvp or primitive.vjp
    assert rules is not None
    for operand, rule in zip(record.inputs, rules, strict=False):
        if type(operand) is not Tracer or operand.tape is not tape or rule is None:
            continue
        t = tangents[operand.index]
        if t is None:
            continue
        if primitive.jvp is None:
            tangent = _transposed(rule, t, record, operands, primitive.elementwise)
        else:
            tangent = rule(t, record.value, *operands, **record.params)
        if tangent is None:
            continue
        if tangent.shape != record.shape:
            tangent = broadcast_to(tangent, shape=record.shape)
        if tangent.dtype != record.dtype:
            tangent = astype(tangent, dtype=str(record.dtype))
        total = tangent if total is None else total + tangent
    return total


def _transposed(
    rule: Any, t: Array, record: Tracer, operands: list[Array], elementwise: bool
) -> Array | None:
    """Apply the jvp that a vjp rule implies.

    The rule ``g -> J.T g`` is linear in ``g``, so its own vjp at any ``g`` is ``t -> J t``.
    """
    tape = Tape()
    g = tape.lift(np.zeros(record.shape, record.dtype))
    try:
        cotangent = rule(g, record.value, *operands, **record.params)
        if cotangent is not None and elementwise and cotangent.shape != t.shape:
            cotangent = unbroadcast(cotangent, t.shape)
    finally:
        records = tape.close()
    return pull_back(tape, records, [(cotangent, t)], [g])[0]


def _values(tape: Tape, record: Tracer) -> list[Array]:
    return [
        operand.value if type(operand) is Tracer and operand.tape is tape else operand
        for operand in record.inputs
    ]
