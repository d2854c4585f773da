"""A small model of the accelerator, written from docs/spec alone, one element at a time."""

from __future__ import annotations

__all__ = ["Lane", "epilogue"]


class Lane:
    """The shift register of a lane."""

    def __init__(self, state: int) -> None:
        self.state = state

    def draw(self) -> int:
        for _ in range(16):
            s = self.state
            new = (s >> 31 ^ s >> 30 ^ s >> 29 ^ s >> 9) & 1
            self.state = (s * 2 + new) % 2**32
        return self.state % 2**16


def epilogue(
    total: int,
    aux: int,
    lane: Lane,
    *,
    bits: int,
    shift: int,
    rounding: int,
    aux_mode: int,
    gate: int,
    negate: int,
) -> tuple[int, bool]:
    """The result and whether it counts as saturated."""
    v = -total if negate else total
    u = v
    if aux_mode == 1:
        u = v + aux * 2**shift
    if aux_mode == 2:
        u = v - aux * 2**shift
    draw = lane.draw() if rounding == 1 else 0
    if shift == 0:
        addend = 0
    else:
        addend = [
            2 ** (shift - 1) - 1 + ((u >> shift) % 2) if shift else 0,
            draw * 2**shift // 2**16,
            0,
            2 ** (shift - 1) if shift else 0,
        ][rounding]
    r = (u + addend) >> shift
    limit = 2 ** (bits - 1) - 1
    y = min(max(r, -limit), limit)
    if gate == 0:
        result = y
    elif gate == 1:
        result = max(y, 0)
    elif gate == 2:
        result = y if aux > 0 else 0
    else:
        result = min(y, 0) if aux > 0 else max(y, 0)
    return result, r != y and result != 0
