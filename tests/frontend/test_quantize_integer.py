"""Training in exact integers: interrupted and resumed, slowed down, judged."""

from __future__ import annotations

import os
import re
import signal
import threading
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy
import pytest
from numpy.typing import NDArray

import siligrad as sg
from siligrad import datasets, losses, metrics, nn, quantize
from siligrad.device import Device, DeviceError, Report
from siligrad.errors import DataError, ShapeError, TrainingError
from siligrad.isa import Loop, Memory
from siligrad.train import batches
from siligrad_sim.reference import ReferenceDevice

BATCH = 8

Params = list[tuple[Any, Any]]
Words = dict[Memory, NDArray[numpy.int32]]


def step_at(rate: float) -> Any:
    def step(params: Any, x: Any, y: Any) -> Any:
        def loss(params: Any) -> Any:
            return losses.squared_hinge(nn.predict(params, x), y)

        grads = sg.grad(loss)(params)
        return [
            (W - rate * dW, b - rate * db) for (W, b), (dW, db) in zip(params, grads, strict=True)
        ]

    return step


def network(*sizes: int) -> Params:
    rng = numpy.random.default_rng(0)
    return [
        (rng.standard_normal((i, o)) * (2 / i) ** 0.5, numpy.zeros(o)) for i, o in pairwise(sizes)
    ]


def examples(count: int, inputs: int = 6, classes: int = 3) -> tuple[Any, Any]:
    rng = numpy.random.default_rng(1)
    x = rng.uniform(-1, 1, (count, inputs))
    labels = numpy.argmax(x[:, :classes], axis=1)
    return x, losses.one_vs_rest(labels, classes)


def compiled(
    count: int = 60, *, steps: int = 1, rate: float = 2.0**-4
) -> tuple[sg.Program, tuple[Any, Any]]:
    x, y = examples(count)
    target = sg.Target(array=4)
    program = sg.compile(
        step_at(rate),
        network(6, 5, 3),
        x[:BATCH],
        y[:BATCH],
        donate=0,
        headroom=2,
        target=target,
        steps=steps,
    )
    return program, (x, y)


def trained(program: sg.Program, data: Any, **options: Any) -> tuple[quantize.IntegerRun, Words]:
    with ReferenceDevice(program.geometry) as device:
        run = quantize.train(device, program, data, progress=False, **options)
        return run, device.dump()


def assert_same(a: Words, b: Words) -> None:
    for memory in Memory:
        numpy.testing.assert_array_equal(a[memory], b[memory])


# What it does, step by step


def test_it_runs_the_batches_of_each_epoch_and_counts_what_saturates() -> None:
    program, (x, y) = compiled()
    run, words = trained(program, (x, y), epochs=2, seed=5)
    with ReferenceDevice(program.geometry) as device:
        device.load(program, seed=5)
        for number in (1, 2):
            counted = numpy.zeros(len(program.instructions), int)
            for chosen in batches(60, BATCH, 5, number):
                counted += device.run(x[chosen], y[chosen]).saturations
            assert run.history[number - 1].saturations == tuple(counted)
        assert_same(words, device.dump())
        (params,) = device.read()
    numpy.testing.assert_array_equal(run.params[0][0], params[0][0])
    assert [(e.number, e.halvings, e.score) for e in run.history] == [(1, 0, None), (2, 0, None)]


def test_digits_are_learned_in_exact_integers() -> None:
    data = datasets.optdigits()
    targets = losses.one_vs_rest(data.train_labels, data.classes)
    params = nn.perceptron(numpy.random.default_rng(0), [64, 24, 10])
    first = data.train_images[:32], targets[:32]

    program = sg.compile(step_at(2.0**-4), params, *first, donate=0, headroom=3)

    def evaluate(params: Any) -> float:
        return metrics.accuracy(nn.predict(params, data.test_images), data.test_labels)

    run, _ = trained(
        program, (data.train_images, targets), epochs=6, halve_after=[3, 4, 5], evaluate=evaluate
    )
    scores = [epoch.score for epoch in run.history]
    assert [epoch.halvings for epoch in run.history] == [0, 0, 0, 1, 2, 3]
    assert scores[-1] is not None
    assert scores[-1] > 0.93


# Stopped and resumed


class _Interrupting(ReferenceDevice):
    """Sends this process a Ctrl-C, a real one, while a certain run is going on."""

    def __init__(self, geometry: sg.Geometry, at: int, times: int = 1) -> None:
        super().__init__(geometry)
        self.runs = 0
        self._at = at
        self._times = times

    def run(self, *inputs: Any, check: bool = True) -> Report:
        self.runs += 1
        if self.runs == self._at:
            for _ in range(self._times):
                os.kill(os.getpid(), signal.SIGINT)
        return super().run(*inputs, check=check)


# 60 examples in batches of 8 are 7 runs an epoch.
@pytest.mark.parametrize("at", [1, 4, 7, 8, 18])
def test_an_interrupted_run_goes_on_with_the_same_words(at: int, tmp_path: Path) -> None:
    program, data = compiled()
    options: dict[str, Any] = {"epochs": 3, "seed": 2, "halve_after": [1], "evaluate": sum_of_words}
    whole, words = trained(program, data, **options)
    path = tmp_path / "state.npz"
    with (
        _Interrupting(program.geometry, at) as device,
        pytest.raises(KeyboardInterrupt),
    ):
        quantize.train(device, program, data, progress=False, checkpoint=path, **options)
    assert device.runs == at  # it ended the run that was going on, and began no other
    resumed, after = trained(program, data, checkpoint=path, **options)
    assert_same(words, after)
    assert resumed.history == whole.history
    again, _ = trained(program, data, checkpoint=path, **options)  # nothing is left to do
    assert again.history == whole.history


class _Failing(ReferenceDevice):
    """Is gone in the middle of a certain run: the memories are written, nothing is computed."""

    def __init__(self, geometry: sg.Geometry, at: int) -> None:
        super().__init__(geometry)
        self.runs = 0
        self._at = at

    def execute(self, loop: Loop, limit: int) -> int:
        self.runs += 1
        if self.runs == self._at:
            raise DeviceError("gone")
        return super().execute(loop, limit)


@pytest.mark.parametrize(("at", "saved"), [(1, 0), (3, 2), (4, 2), (7, 6), (8, 7), (18, 16)])
def test_a_run_goes_on_after_its_device_has_failed(at: int, saved: int, tmp_path: Path) -> None:
    program, data = compiled()
    options: dict[str, Any] = {"epochs": 3, "seed": 2, "halve_after": [1], "evaluate": sum_of_words}
    whole, words = trained(program, data, **options)
    options |= {"checkpoint": tmp_path / "state.npz", "save_every": 2}
    with _Failing(program.geometry, at) as device, pytest.raises(DeviceError, match="gone"):
        quantize.train(device, program, data, progress=False, **options)
    second = _Failing(program.geometry, 0)
    resumed = quantize.train(second, program, data, progress=False, **options)
    assert second.runs == 21 - saved  # what the last checkpoint did not have is done again
    assert_same(words, second.dump())
    assert resumed.history == whole.history


def test_checkpoints_are_runs_apart(tmp_path: Path) -> None:
    program, data = compiled()
    with pytest.raises(ValueError, match="save_every must be at least 1 run, not 0"):
        trained(program, data, epochs=1, checkpoint=tmp_path / "s.npz", save_every=0)


def sum_of_words(params: Any) -> float:
    return float(sum(numpy.sum(array) for pair in params for array in pair))


def test_an_interrupt_from_outside_is_noticed_too(tmp_path: Path) -> None:
    program, data = compiled()
    path = tmp_path / "state.npz"
    timer = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            trained(program, data, epochs=1_000_000, checkpoint=path)
    finally:
        timer.cancel()
    assert path.exists()


def test_an_interrupt_during_the_last_score_is_not_lost(tmp_path: Path) -> None:
    program, data = compiled()
    path = tmp_path / "state.npz"

    def interrupting(params: Any) -> float:
        os.kill(os.getpid(), signal.SIGINT)
        return 0.5

    with pytest.raises(KeyboardInterrupt):
        trained(program, data, epochs=1, evaluate=interrupting, checkpoint=path)
    run, _ = trained(program, data, epochs=1, checkpoint=path)
    assert [epoch.score for epoch in run.history] == [0.5]  # nothing was lost, nothing is left


def test_a_second_interrupt_does_not_wait(tmp_path: Path) -> None:
    program, data = compiled()
    path = tmp_path / "state.npz"
    with (
        _Interrupting(program.geometry, at=3, times=2) as device,
        pytest.raises(KeyboardInterrupt),
    ):
        quantize.train(device, program, data, epochs=1, progress=False, checkpoint=path)
    assert not path.exists()  # stopped in the middle of a run: there is nothing sound to save


def test_handlers_are_put_back() -> None:
    program, data = compiled()
    before = signal.getsignal(signal.SIGINT)
    trained(program, data, epochs=1)
    assert signal.getsignal(signal.SIGINT) is before


def test_it_trains_in_a_thread_that_may_not_ask_for_signals() -> None:
    program, data = compiled()
    _, words = trained(program, data, epochs=1)
    found: list[Words] = []
    thread = threading.Thread(target=lambda: found.append(trained(program, data, epochs=1)[1]))
    thread.start()
    thread.join()
    assert_same(found[0], words)


def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path) -> None:
    program, (x, y) = compiled()
    path = tmp_path / "state.npz"
    trained(program, (x, y), epochs=1, seed=1, checkpoint=path)
    other = x.copy()
    other[0, 0] += 0.125
    for changed, options in (
        ((x, y), {"seed": 2}),
        ((x, y), {"seed": 1, "halve_after": [1]}),
        ((other, y), {"seed": 1}),
    ):
        with pytest.raises(DataError, match=r"state\.npz is the checkpoint of another run"):
            trained(program, changed, epochs=1, checkpoint=path, **options)
    run, _ = trained(program, (x, y), epochs=3, seed=1, checkpoint=path)  # more epochs is the same
    assert [epoch.number for epoch in run.history] == [1, 2, 3]


# Rates


def test_halving_changes_only_the_shifts_of_updates() -> None:
    program, _ = compiled()
    slow = program.slowed(1)
    for before, after in zip(program.instructions, slow.instructions, strict=True):
        changes = {
            name: (getattr(before, name), getattr(after, name))
            for name in type(before).__slots__
            if getattr(before, name) != getattr(after, name)
        }
        shifts = {"shift": (before.shift, before.shift + 1)}
        assert changes == (shifts if program.updates(before) else {})
    assert sum(map(program.updates, program.instructions)) == 4


def test_halving_after_an_epoch_changes_what_follows_and_nothing_before() -> None:
    program, data = compiled()
    _, once = trained(program, data, epochs=1)
    _, plain = trained(program, data, epochs=2)
    run, halved = trained(program, data, epochs=2, halve_after=[1])
    assert any((plain[memory] != halved[memory]).any() for memory in Memory)
    run_of_one, one_of_two = trained(program, data, epochs=1, halve_after=[1])
    assert_same(once, one_of_two)
    assert run_of_one.history == run.history[:1]
    assert [epoch.halvings for epoch in run.history] == [0, 1]


def test_the_halved_epoch_is_that_of_a_program_compiled_with_half_the_rate() -> None:
    program, data = compiled()
    run, _ = trained(program, data, epochs=2, halve_after=[1])
    with ReferenceDevice(program.geometry) as device:
        device.load(program, seed=0)
        for number, each in ((1, program), (2, program.slowed(1))):
            device.reload(each)
            for chosen in batches(60, BATCH, 0, number):
                device.run(data[0][chosen], data[1][chosen])
        (params,) = device.read()
    for (W, b), (V, c) in zip(run.params, params, strict=True):
        numpy.testing.assert_array_equal(W, V)
        numpy.testing.assert_array_equal(b, c)


# Several steps in a run


def test_a_run_of_several_steps_is_as_many_runs_of_one() -> None:
    """64 examples: the batches of a run of 4 are cut from 32 that are chosen together."""
    single, (x, y) = compiled(64)
    several, _ = compiled(64, steps=4)
    run, _ = trained(several, (x, y), epochs=1, seed=3)
    with ReferenceDevice(single.geometry) as device:
        device.load(single, seed=3)
        counted = numpy.zeros(len(single.instructions), int)
        for chosen in batches(64, 4 * BATCH, 3, 1):
            for part in chosen.reshape(4, BATCH):
                counted += device.run(x[part], y[part]).saturations
        (params,) = device.read()
    for (W, b), (V, c) in zip(run.params, params, strict=True):
        numpy.testing.assert_array_equal(W, V)
        numpy.testing.assert_array_equal(b, c)
    assert sum(run.history[0].saturations) == counted.sum()


@pytest.mark.parametrize("steps", [1, 3])
def test_scores_of_any_number_of_examples(steps: int) -> None:
    params = network(6, 5, 3)
    x, _ = examples(29)
    program = sg.compile(
        nn.predict, params, x[:4], resident=0, steps=steps, target=sg.Target(array=4)
    )
    with ReferenceDevice(program.geometry) as device:
        device.load(program)
        scores = quantize.classify(device, x)
    assert scores.shape == (29, 3)
    numpy.testing.assert_allclose(scores, nn.predict(params, x), atol=2.0**-9)


# What goes wrong


@pytest.mark.parametrize("sizes", [(6, 5, 3), (6, 4, 4, 3)])
def test_dead_units_are_noticed_and_the_message_says_what_to_do(sizes: tuple[int, ...]) -> None:
    """Inputs of one sign, and a rate that throws the first weights far below zero."""
    x, y = examples(400)
    x, params = numpy.abs(x), network(*sizes)
    program = sg.compile(step_at(2.0**3), params, x[:BATCH], y[:BATCH], donate=0, headroom=2)
    with pytest.raises(TrainingError) as raised:
        trained(program, (x, y), epochs=20)
    message = str(raised.value)
    weights = ", ".join(f"params[{layer}][0]" for layer in range(len(sizes) - 1))
    assert message.startswith(f"epoch 2: {weights} stopped learning")
    assert "dead for every example" in message
    assert re.search(r"\d+ elements of instruction \d+ \(return losses\.squared_hinge\(", message)
    assert "begin with half of it, which is program.slowed(1)" in message
    assert "\n" not in message


def test_a_network_that_has_nothing_left_to_learn_is_not_dead() -> None:
    """Two examples, far from the margin after some steps: no error, so nothing changes at all."""
    x = numpy.repeat([[1.0, 0.0], [0.0, 1.0]], 2 * BATCH, axis=0)
    y = numpy.where(x > 0, 1.0, -1.0)
    program = sg.compile(step_at(2.0**-1), network(2, 8, 2), x[::4], y[::4], donate=0, headroom=3)
    data = numpy.tile(x, (8, 1)), numpy.tile(y, (8, 1))
    run, words = trained(program, data, epochs=12)
    _, later = trained(program, data, epochs=14)
    numpy.testing.assert_array_equal(words[Memory.W], later[Memory.W])
    assert losses.squared_hinge(nn.predict(run.params, x), y) < 2.0**-10


def test_data_that_do_not_fit_are_refused() -> None:
    program, (x, y) = compiled()
    for data, message in (
        ((x,), "is given 1 arrays of examples, but takes x, y in each run"),
        ((x[:, :5], y), r"examples of x have shape \(60, 5\); the program takes \(6,\) each"),
        ((x, y[:59]), r"examples of y have shape \(59, 3\); the program takes \(3,\) each, 60"),
    ):
        with pytest.raises(ShapeError, match=message):
            trained(program, data, epochs=1)


def test_a_device_is_observed_after_each_run() -> None:
    program, data = compiled()
    seen: list[float] = []

    def observe(device: Device, report: Report) -> None:
        assert report.cycles == program.cycles
        seen.append(sum_of_words(device.read()[0]))

    run, _ = trained(program, data, epochs=2, observe=observe)
    assert len(seen) == 14
    assert seen[-1] == sum_of_words(run.params)
    assert len(set(seen)) == 14
