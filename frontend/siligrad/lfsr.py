"""The shift registers that stochastic rounding draws from: one for each lane of the array.

The polynomial, the draw order and the seeds are specified in ``docs/spec/numerics.md``, section *Draws*.

>>> states = seed_lanes(2026, lanes=4)
>>> draws, states = draw(states, 3)
>>> draws.shape  # (draws, lanes)
(3, 4)
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from siligrad.isa import DRAW_BITS

__all__ = ["STATE_BITS", "TAPS", "draw", "seed_lanes", "step"]

STATE_BITS = 32
"""Bits of state in a lane."""

TAPS = (32, 31, 30, 10)
"""Bit n is the sum of the bits this many before it: x**32 + x**22 + x**2 + x + 1.

P. Alfke, Efficient Shift Registers, LFSR Counters, and Long Pseudo-Random Sequence Generators (Xilinx
XAPP 052), table 3, lists the polynomial as primitive; a test proves it.
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

    Source: G. L. Steele, D. Lea, C. H. Flood, Fast splittable pseudorandom number generators, OOPSLA 2014.
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


def draw(states: Sequence[int], count: int) -> tuple[NDArray[np.int64], tuple[int, ...]]:
    """Draw `count` words in every lane.

    Returns the draws, shape ``(count, lanes)``, and the states after them. The words obey the recurrence of
    the bits (four squarings of the polynomial over GF(2) turn bits into words of sixteen), and each further
    squaring doubles the distance of the taps: so a long run is produced in a logarithmic number of steps.
    """
    lanes = len(states)
    history = STATE_BITS  # words that the recurrence looks back
    words = np.zeros((history + max(count, 2), lanes), dtype=np.int64)
    # Running the recurrence backwards from the state gives the words that came before it.
    words[:history] = _past_words(states, history)
    at, end = history, history + count
    stride = 1
    while at < end:
        while at >= 2 * stride * TAPS[0] and stride < 1 << 20:
            stride *= 2
        size = min(stride * min(TAPS), end - at)
        block = np.zeros((size, lanes), dtype=np.int64)
        for tap in TAPS:
            block ^= words[at - stride * tap : at - stride * tap + size]
        words[at : at + size] = block
        at += size
    after = [int(words[end - 1, lane] | words[end - 2, lane] << DRAW_BITS) for lane in range(lanes)]
    return words[history:end], tuple(after)


def _past_words(states: Sequence[int], count: int) -> NDArray[np.int64]:
    """Return the last `count` words of sixteen bits that each state has drawn, the newest last."""
    low = (1 << DRAW_BITS) - 1
    result = np.zeros((count, len(states)), dtype=np.int64)
    for lane, state in enumerate(states):
        bits = state  # bit i is the bit drawn i steps ago
        have = STATE_BITS
        while have < count * DRAW_BITS:
            # bit(n - 32) = bit(n) ^ bit(n - 31) ^ bit(n - 30) ^ bit(n - 10), n the newest bit that allows it
            n = have - STATE_BITS
            old = bits >> n ^ bits >> (n + 31) ^ bits >> (n + 30) ^ bits >> (n + 10)
            bits |= (old & 1) << have
            have += 1
        for index in range(count):
            result[count - 1 - index, lane] = bits >> (index * DRAW_BITS) & low
    return result
