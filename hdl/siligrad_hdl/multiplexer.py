"""Choosing one of several values by a binary number."""

from __future__ import annotations

from collections.abc import Sequence

from amaranth.hdl import Mux, Value

__all__ = ["multiplexer"]


def multiplexer(index: Value, choices: Sequence[Value]) -> Value:
    """Return ``choices[index]`` through a tree of two-way multiplexers, a level for each bit.

    An index beyond the last choice returns any of them. A tree is what lookup tables with
    multiplexers behind them are made for; of a switch statement, synthesis makes a decoder and
    wide gates.
    """
    level = list(choices)
    for bit in index:
        if len(level) == 1:
            break
        pairs = [Mux(bit, odd, even) for even, odd in zip(level[::2], level[1::2], strict=False)]
        level = pairs + level[len(level) & ~1 :]
    assert len(level) == 1, f"{len(choices)} choices need a wider index than {len(index)} bits"
    return level[0]
