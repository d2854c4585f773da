"""Chains of registers."""

from __future__ import annotations

from amaranth.hdl import Module, Shape, ShapeCastable, Signal, Value

__all__ = ["delayed"]


def delayed(m: Module, value: Value, cycles: int, *, name: str, reset: bool = False) -> Value:
    """Return `value` as it was `cycles` cycles ago, through registers ``name_1``, ...

    The registers start at zero. With `reset` they also return to it when the clock domain is
    reset, which control needs and data does not.
    """
    shape: Shape | ShapeCastable = value.shape()
    for cycle in range(1, cycles + 1):
        register = Signal(shape, name=f"{name}_{cycle}", reset_less=not reset)
        m.d.sync += register.eq(value)
        value = register
    return value
