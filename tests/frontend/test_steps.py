"""Programs of several steps: what is refused, what is kept in an image, what a device is handed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy
import pytest

import siligrad as sg
import siligrad.numpy as np
from siligrad.checker import CheckError, check_instructions
from siligrad.device import DeviceError
from siligrad.errors import DataError
from siligrad.image import ImageError
from siligrad.isa import Geometry, Instruction, Loop, Memory, Product, Segment
from siligrad.program import Program
from siligrad_sim.reference import ReferenceDevice

N = 4
GEOMETRY = Geometry(array=N, x_depth=64, w_depth=64, e_depth=64)


def step(W: Any, x: Any, y: Any) -> Any:
    def loss(W: Any) -> Any:
        return np.mean(np.sum((x @ W - y) ** 2, axis=1))

    return W - 2**-4 * sg.grad(loss)(W), x @ W - y


def data(steps: int) -> tuple[Any, Any, Any]:
    rng = numpy.random.default_rng(0)
    shape = (steps, 8) if steps > 1 else (8,)
    return rng.random((6, 3)), rng.random((*shape, 6)), rng.random((*shape, 3))


def compiled(steps: int) -> Program:
    return sg.compile(step, *data(1), donate=0, steps=steps, target=sg.Target(array=N))


def product(**changes: Any) -> Instruction:
    """One tile of X, which moves, times one of W, to one of E, which moves too."""
    instruction = Instruction(
        m_tiles=1,
        p_tiles=1,
        product=Product.XW,
        destination=Memory.E,
        rows_last=N,
        d_base=8,
        d_m=0,
        d_p=0,
        d_moves=1,
        segments=(Segment(k=N, a_base=4, a_moves=1),),
    )
    return replace(instruction, **changes)


def test_windows_that_hold_what_moves_are_accepted() -> None:
    check_instructions([product()], GEOMETRY, Loop(14, x_stride=4, e_stride=4))
    # Without further steps nothing moves, and no stride is needed.
    check_instructions([product()], GEOMETRY, Loop(1))


@pytest.mark.parametrize(
    ("loop", "message"),
    [
        (Loop(2, e_stride=4), r"take words 4 to 7 of X, but go on by 0 words a step"),
        (Loop(2, x_stride=6, e_stride=4), r"of X, but go on by 6 .* in whole tiles of 4 words"),
        (Loop(2, x_stride=4), r"take words 8 to 11 of E, but go on by 0 words a step"),
        (Loop(16, x_stride=4, e_stride=4), r"in step 15 operands that move reach word 67 of X"),
        (Loop(15, x_stride=4, e_stride=4), r"in step 14 operands that move reach word 67 of E"),
    ],
)
def test_a_window_that_is_too_small_or_too_far_is_refused(loop: Loop, message: str) -> None:
    with pytest.raises(CheckError, match=message):
        check_instructions([product()], GEOMETRY, loop)


def test_what_moves_and_what_does_not_may_not_share_a_window() -> None:
    # The second instruction writes a tile of E that the first one reaches in step 2.
    late = product(d_base=16, d_moves=0, delay=100)
    loop = Loop(2, x_stride=4, e_stride=4)
    check_instructions([product(), late], GEOMETRY, loop)
    with pytest.raises(CheckError, match="word 16 of E is used as one that does not move, between"):
        check_instructions([product(), late], GEOMETRY, replace(loop, steps=3))


def test_a_hazard_between_two_steps_is_seen() -> None:
    # It reads from X what it wrote there in the step before: too early without a delay.
    first = product(d_base=8, d_moves=0)
    again = product(
        product=Product.EW,
        destination=Memory.X,
        d_base=4,
        d_moves=0,
        segments=(Segment(k=N, a_base=8),),
        delay=60,
    )
    pair = [replace(first, segments=(Segment(k=N, a_base=4),)), again]
    check_instructions(pair, GEOMETRY, Loop(1))
    with pytest.raises(
        CheckError, match=r"instruction 0, in the next step: starts in cycle .*operand"
    ):
        check_instructions(pair, GEOMETRY, Loop(2))
    check_instructions([replace(pair[0], delay=60), again], GEOMETRY, Loop(2))


def test_an_image_keeps_steps_and_what_moves(tmp_path: Path) -> None:
    program = compiled(3)
    assert program.loop.steps == 3
    program.save(tmp_path / "step.sgp")
    again = Program.load(tmp_path / "step.sgp")
    assert again.loop == program.loop
    assert again.cycles == program.cycles
    assert [tensor.moves for tensor in again.tensors] == [t.moves for t in program.tensors]
    assert {t.name for t in again.tensors if t.moves} >= {"x", "y"}
    blob = bytearray(program.to_bytes())
    blob[88] = 0  # no steps at all
    with pytest.raises(ImageError):
        Program.from_bytes(bytes(blob))


def test_a_run_takes_a_value_for_each_step_and_may_be_repeated() -> None:
    W, x, y = data(3)
    program = compiled(3)
    device = ReferenceDevice(program.geometry)
    device.load(program)
    with pytest.raises(DataError, match=r"x has shape \(3, 8, 6\), one of \(8, 6\) for each step"):
        device.run(x[0], y)
    device.run(x, y)
    weights, errors = device.read()
    assert errors.shape == (3, 8, 3)
    numpy.testing.assert_allclose(errors[0], x[0] @ W - y[0], atol=0.01)
    device.run()  # a second epoch, on the data that are there
    assert (device.read()[0] != weights).any()
    assert numpy.abs(device.read()[1]).sum() < numpy.abs(errors).sum()


def test_a_single_step_wants_its_arguments() -> None:
    program = compiled(1)
    device = ReferenceDevice(program.geometry)
    device.load(program)
    with pytest.raises(DeviceError, match=r"takes 2 arguments a run \(x, y\), not 0"):
        device.run()


def test_only_instructions_may_differ_when_a_program_is_reloaded() -> None:
    program = compiled(1)
    device = ReferenceDevice(program.geometry)
    device.load(program)
    device.reload(program.slowed(1))
    with pytest.raises(DeviceError, match="in more than its instructions; load it instead"):
        device.reload(compiled(3))


@pytest.mark.parametrize("steps", [0, -1, 1 << 16])
def test_a_number_of_steps_that_does_not_exist_is_refused(steps: int) -> None:
    with pytest.raises(sg.SiligradError, match=f"steps must be from 1 to 65535, not {steps}"):
        compiled(steps)
