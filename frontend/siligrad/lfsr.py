"""The shift registers that stochastic rounding draws from: one for each lane of the array.

The polynomial, the draw order and the seeds are specified in ``docs/spec/numerics.md``, section
*Draws*.

>>> states = seed_lanes(2026, lanes=4)
>>> draws, states = draw(states, 3)
>>> draws.shape  # (draws, lanes)
(3, 4)
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

from siligrad.isa import DRAW_BITS

__all__ = ["STATE_BITS", "TAPS", "draw", "seed_lanes", "step"]

STATE_BITS = 32
"""Bits of state in a lane."""

TAPS = (32, 31, 30, 10)
"""Bit n is the sum of the bits this many before it: x**32 + x**22 + x**2 + x + 1.

P. Alfke, Efficient Shift Registers, LFSR Counters, and Long Pseudo-Random Sequence Generators
(Xilinx XAPP 052), table 3, lists the polynomial as primitive; a test proves it.
"""

_MASK = (1 << STATE_BITS) - 1


def step(state: int) -> int:
    """Return `state` one bit later: the definition, for one lane."""
    new = 0
    for tap in TAPS:
        new ^= state >> (tap - 1) & 1
    return (state << 1 | new) & _MASK


def seed_lanes(seed: int, lanes: int) -> tuple[int, ...]:
    """Return the initial states of `lanes` lanes, from SplitMix64.

    Source: G. L. Steele, D. Lea, C. H. Flood, Fast splittable pseudorandom number generators,
    OOPSLA 2014.
    """
    mask = (1 << 64) - 1
    states = []
    x = seed & mask
    for _ in range(lanes):
        x = (x + 0x9E3779B97F4A7C15) & mask
        z = x
        z = ((z ^ z >> 30) * 0xBF58476D1CE4E5B9) & mask
        z = ((z ^ z >> 27) * 0x94D049BB133111EB) & mask
        z ^= z >> 31
        states.append(z & _MASK or 1)
    return tuple(states)


def draw(states: Sequence[int], count: int) -> tuple[NDArray[np.uint16], tuple[int, ...]]:
    """Draw `count` words in every lane.

    Returns the draws, shape ``(count, lanes)``, and the states after them. The words obey the
    recurrence of the bits (four squarings of the polynomial over GF(2) turn bits into words of
    sixteen), and each further squaring doubles the distance of the taps: so a long run is produced
    in a logarithmic number of steps.
    """
    lanes = len(states)
    history = TAPS[0]  # words that the recurrence looks back
    words = np.zeros((history + max(count, 2), lanes), dtype=np.uint16)
    words[:history] = _past_words(states)
    at, end = history, history + count
    stride = 1
    while at < end:
        while at >= 2 * stride * TAPS[0] and stride < 1 << 20:
            stride *= 2
        size = min(stride * min(TAPS), end - at)
        block = words[at : at + size]
        for tap in TAPS:
            block ^= words[at - stride * tap : at - stride * tap + size]
        at += size
    newest, before = words[end - 1].tolist(), words[end - 2].tolist()
    after = tuple(low | high << DRAW_BITS for low, high in zip(newest, before, strict=True))
    return words[history:end], after


def _past_words(states: Sequence[int]) -> NDArray[np.int64]:
    """Return the 32 words of sixteen bits that led to `states`, oldest first.

    Shape ``(32, lanes)``.
    """
    bits = np.asarray(states, dtype=np.int64)[None, :] >> np.arange(STATE_BITS)[:, None] & 1
    past = _past_of_each_bit()
    return np.asarray(np.bitwise_xor.reduce(past[:, :, None] * bits[:, None, :], axis=0))


@cache
def _past_of_each_bit() -> NDArray[np.int64]:
    """Return the past words of each state of a single bit, shape ``(bits, 32)``.

    Any past is a sum of them.
    """
    low = (1 << DRAW_BITS) - 1
    result = np.zeros((STATE_BITS, STATE_BITS), dtype=np.int64)
    for bit in range(STATE_BITS):
        history = 1 << bit  # bit i was drawn i steps ago
        for age in range(STATE_BITS, STATE_BITS * DRAW_BITS):
            # The recurrence, read backwards: a(n-32) = a(n) ^ a(n-31) ^ a(n-30) ^ a(n-10).
            old = history >> (age - STATE_BITS)
            for tap in TAPS[1:]:
                old ^= history >> (age - STATE_BITS + tap)
            history |= (old & 1) << age
        for index in range(STATE_BITS):
            result[bit, STATE_BITS - 1 - index] = history >> (index * DRAW_BITS) & low
    return result
