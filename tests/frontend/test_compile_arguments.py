"""What ``sg.compile`` is told besides the function: positions, examples, ranges, formats."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy
import pytest

import siligrad as sg
import siligrad.numpy as np
from siligrad.fixed import QFormat
from siligrad.program import Program, Role

X = numpy.full((4, 5), 0.9)
W = numpy.full((5, 3), 0.25)
B = numpy.zeros(3)
NARROW = sg.Target(operand_bits=8, sum_bits=32)


def fractions(program: Program) -> dict[str, int]:
    """Return fraction bits by name, of what is computed by its first word."""
    return {each.name.split()[0]: each.format.frac for each in program.tensors}


def affine(x: Any, w: Any, b: Any) -> Any:
    return x @ w + b


@pytest.mark.parametrize("headroom", [0, 1, 3])
def test_headroom_is_for_all_but_the_inputs_of_a_run(headroom: int) -> None:
    program = sg.compile(affine, X, W, B + 0.125, resident=(1, 2), headroom=headroom)
    # 0.25 and 0.125 are powers of two, and 1.25 is 5 * 0.225 + 0.125.
    assert fractions(program) == {
        "x": 15,
        "w": 16 - headroom,
        "b": 17 - headroom,
        "sum": 14 - headroom,
    }


def test_a_constant_of_the_program_needs_no_headroom() -> None:
    table = numpy.array([[0.9], [0.5], [0.1]])
    for headroom in (0, 2):
        program = sg.compile(lambda x, w: x @ w @ table, X, W, resident=1, headroom=headroom)
        (tensor,) = (each for each in program.tensors if each.role == Role.CONSTANT)
        assert tensor.format.frac == 15


def test_every_example_counts() -> None:
    program = sg.compile(
        affine, X, W, B, resident=(1, 2), calibration=[(2 * X, W, B), (X, W, B)], headroom=0
    )
    assert fractions(program)["x"] == 14  # 1.8
    assert fractions(program)["sum"] == 13  # 2.25


@pytest.mark.parametrize("bad", [numpy.nan, numpy.inf, -numpy.inf])
def test_an_example_that_is_not_finite_is_refused(bad: float) -> None:
    message = "x is not finite in a calibration example; formats cannot be chosen"
    broken = X.copy()
    broken[2, 1] = bad
    with pytest.raises(sg.LoweringError, match=message):
        sg.compile(affine, X, W, B, calibration=[(X, W, B), (broken, W, B)])


@pytest.mark.parametrize("example", [(X,), (X, W), (X, W, B, B), ()])
def test_an_example_has_all_the_arguments(example: tuple[Any, ...]) -> None:
    message = f"a calibration example has {len(example)} arguments, but the function is compiled f"
    with pytest.raises(sg.LoweringError, match=message):
        sg.compile(affine, X, W, B, resident=(1, 2), calibration=[(X, W, B), example])


@pytest.mark.parametrize(
    ("formats", "frac"),
    [({"x": 12}, 12), ({"x": 20}, 15), ({"y": 3}, 15), ({}, 15)],
)
def test_formats_that_are_handed_in_are_the_finest(formats: dict[str, int], frac: int) -> None:
    given = {name: QFormat(16, bits) for name, bits in formats.items()}
    assert fractions(sg.compile(affine, X, W, B, formats=given))["x"] == frac
    assert fractions(sg.compile(affine, X, W, B))["x"] == 15


def descent(w: Any, b: Any, x: Any, t: Any) -> Any:
    error = x @ w + b - t
    return w - 0.125 * (x.T @ error), b - 0.125 * np.sum(error, axis=0)


@pytest.mark.parametrize(
    ("start", "target", "covered"),
    [
        (0.0, sg.Target(), 1.0),  # nobody knows where it goes
        (2.0**-5, sg.Target(), 1.0),
        (0.75, sg.Target(), 1.5),
        (3.0, sg.Target(), 6.0),
        (0.0, NARROW, 1.0),
        (2.0**-6 * 0.99, NARROW, 1.0),
        (2.0**-6, NARROW, 2.0**-5),  # with few bits, where it starts says enough
        (-(2.0**-6), NARROW, 2.0**-5),
        (0.25, NARROW, 0.5),
    ],
)
def test_what_an_update_changes_has_room_to_grow(
    start: float, target: sg.Target, covered: float
) -> None:
    w = numpy.full((5, 3), start)
    program = sg.compile(
        lambda w, x, t: w - 2.0**-9 * (x.T @ (x @ w - t)), w, X, X[:, :3], donate=0, target=target
    )
    assert fractions(program)["w"] == QFormat.covering(16, covered).frac


# Positions.


@pytest.mark.parametrize(
    ("options", "index"),
    [({"donate": 3}, 3), ({"donate": -1}, -1), ({"resident": (0, 7)}, 7), ({"resident": 3}, 3)],
)
def test_positions_are_those_of_arguments(options: dict[str, Any], index: int) -> None:
    message = f"donate and resident are positions of arguments, 0 to 2, not {index}"
    with pytest.raises(sg.LoweringError, match=message):
        sg.compile(affine, X, W, B, **options)


@pytest.mark.parametrize("resident", [1, 2, (1, 2), (0, 1, 2), ()])
def test_what_stays_is_written_once(resident: int | tuple[int, ...]) -> None:
    program = sg.compile(affine, X, W, B, resident=resident)
    staying = {resident} if isinstance(resident, int) else set(resident)
    for index, argument in enumerate(program.arguments):
        (tensor,) = argument.tensors
        stays = index in staying
        assert argument.resident == stays
        assert (tensor in program.initial) == stays
        assert program.tensors[tensor].role == (Role.RESIDENT if stays else Role.INPUT)


def test_what_is_donated_stays_and_its_result_takes_its_place() -> None:
    program = sg.compile(descent, W, B, X, X[:, :3], donate=(0, 1))
    assert [each.resident for each in program.arguments] == [True, True, False, False]
    held = [index for each in program.arguments[:2] for index in each.tensors]
    assert list(program.result.tensors) == held


def test_of_results_alike_each_is_given_once() -> None:
    def swap(a: Any, b: Any, x: Any, y: Any) -> Any:
        return a + x.T @ y, b - x.T @ y

    program = sg.compile(swap, W, 2 * W, X, X[:, :3], donate=(0, 1))
    first, second = (each.tensors[0] for each in program.arguments[:2])
    assert program.result.tensors == (first, second)
    assert [each.negate for each in program.instructions] == [0, 1]


def test_a_whole_result_may_take_an_arguments_place() -> None:
    def step(params: Any, x: Any, t: Any) -> Any:
        return [w + x.T @ t for w in params]

    program = sg.compile(step, [W, 2 * W], X, X[:, :3], donate=0)
    assert program.result.tensors == program.arguments[0].tensors

    def inside(params: Any, x: Any, t: Any) -> Any:
        return x @ params[0], step(params, x, t)

    program = sg.compile(inside, [W, 2 * W], X, X[:, :3], donate=0)
    assert program.result.tensors[1:] == program.arguments[0].tensors


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda w, x: x @ w, r"argument w is donated, but no result has its structure \* and its"),
        (lambda w, x: (x @ w, [w]), "argument w is donated, but no result has its structure"),
        (lambda w, x: [w + x.T @ x @ w], "argument w is donated, but no result has its structure"),
    ],
)
def test_what_is_donated_without_a_result_is_refused(
    function: Callable[..., Any], message: str
) -> None:
    with pytest.raises(sg.LoweringError, match=message):
        sg.compile(function, W, X, donate=0)


def test_what_computes_nothing_is_refused() -> None:
    def same(w: Any) -> Any:
        return w

    message = "same computes nothing: no product of matrices is left of it"
    with pytest.raises(sg.LoweringError, match=message):
        sg.compile(same, W, donate=0)


def test_a_target_is_eight_by_eight_unless_it_is_given() -> None:
    assert sg.compile(affine, X, W, B).geometry.array == 8
    assert sg.compile(affine, X, W, B, target=sg.Target(array=3)).geometry.array == 3


def test_a_result_that_was_made_on_the_way_is_kept() -> None:
    def both(x: Any, w: Any, v: Any) -> Any:
        hidden = np.maximum(x @ w, 0)
        return hidden @ v, hidden

    program = sg.compile(both, X, W, W.T, resident=(1, 2))
    roles = [program.tensors[index].role for index in program.result.tensors]
    assert roles == [Role.OUTPUT, Role.OUTPUT]
    assert program.macs == (4 * 5 * 3, 4 * 3 * 5)
