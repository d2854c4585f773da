from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from siligrad.lfsr import TAPS, draw, seed_lanes, step

states = st.integers(1, 2**32 - 1)


@given(lanes=st.lists(states, min_size=1, max_size=5), count=st.integers(0, 700))
def test_a_draw_is_sixteen_steps(lanes: list[int], count: int) -> None:
    draws, after = draw(lanes, count)
    assert draws.shape == (count, len(lanes))
    for lane, start in enumerate(lanes):
        state = start
        for index in range(count):
            for _ in range(16):
                state = step(state)
            assert draws[index, lane] == state % 2**16
        assert after[lane] == state


@given(state=states, first=st.integers(0, 100), second=st.integers(0, 100))
def test_draws_can_be_resumed(state: int, first: int, second: int) -> None:
    whole, end = draw([state], first + second)
    head, middle = draw([state], first)
    tail, end_again = draw(middle, second)
    assert whole[:, 0].tolist() == head[:, 0].tolist() + tail[:, 0].tolist()
    assert end == end_again


def test_the_polynomial_is_primitive() -> None:
    # Polynomials over GF(2) as integers; x has order 2**32 - 1 modulo the polynomial if and only if
    # x**(2**32 - 1) = 1 and x**((2**32 - 1) / q) != 1 for each prime q of 2**32 - 1.
    polynomial = 1 << 32
    for tap in TAPS:
        polynomial |= 1 << (32 - tap)
    assert polynomial == 1 << 32 | 1 << 22 | 1 << 2 | 1 << 1 | 1

    def times(a: int, b: int) -> int:
        product = 0
        while b:
            if b & 1:
                product ^= a
            a <<= 1
            if a >> 32:
                a ^= polynomial
            b >>= 1
        return product

    def power(exponent: int) -> int:
        result, base = 1, 2
        while exponent:
            if exponent & 1:
                result = times(result, base)
            base = times(base, base)
            exponent >>= 1
        return result

    order = 2**32 - 1
    primes = (3, 5, 17, 257, 65537)
    assert order == 3 * 5 * 17 * 257 * 65537
    assert power(order) == 1
    assert all(power(order // prime) != 1 for prime in primes)


def test_seeds_are_those_of_splitmix64() -> None:
    # The first outputs for seed 1234567, as published with the reference implementation's test
    # vectors.
    published = (
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    )
    assert seed_lanes(1234567, 5) == tuple(output % 2**32 for output in published)


def test_seeds_differ_between_lanes_and_are_never_zero() -> None:
    for seed in range(200):
        lanes = seed_lanes(seed, 16)
        assert len(set(lanes)) == 16
        assert 0 not in lanes
