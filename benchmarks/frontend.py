"""``python -m benchmarks.frontend``: the time of one training step, beside other libraries.

One step of gradient descent on the squared hinge, batch 32, float32, one thread each. Every
contender gets the same parameters and the same batches, in its own kind of array and made
beforehand. They are compared with the step written by hand before anything is timed. Then they take
turns, a few milliseconds each, so that whatever else the machine does meets all of them alike.

A contender that is not installed is listed as missing.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import json
import os
import platform
import statistics
import sys
import time
import tracemalloc
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypeAlias

# Read by BLAS and by XLA when they are loaded: before numpy is.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"
os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
os.environ["JAX_PLATFORMS"] = "cpu"

import numpy as np  # noqa: E402
from numpy.typing import NDArray  # noqa: E402

import siligrad as sg  # noqa: E402
from siligrad import losses, nn  # noqa: E402
from siligrad.autodiff import static  # noqa: E402

__all__ = ["CONTENDERS", "SIZES", "Result", "Table", "main", "measure"]

SIZES = ((784, 128, 10), (64, 32, 10))
BATCH = 32
BATCHES = 8
"""Different batches, taken in turn."""

RATE = 2.0**-8
CHECKED_STEPS = 20
"""Steps after which the parameters are compared."""

TOLERANCE = 1e-3
"""Of a parameter, as a fraction of the way that parameters have gone: a float32 weight takes up a
thousandth of itself with about four digits."""

MEMORY_STEPS = (20, 1000)
"""Steps before memory is looked at, and steps between the looks."""

Params: TypeAlias = list[tuple[NDArray[np.float32], NDArray[np.float32]]]
Batch: TypeAlias = tuple[NDArray[np.float32], NDArray[np.float32]]
Step: TypeAlias = Callable[[int], object]
Contender: TypeAlias = Callable[[Params, list[Batch]], tuple[Step, Callable[[], Any]]]
"""Parameters and batches to ``step(k)``, one step on batch k, and ``read()``, the parameters."""

BY_HAND = "numpy, by hand"


# --- the contenders: the same step in each library's own words


def by_hand(params: Params, batches: list[Batch]) -> tuple[Step, Callable[[], Any]]:
    """Derive by hand and write with numpy in place: no array is made in a step.

    ``dot`` with ``out`` is quicker than ``matmul``; sums over the batch are products with ones; the
    rate, the mean and the 2 of the square are one factor, applied where the error is smallest.
    """
    (W, b), (V, c) = params = [(W.copy(), b.copy()) for W, b in params]
    inputs, hidden = W.shape
    outputs = V.shape[1]
    h, dh = np.empty((2, BATCH, hidden), np.float32)
    e = np.empty((BATCH, outputs), np.float32)
    active = np.empty((BATCH, hidden), np.bool_)
    dW, dV = np.empty((inputs, hidden), np.float32), np.empty((hidden, outputs), np.float32)
    db, dc = np.empty(hidden, np.float32), np.empty(outputs, np.float32)
    ones = np.ones(BATCH, np.float32)
    zero, one = np.zeros((), np.float32), np.ones((), np.float32)
    factor = np.array(2 * RATE / BATCH, np.float32)
    hT, VT = h.T, V.T
    dot, add, multiply, maximum = np.dot, np.add, np.multiply, np.maximum
    transposed = [x.T for x, _ in batches]

    def step(k: int) -> None:
        x, y = batches[k]
        dot(x, W, out=h)
        add(h, b, out=h)
        maximum(h, zero, out=h)
        dot(h, V, out=e)
        add(e, c, out=e)
        multiply(e, y, out=e)
        np.subtract(one, e, out=e)
        maximum(e, zero, out=e)  # the margin that is missing
        multiply(e, y, out=e)
        multiply(e, factor, out=e)  # minus the rate times the gradient of the scores
        dot(e, VT, out=dh)
        np.greater(h, zero, out=active)
        multiply(dh, active, out=dh)
        dot(hT, e, out=dV)
        dot(ones, e, out=dc)
        dot(transposed[k], dh, out=dW)
        dot(ones, dh, out=db)
        add(W, dW, out=W)
        add(b, db, out=b)
        add(V, dV, out=V)
        add(c, dc, out=c)

    return step, lambda: params


def _siligrad_step(params: Any, x: Any, y: Any) -> Any:
    grads = sg.grad(_siligrad_loss)(params, x, y)
    return [(W - RATE * dW, b - RATE * db) for (W, b), (dW, db) in zip(params, grads, strict=True)]


def _siligrad_loss(params: Any, x: Any, y: Any) -> Any:
    return losses.squared_hinge(nn.predict(params, x), y)


def siligrad_eager(params: Params, batches: list[Batch]) -> tuple[Step, Callable[[], Any]]:
    """siligrad, the function called as it is."""
    return _pure(_siligrad_step, params, batches)


def siligrad_static(params: Params, batches: list[Batch]) -> tuple[Step, Callable[[], Any]]:
    """siligrad, the same function planned once, the parameters donated."""
    start = [(W.copy(), b.copy()) for W, b in params]
    return _pure(static(_siligrad_step, donate=0)(start, *batches[0]), start, batches)


def hips_autograd(params: Params, batches: list[Batch]) -> tuple[Step, Callable[[], Any]]:
    """HIPS autograd, on numpy as siligrad is."""
    anp, grad = _peer("autograd.numpy"), _peer("autograd").grad

    def loss(params: Any, x: Any, y: Any) -> Any:
        (W, b), (V, c) = params
        scores = anp.dot(anp.maximum(anp.dot(x, W) + b, 0), V) + c
        return anp.mean(anp.sum(anp.maximum(1 - y * scores, 0) ** 2, axis=1))

    gradient = grad(loss)

    def step(params: Any, x: Any, y: Any) -> Any:
        pairs = zip(params, gradient(params, x, y), strict=True)
        return [(W - RATE * dW, b - RATE * db) for (W, b), (dW, db) in pairs]

    return _pure(step, params, batches)


def jax_jit(params: Params, batches: list[Batch]) -> tuple[Step, Callable[[], Any]]:
    """JAX, compiled by XLA, the parameters donated; each step is waited for."""
    jax, jnp = _peer("jax"), _peer("jax.numpy")

    def loss(params: Any, x: Any, y: Any) -> Any:
        (W, b), (V, c) = params
        scores = jnp.maximum(x @ W + b, 0) @ V + c
        return jnp.mean(jnp.sum(jnp.maximum(1 - y * scores, 0) ** 2, axis=1))

    def step(params: Any, x: Any, y: Any) -> Any:
        return jax.tree.map(lambda w, g: w - RATE * g, params, jax.grad(loss)(params, x, y))

    compiled = jax.jit(step, donate_argnums=0)
    there = [(jnp.array(x), jnp.array(y)) for x, y in batches]
    start = [(jnp.array(W), jnp.array(b)) for W, b in params]
    return _pure(lambda p, x, y: jax.block_until_ready(compiled(p, x, y)), start, there)


def pytorch_eager(params: Params, batches: list[Batch]) -> tuple[Step, Callable[[], Any]]:
    """PyTorch on the processor, with its own SGD."""
    torch = _peer("torch")
    torch.set_num_threads(1)
    leaves = [torch.tensor(array, requires_grad=True) for pair in params for array in pair]
    W, b, V, c = leaves
    optimizer = torch.optim.SGD(leaves, lr=RATE)
    there = [(torch.tensor(x), torch.tensor(y)) for x, y in batches]

    def step(k: int) -> None:
        x, y = there[k]
        optimizer.zero_grad()
        scores = torch.addmm(c, torch.relu(torch.addmm(b, x, W)), V)
        loss = torch.relu(1 - y * scores).square().sum(1).mean()
        loss.backward()
        optimizer.step()

    def read() -> Any:
        arrays = [leaf.detach().numpy() for leaf in leaves]
        return [(arrays[0], arrays[1]), (arrays[2], arrays[3])]

    return step, read


def _peer(module: str) -> Any:
    return importlib.import_module(module)


def _pure(
    function: Callable[..., Any], params: Any, batches: Sequence[tuple[Any, Any]]
) -> tuple[Step, Callable[[], Any]]:
    """Step by a function from parameters to parameters."""
    now = params

    def step(k: int) -> None:
        nonlocal now
        x, y = batches[k]
        now = function(now, x, y)

    return step, lambda: now


CONTENDERS: dict[str, tuple[Contender, str]] = {
    BY_HAND: (by_hand, "numpy"),
    "siligrad static": (siligrad_static, "siligrad"),
    "siligrad eager": (siligrad_eager, "siligrad"),
    "HIPS autograd": (hips_autograd, "autograd"),
    "JAX jit": (jax_jit, "jax"),
    "PyTorch eager": (pytorch_eager, "torch"),
}
"""Each with the distribution that it comes from."""


# --- measuring


@dataclass(frozen=True, slots=True)
class Result:
    """One contender on one network.

    Parameters
    ----------
    microseconds : :class:`float`
        Median time of a step over the rounds.
    low, high : :class:`float`
        The quartiles.
    processor : :class:`float`
        Median time that processors spent on a step, all threads together: without the time that
        other programs took, and more than the time of a step for who keeps threads busy waiting.
    ratio : :class:`float`
        Median over the rounds of the processor time divided by the hand-written step's in the same
        round: the clock's is as good only on a machine that does nothing else.
    difference : :class:`float`
        Greatest difference of a parameter from the hand-written step's after the checked steps, as
        a fraction of the farthest that one of its array has moved.
    peak : :class:`int`
        Bytes that Python and numpy allocate beyond what they hold between steps, at most; what
        JAX and PyTorch allocate by themselves is not in it.
    growth : :class:`int`
        Bytes by which what Python and numpy hold grew over the steps of the memory test.
    resident_growth : :class:`int`
        Bytes by which the process grew over the same number of steps, everything included.
    """

    microseconds: float
    low: float
    high: float
    processor: float
    ratio: float
    difference: float
    peak: int
    growth: int
    resident_growth: int


@dataclass(frozen=True, slots=True)
class Table:
    """What a run of the benchmark found: results by size and contender, and what was missing."""

    machine: dict[str, str]
    versions: dict[str, str]
    rounds: int
    results: dict[str, dict[str, Result]] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)


def measure(*, rounds: int = 60, milliseconds: float = 10.0, memory: bool = True) -> Table:
    """Measure every contender that is installed on every size.

    Parameters
    ----------
    rounds : :class:`int`
        How often each contender takes its turn.
    milliseconds : :class:`float`
        Length of a turn.
    memory : :class:`bool`
        Look at memory too.

    Raises
    ------
    RuntimeError
        If a contender computes something else than the hand-written step.
    """
    table = Table(_machine(), {"python": platform.python_version()}, rounds)
    for sizes in SIZES:
        name = "-".join(map(str, sizes))
        params, batches = _problem(sizes)
        running: dict[str, Step] = {}
        differences: dict[str, float] = {}
        start = [array for pair in params for array in pair]
        expected: list[NDArray[Any]] = []
        for contender, (prepare, distribution) in CONTENDERS.items():
            try:
                step, read = prepare(params, batches)
            except ImportError as error:
                table.missing[contender] = str(error)
                continue
            table.versions[distribution] = _version(distribution)
            for k in range(CHECKED_STEPS):
                step(k % BATCHES)
            found = [np.array(array) for pair in read() for array in pair]
            expected = expected or found
            differences[contender] = _compare(name, contender, found, expected, start)
            running[contender] = step
        times = _interleave(running, rounds, milliseconds)
        table.results[name] = {
            contender: Result(
                statistics.median(each.wall),
                float(np.percentile(each.wall, 25)),
                float(np.percentile(each.wall, 75)),
                statistics.median(each.processor),
                statistics.median(
                    t / hand
                    for t, hand in zip(each.processor, times[BY_HAND].processor, strict=True)
                ),
                differences[contender],
                *(_memory(running[contender]) if memory else (0, 0, 0)),
            )
            for contender, each in times.items()
        }
    return table


def _problem(sizes: tuple[int, int, int]) -> tuple[Params, list[Batch]]:
    """Return initial parameters, and batches of images and targets, from a fixed seed."""
    rng = np.random.default_rng(0)
    inputs, hidden, outputs = sizes
    params: Params = [
        (
            (rng.standard_normal((n, m)) * (2 / n) ** 0.5).astype(np.float32),
            (0.1 * rng.standard_normal(m)).astype(np.float32),
        )
        for n, m in ((inputs, hidden), (hidden, outputs))
    ]
    batches = []
    for _ in range(BATCHES):
        y = np.full((BATCH, outputs), -1, np.float32)
        y[np.arange(BATCH), rng.integers(outputs, size=BATCH)] = 1
        batches.append((rng.random((BATCH, inputs), np.float32), y))
    return params, batches


def _compare(
    size: str,
    contender: str,
    found: list[NDArray[Any]],
    expected: list[NDArray[Any]],
    start: list[NDArray[Any]],
) -> float:
    worst = 0.0
    for ours, theirs, before in zip(found, expected, start, strict=True):
        if ours.dtype != np.float32 or ours.shape != theirs.shape:
            raise RuntimeError(
                f"{contender}, {size}: a parameter is {ours.dtype}{list(ours.shape)} after a step, "
                f"not float32{list(theirs.shape)}"
            )
        moved = float(np.abs(theirs - before).max())
        worst = max(worst, float(np.abs(ours - theirs).max()) / moved)
    if not worst <= TOLERANCE:
        raise RuntimeError(
            f"{contender}, {size}: after {CHECKED_STEPS} steps a parameter differs from the "
            f"hand-written step's by {worst:.1e} of the way it went; {TOLERANCE:.0e} is allowed"
        )
    return worst


@dataclass(frozen=True, slots=True)
class _Times:
    """Microseconds a step in each round, by the clock and by the processors."""

    wall: list[float] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)


def _interleave(running: dict[str, Step], rounds: int, milliseconds: float) -> dict[str, _Times]:
    counts = {}
    for contender, step in running.items():
        _turn(step, BATCHES)
        counts[contender] = max(BATCHES, int(milliseconds * 1000 / _turn(step, BATCHES)[1]))
    times = {contender: _Times() for contender in running}
    order = list(running)
    for number in range(rounds):
        shift = number % len(order)
        for contender in order[shift:] + order[:shift]:
            _turn(running[contender], 2)  # the caches held the other's arrays
            wall, processor = _turn(running[contender], counts[contender])
            times[contender].wall.append(wall)
            times[contender].processor.append(processor)
    return times


def _turn(step: Step, count: int) -> tuple[float, float]:
    """Return the mean microseconds of ``count`` steps, by the clock and by the processors."""
    start, busy = time.perf_counter(), time.process_time()
    for k in range(count):
        step(k % BATCHES)
    end, busy_end = time.perf_counter(), time.process_time()
    return (end - start) / count * 1e6, (busy_end - busy) / count * 1e6


def _memory(step: Step) -> tuple[int, int, int]:
    """Return the peak and the growth of traced memory over many steps, and that of the process."""
    before, between = MEMORY_STEPS
    gc.collect()
    tracemalloc.start()
    _turn(step, before)
    gc.collect()
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.reset_peak()
    _turn(step, between)
    _, peak = tracemalloc.get_traced_memory()
    gc.collect()
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    _turn(step, before)
    resident = _resident()
    _turn(step, between)
    return peak - held, after - held, _resident() - resident


def _resident() -> int:
    """Return the bytes that the process has in memory; 0 where there is no way to know."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except OSError:
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "unknown"


def _machine() -> dict[str, str]:
    processor = platform.processor() or platform.machine()
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                processor = line.partition(":")[2].strip()
                break
    except OSError:
        pass
    return {"system": platform.system(), "processor": processor, "processors": f"{os.cpu_count()}"}


# --- printing


def _format(table: Table) -> str:
    lines = [
        "one step of gradient descent, squared hinge, batch 32, float32, one thread each",
        (
            f"{table.machine['processor']} ({table.machine['processors']} processors), median of "
            f"{table.rounds} interleaved rounds"
        ),
        ", ".join(f"{name} {number}" for name, number in table.versions.items()),
    ]
    for size, results in table.results.items():
        lines += [
            "",
            (
                f"{size:<15} {'µs/step':>9} {'quartiles':>16} {'processor':>9} {'by hand = 1':>11} "
                f"{'difference':>10} {'peak KiB':>9} {'held':>6} {'process':>7}"
            ),
        ]
        for contender in CONTENDERS:
            if contender not in results:
                lines.append(f"{contender:<15}   missing: {table.missing[contender]}")
                continue
            r = results[contender]
            quartiles = f"{r.low:.1f} .. {r.high:.1f}"
            lines.append(
                f"{contender:<15} {r.microseconds:>9.1f} {quartiles:>16} {r.processor:>9.1f} "
                f"{r.ratio:>11.2f} {r.difference:>10.1e} {r.peak / 1024:>9.1f} "
                f"{r.growth / 1024:>+6.1f} {r.resident_growth / 1024:>+7.0f}"
            )
    return "\n".join([
        *lines,
        "",
        "processor: µs that processors spent on a step, all threads together",
        "by hand = 1: median over the rounds of the processor time beside the hand-written step's",
        f"difference: from the hand-written step's parameters after {CHECKED_STEPS} steps, as a",
        "fraction of the way they went",
        "peak: KiB that Python and numpy allocate beyond what they hold between steps, at most",
        f"held, process: KiB by which that and the process grew over {MEMORY_STEPS[1]} steps",
    ])


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print one table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.frontend", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    parser.add_argument("--rounds", type=int, default=60, help="turns of each (default 60)")
    parser.add_argument(
        "--milliseconds", type=float, default=10.0, help="length of a turn (default 10)"
    )
    options = parser.parse_args(argv)
    if options.rounds < 1:
        parser.error(f"--rounds must be at least 1, not {options.rounds}")
    try:
        table = measure(rounds=options.rounds, milliseconds=options.milliseconds)
    except RuntimeError as error:
        print(f"benchmarks.frontend: {error}", file=sys.stderr)
        return 1
    print(json.dumps(asdict(table), indent=1) if options.json else _format(table))
    return 0


if __name__ == "__main__":
    sys.exit(main())
