"""Layers, losses, optimizers, checkpoints and fit."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

import siligrad.numpy as np
from siligrad import checkpoint, losses, metrics, nn, optim, train, tree
from siligrad.autodiff import check_grads, grad, trace
from siligrad.datasets import Dataset, optdigits
from siligrad.errors import DataError, ShapeError, TrainingError

seeds = st.integers(0, 2**32 - 1)


def same(a: Any, b: Any) -> bool:
    pairs = zip(tree.flatten(a)[0], tree.flatten(b)[0], strict=True)
    return all(numpy.asarray(x).tobytes() == numpy.asarray(y).tobytes() for x, y in pairs)


# --- layers


@pytest.mark.parametrize("initializer", [nn.he_uniform, nn.he_normal, nn.glorot_uniform])
def test_initial_weights_have_their_variance(initializer: nn.Initializer) -> None:
    W = initializer(numpy.random.default_rng(0), 400, 300)
    assert W.shape == (400, 300)
    expected = 2 / 700 if initializer is nn.glorot_uniform else 2 / 400
    assert W.var() == pytest.approx(expected, rel=0.02)
    assert abs(W.mean()) < 1e-3


def test_a_perceptron_needs_two_positive_sizes() -> None:
    rng = numpy.random.default_rng(0)
    with pytest.raises(ValueError, match=r"sizes must be two or more positive numbers.*not \[5\]"):
        nn.perceptron(rng, [5])
    with pytest.raises(ValueError, match=r"not \[5, 0\]"):
        nn.perceptron(rng, [5, 0])


def test_predict_is_the_formula() -> None:
    params = nn.perceptron(numpy.random.default_rng(0), [4, 3, 2], dtype=numpy.float32)
    x = numpy.ones((5, 4), numpy.float32)
    (W1, b1), (W2, b2) = params
    expected = numpy.maximum(x @ W1 + b1, 0) @ W2 + b2
    numpy.testing.assert_array_equal(nn.predict(params, x), expected)
    expected = numpy.tanh(x @ W1 + b1) @ W2 + b2
    numpy.testing.assert_array_equal(nn.predict(params, x, activation=np.tanh), expected)


@given(seeds)
def test_functions_are_smooth_and_bounded(seed: int) -> None:
    x = numpy.random.default_rng(seed).uniform(-5, 5, (3, 4))
    for function in (nn.sigmoid, nn.softplus, nn.softmax, nn.log_softmax):
        check_grads(function, (x,))
    numpy.testing.assert_allclose(nn.softmax(x).sum(axis=1), 1)
    numpy.testing.assert_allclose(nn.sigmoid(x), 1 / (1 + numpy.exp(-x)), rtol=1e-12)
    numpy.testing.assert_allclose(nn.softplus(x), numpy.log1p(numpy.exp(x)), rtol=1e-12)


def test_functions_do_not_overflow() -> None:
    huge = numpy.array([[-1000.0, 1000.0]])
    numpy.testing.assert_array_equal(nn.sigmoid(huge), [[0, 1]])
    numpy.testing.assert_array_equal(nn.softplus(huge), [[0, 1000]])
    numpy.testing.assert_array_equal(nn.softmax(huge), [[0, 1]])


# --- losses


@given(seeds)
def test_losses_are_their_formulas(seed: int) -> None:
    rng = numpy.random.default_rng(seed)
    scores, labels = rng.standard_normal((6, 4)), rng.integers(0, 4, 6)
    hot: Any = losses.one_hot(labels, 4)
    signs: Any = losses.one_vs_rest(labels, 4)
    hinge = sum(max(0.0, 1 - s * t) ** 2 for s, t in zip(scores.flat, signs.flat, strict=True)) / 6
    assert losses.squared_hinge(scores, signs) == pytest.approx(hinge)
    assert losses.mse(scores, hot) == pytest.approx(((scores - hot) ** 2).mean())
    p = numpy.exp(scores) / numpy.exp(scores).sum(axis=1, keepdims=True)
    expected = -numpy.log(p[numpy.arange(6), labels]).mean()
    assert losses.softmax_cross_entropy(scores, hot) == pytest.approx(expected)
    gradient = grad(losses.softmax_cross_entropy)(scores, hot)
    numpy.testing.assert_allclose(gradient, (p - hot) / 6, atol=1e-15)
    check_grads(lambda s: losses.squared_hinge(s, signs), (scores,), order=1)


def test_cross_entropy_of_huge_scores_is_finite() -> None:
    scores = numpy.array([[1000.0, -1000.0]])
    assert losses.softmax_cross_entropy(scores, numpy.array([[0.0, 1.0]])) == 2000


def test_targets_of_another_shape_do_not_broadcast() -> None:
    for loss in (losses.mse, losses.squared_hinge, losses.softmax_cross_entropy):
        with pytest.raises(
            ShapeError, match=r"predictions of shape \(3, 1\) and targets of shape \(3,\)"
        ):
            loss(numpy.ones((3, 1)), numpy.ones(3))


def test_labels_that_are_no_classes() -> None:
    with pytest.raises(ValueError, match=r"labels must be in 0 \.\. 2, not -1 \.\. 3"):
        losses.one_vs_rest(numpy.array([-1, 3]), 3)
    with pytest.raises(
        ShapeError, match=r"labels must be integers of shape \(n,\), not float64\[2\]"
    ):
        losses.one_hot([0.0, 1.0], 3)


# --- optimizers


def steps(optimizer: Any, count: int, w: float = 1.0) -> float:
    """Minimize w**2 from `w` and return where it is."""
    params = [numpy.array(w)]
    state = optimizer.init(params)
    for _ in range(count):
        params, state = optimizer.update(params, [2 * params[0]], state, optimizer.rate)
    return float(params[0])


def test_updates_are_their_formulas() -> None:
    assert steps(optim.Sgd(0.25), 2) == 0.25
    assert steps(optim.Momentum(0.25, 0.5), 2) == 0.0  # v: 2, 2*0.5+1=2; w: 1, 0.5, 0
    assert steps(optim.Momentum(0.25, 0.5, nesterov=True), 1) == 0.25  # 1 - 0.25 * (2 + 0.5 * 2)
    assert steps(optim.Adam(0.1), 1) == pytest.approx(
        0.9, abs=1e-8
    )  # the first step has length rate


def test_adam_is_the_published_algorithm() -> None:
    rate, beta1, beta2, epsilon = 0.05, 0.9, 0.99, 1e-8
    w, m, v = 1.0, 0.0, 0.0
    for t in range(1, 21):
        g = 2 * w
        m, v = beta1 * m + (1 - beta1) * g, beta2 * v + (1 - beta2) * g * g
        w -= rate * (m / (1 - beta1**t)) / (numpy.sqrt(v / (1 - beta2**t)) + epsilon)
    assert steps(optim.Adam(rate, beta1, beta2, epsilon), 20) == pytest.approx(w, rel=1e-12)


@pytest.mark.parametrize(
    "optimizer",
    [optim.Sgd(0.1), optim.Momentum(0.05), optim.Momentum(0.05, nesterov=True), optim.Adam(0.1)],
)
def test_optimizers_keep_types_can_be_traced_and_converge(optimizer: Any) -> None:
    assert abs(steps(optimizer, 300)) < 1e-2
    params = [numpy.ones(2, numpy.float32)]
    state = optimizer.init(params)

    def update(params: Any, grads: Any, state: Any, rate: Any) -> Any:
        return optimizer.update(params, grads, state, rate)

    rate = numpy.float32(0.1)
    eager = update(params, params, state, rate)
    graph = trace(update, params, params, state, rate)
    assert same(graph(params, params, state, rate), eager)
    assert eager[0][0].dtype == numpy.float32


def test_a_halving_rate_stays_a_power_of_two() -> None:
    schedule = optim.Halving(2**-4, every=10, least=2**-6)
    rates = [schedule(step) for step in range(40)]
    assert rates == [2**-4] * 10 + [2**-5] * 10 + [2**-6] * 20
    assert all(map(optim.is_power_of_two, rates))
    assert not optim.is_power_of_two(0.3)
    assert not optim.is_power_of_two(-0.5)


def test_optimizers_refuse_impossible_constants() -> None:
    with pytest.raises(ValueError, match="rate must be positive and finite, not 0"):
        optim.Sgd(0)
    with pytest.raises(ValueError, match="rate must be positive and finite, not nan"):
        optim.Momentum(float("nan"))
    with pytest.raises(ValueError, match="decay must be in 0 <= decay < 1, not 1"):
        optim.Momentum(0.1, 1)
    with pytest.raises(ValueError, match="beta2 must be in 0 <= beta2 < 1, not 2"):
        optim.Adam(0.1, beta2=2)
    with pytest.raises(ValueError, match="every must be at least 1 step, not 0"):
        optim.Halving(0.5, 0)


# --- checkpoints


def test_a_checkpoint_keeps_every_bit(tmp_path: Path) -> None:
    path = tmp_path / "run.npz"
    trees = {
        "params": [(numpy.array([-0.0, numpy.pi]), numpy.float32(1.1)), None],
        "state": {"count": numpy.int64(3), "mask": numpy.array([True])},
    }
    checkpoint.save(path, trees, {"epoch": 7, "note": "ä"})
    loaded, metadata = checkpoint.load(path, trees)
    assert same(loaded, trees)
    assert metadata == {"epoch": 7, "note": "ä"}
    assert [each.name for each in tmp_path.iterdir()] == ["run.npz"]


def test_a_checkpoint_of_other_sizes_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "run.npz"
    checkpoint.save(path, {"params": [numpy.ones((2, 3)), numpy.ones(3)]}, {})
    with pytest.raises(
        DataError, match=r"params\[0\] is float64\[2, 3\], but float64\[3, 2\] is needed"
    ):
        checkpoint.load(path, {"params": [numpy.ones((3, 2)), numpy.ones(3)]})
    with pytest.raises(DataError, match=r"params\[1\] is float64\[3\], but float32\[3\] is needed"):
        checkpoint.load(path, {"params": [numpy.ones((2, 3)), numpy.ones(3, numpy.float32)]})
    with pytest.raises(DataError, match=r"has no params\[2\]; it has params\[0\], params\[1\]"):
        checkpoint.load(path, {"params": [numpy.ones((2, 3)), numpy.ones(3), numpy.ones(1)]})
    with pytest.raises(DataError, match=r"has params\[1\], which params does not have"):
        checkpoint.load(path, {"params": [numpy.ones((2, 3))]})


def test_a_damaged_checkpoint_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "run.npz"
    checkpoint.save(path, {"params": [numpy.ones(100)]}, {})
    whole = path.read_bytes()
    for data in (b"", whole[: len(whole) // 2], whole[:90] + b"!" + whole[91:]):
        path.write_bytes(data)
        with pytest.raises(DataError, match=r"run\.npz (is no|has no)"):
            checkpoint.load(path, {"params": [numpy.ones(100)]})
    numpy.savez(path, a=numpy.ones(2))
    with pytest.raises(DataError, match="is no checkpoint of siligrad: it has no metadata"):
        checkpoint.load(path, {})
    with pytest.raises(FileNotFoundError):
        checkpoint.load(tmp_path / "absent.npz", {})


def test_an_interrupted_save_leaves_the_old_file(tmp_path: Path, monkeypatch: Any) -> None:
    path = tmp_path / "run.npz"
    checkpoint.save(path, {"w": numpy.ones(2)}, {"epoch": 1})

    def fail(descriptor: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(KeyboardInterrupt):
        checkpoint.save(path, {"w": numpy.zeros(2)}, {"epoch": 2})
    assert checkpoint.load(path, {"w": numpy.ones(2)})[1] == {"epoch": 1}


# --- fit


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return optdigits(numpy.float32)


def hinge(params: Any, x: Any, y: Any) -> Any:
    return losses.squared_hinge(nn.predict(params, x), y)


def small_fit(digits: Dataset, **changes: Any) -> train.Run:
    """Fit a small perceptron to the first 320 digits."""
    y = losses.one_vs_rest(digits.train_labels[:320], 10, numpy.float32)
    params = nn.perceptron(numpy.random.default_rng(1), [64, 32, 10], dtype=numpy.float32)
    options: dict[str, Any] = {
        "optimizer": optim.Momentum(optim.Halving(2**-7, 30)),
        "epochs": 4,
        "batch": 32,
        "progress": False,
    } | changes
    return train.fit(hinge, params, digits.train_images[:320], y, **options)


def score(digits: Dataset) -> Any:
    chosen = slice(320, 640)
    images, labels = digits.train_images[chosen], digits.train_labels[chosen]
    return lambda params: metrics.accuracy(nn.predict(params, images), labels)


def test_batches_are_a_shuffle_of_seed_and_epoch() -> None:
    first = [list(batch) for batch in train.batches(10, 3, seed=5, epoch=1)]
    assert [len(batch) for batch in first] == [3, 3, 3]
    assert len({index for batch in first for index in batch}) == 9
    assert first == [list(batch) for batch in train.batches(10, 3, seed=5, epoch=1)]
    assert first != [list(batch) for batch in train.batches(10, 3, seed=5, epoch=2)]
    assert first != [list(batch) for batch in train.batches(10, 3, seed=6, epoch=1)]


def test_fit_learns_and_remembers(digits: Dataset) -> None:
    optimizer = optim.Sgd(optim.Halving(2**-4, 80))
    run = small_fit(digits, optimizer=optimizer, epochs=20, evaluate=score(digits))
    assert [epoch.number for epoch in run.history] == list(range(1, 21))
    assert run.history[-1].loss < run.history[0].loss / 3
    assert run.best.score is not None
    assert run.best.score > 0.8
    assert run.history[0].rate == 2**-4
    assert run.history[-1].rate == 2**-6


def test_a_perceptron_recognises_digits(digits: Dataset) -> None:
    y = losses.one_vs_rest(digits.train_labels, 10, numpy.float32)
    params = nn.perceptron(numpy.random.default_rng(0), [64, 32, 10], dtype=numpy.float32)
    run = train.fit(
        hinge,
        params,
        digits.train_images,
        y,
        optimizer=optim.Momentum(optim.Halving(2**-7, 119 * 6), 0.875),
        epochs=20,
        progress=False,
    )
    assert metrics.accuracy(nn.predict(run.params, digits.test_images), digits.test_labels) > 0.955


def test_the_same_seed_gives_the_same_bits(digits: Dataset) -> None:
    assert same(small_fit(digits).params, small_fit(digits).params)
    assert not same(small_fit(digits).params, small_fit(digits, seed=1).params)


@pytest.mark.parametrize("optimizer", [optim.Sgd(2**-6), optim.Momentum(2**-7), optim.Adam(2**-8)])
def test_planned_steps_are_eager_steps(digits: Dataset, optimizer: Any) -> None:
    planned = small_fit(digits, optimizer=optimizer)
    eager = small_fit(digits, optimizer=optimizer, eager=True)
    assert same(planned.params, eager.params)
    assert planned.history == eager.history


def test_arguments_are_left_alone(digits: Dataset) -> None:
    params = nn.perceptron(numpy.random.default_rng(1), [64, 32, 10], dtype=numpy.float32)
    before = [(W.copy(), b.copy()) for W, b in params]
    y = losses.one_vs_rest(digits.train_labels, 10, numpy.float32)
    train.fit(
        hinge, params, digits.train_images, y, optimizer=optim.Sgd(0.1), epochs=1, progress=False
    )
    assert same(params, before)


@pytest.mark.parametrize("optimizer", [optim.Sgd(2**-6), optim.Momentum(2**-7), optim.Adam(2**-8)])
def test_a_resumed_run_ends_with_the_same_bits(
    digits: Dataset, tmp_path: Path, optimizer: Any
) -> None:
    options: dict[str, Any] = {"optimizer": optimizer, "evaluate": score(digits)}
    whole = small_fit(digits, **options)
    path = tmp_path / "run.npz"
    for epochs in (1, 1, 3, 4):
        parts = small_fit(digits, epochs=epochs, checkpoint=path, **options)
    assert same(parts.params, whole.params)
    assert parts.history == whole.history


def test_patience_stops_and_returns_the_best(digits: Dataset, tmp_path: Path) -> None:
    scores = iter([0.1, 0.5, 0.4, 0.5, 0.3, 0.2, 0.9])
    kept: list[Any] = []

    def evaluate(params: Any) -> float:
        kept.append(params)
        return next(scores)

    path = tmp_path / "run.npz"
    run = small_fit(digits, epochs=7, evaluate=evaluate, patience=3, checkpoint=path)
    assert [epoch.score for epoch in run.history] == [0.1, 0.5, 0.4, 0.5, 0.3]
    assert run.best.number == 2
    assert same(run.params, kept[1])
    again = small_fit(digits, epochs=7, evaluate=evaluate, patience=3, checkpoint=path)
    assert len(again.history) == 5
    assert same(again.params, kept[1])


def test_a_checkpoint_of_another_run_is_refused(digits: Dataset, tmp_path: Path) -> None:
    path = tmp_path / "run.npz"
    small_fit(digits, epochs=1, checkpoint=path)
    for change in ({"seed": 3}, {"batch": 16}, {"optimizer": optim.Momentum(2**-5)}):
        with pytest.raises(DataError, match="is the checkpoint of another run"):
            small_fit(digits, checkpoint=path, **change)
    with pytest.raises(DataError, match=r"has state\['velocity'\]"):
        small_fit(digits, checkpoint=path, optimizer=optim.Sgd(0.1))


def test_a_loss_that_is_not_a_number_stops_the_run(digits: Dataset) -> None:
    with (
        numpy.errstate(all="ignore"),
        pytest.raises(TrainingError, match=r"the loss is (nan|inf) in epoch .*use a smaller rate"),
    ):
        small_fit(digits, optimizer=optim.Sgd(1e6), epochs=20)


def test_arguments_that_do_not_fit(digits: Dataset) -> None:
    with pytest.raises(
        ShapeError, match=r"batch must be in 1 \.\. 320, the number of examples, not 999"
    ):
        small_fit(digits, batch=999)
    with pytest.raises(ValueError, match="patience needs evaluate"):
        small_fit(digits, patience=2)
    with pytest.raises(ShapeError, match="3 inputs and 2 targets"):
        train.fit(
            hinge,
            [],
            numpy.ones((3, 1)),
            numpy.ones((2, 1)),
            optimizer=optim.Sgd(1.0),
            epochs=1,
        )


def test_progress_is_shown_where_tqdm_is(digits: Dataset, capsys: Any) -> None:
    pytest.importorskip("tqdm")
    small_fit(digits, epochs=1, progress=True)
    assert "step" not in capsys.readouterr().err  # no terminal: no bar


RUN = """
import numpy, sys
from siligrad import datasets, losses, nn, optim, train
d = datasets.optdigits(numpy.float32)
y = losses.one_vs_rest(d.train_labels, 10, numpy.float32)
params = nn.perceptron(numpy.random.default_rng(0), [64, 16, 10], dtype=numpy.float32)
loss = lambda p, x, y: losses.squared_hinge(nn.predict(p, x), y)
run = train.fit(loss, params, d.train_images, y, optimizer=optim.Momentum(2**-7),
                epochs=12, checkpoint=sys.argv[1], progress=False)
"""


@pytest.mark.parametrize("blow", [signal.SIGINT, signal.SIGKILL])
def test_a_run_that_was_killed_ends_with_the_same_bits(
    tmp_path: Path, blow: signal.Signals
) -> None:
    script = tmp_path / "run.py"
    script.write_text(RUN)
    whole, broken = tmp_path / "whole.npz", tmp_path / "broken.npz"
    subprocess.run([sys.executable, script, whole], check=True)
    for patience in (0.05, 0.1, 0.3):
        with subprocess.Popen(
            [sys.executable, script, broken], stderr=subprocess.DEVNULL
        ) as process:
            started = time.monotonic()
            while not broken.exists() and time.monotonic() < started + 60:
                time.sleep(0.01)
            time.sleep(patience)
            process.send_signal(blow)
    subprocess.run([sys.executable, script, broken], check=True)
    with numpy.load(whole) as a, numpy.load(broken) as b:
        assert set(a.files) == set(b.files)
        for name in a.files:
            assert a[name].tobytes() == b[name].tobytes(), name
