"""``siligrad selftest``: whether a device's memories hold, and whether it trains as it should."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from siligrad import compiler, losses, nn
from siligrad.autodiff import grad
from siligrad.device import Device, DeviceUnavailable, device_class
from siligrad.errors import SiligradError
from siligrad.host import HostDevice
from siligrad.isa import ARRAY_SIZES, Geometry, Memory
from siligrad.long_work import progress_bar
from siligrad.program import Program
from siligrad_cli.memory_test import BankStore, LineStore, Store, examine, words_moved
from siligrad_cli.options import natural, positive
from siligrad_sim.lockstep import Lockstep
from siligrad_sim.reference import ReferenceDevice

__all__ = ["Check", "SelftestError", "add_parser", "selftest"]

_RUNS = 2
"""Training steps that are compared."""

_NETWORKS = (((16, 12, 4), 8), ((5, 4, 3), 4), ((2, 2, 1), 2))
"""Layers and batch of what is trained, the largest first: the first that fits is taken."""

_DEPTH, _LINES = 256, 128
"""Of what is opened where a device is made for any geometry."""


class SelftestError(SiligradError):
    """A device did not pass."""


@dataclass(frozen=True, slots=True)
class Check:
    """What came of one check.

    Parameters
    ----------
    name
        What was looked at.
    detail
        How.
    error
        What is wrong; None if nothing is.
    skipped
        Why it was left out; None if it was not.
    seconds
        It took.
    """

    name: str
    detail: str
    error: str | None = None
    skipped: str | None = None
    seconds: float = 0.0

    @property
    def result(self) -> str:
        """``passed``, ``FAILED`` or ``skipped``."""
        return "FAILED" if self.error else "skipped" if self.skipped else "passed"


def add_parser(commands: Any) -> None:
    """Add the command to the subparsers of ``siligrad``."""
    parser = commands.add_parser(
        "selftest",
        help="test a device: its memories, a training step, the cycle counter",
        description="Open a device, write and read every word of its memories, train a small "
        "network on it beside the reference, and compare every word, counter and cycle. What the "
        "device held is lost. Exits with 1 if anything is wrong.",
    )
    parser.add_argument(
        "--device",
        required=True,
        metavar="NAME",
        help="such as serial:/dev/ttyUSB0, or a simulator",
    )
    parser.add_argument(
        "--array",
        type=positive,
        default=4,
        metavar="N",
        help="size of the array of a device that is made as it is asked for (default 4)",
    )
    parser.add_argument(
        "--seed", type=natural, default=0, metavar="K", help="of what is random (default 0)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.set_defaults(run=_command)


def _command(options: argparse.Namespace) -> int:
    kind = device_class(options.device)
    if (reason := kind.available()) is not None:
        raise DeviceUnavailable(f"device {options.device!r} cannot be used here: {reason}")
    geometry = kind.geometry_of()
    if geometry is None:
        if options.array not in ARRAY_SIZES:
            raise SelftestError(
                f"--array must be from {ARRAY_SIZES.start} to {ARRAY_SIZES.stop - 1}, not "
                f"{options.array}"
            )
        depths = dict.fromkeys(("x_depth", "w_depth", "e_depth"), _DEPTH)
        geometry = Geometry(array=options.array, program_depth=_LINES, **depths)
    with kind(geometry) as device:
        checks = list(selftest(device, options.seed))
        counters = dict(device.counters)
    if options.json:
        record = {
            "device": options.device,
            "passed": not any(check.error for check in checks),
            "checks": [
                {
                    "name": check.name,
                    "result": check.result,
                    "detail": check.detail,
                    "error": check.error,
                    "skipped": check.skipped,
                    "seconds": round(check.seconds, 3),
                }
                for check in checks
            ],
            "link": counters,
        }
        print(json.dumps(record, indent=1))
    else:
        print(_table(checks, counters))
    failed = [check for check in checks if check.error]
    for check in failed:
        print(f"siligrad: {options.device}: {check.name}: {check.error}", file=sys.stderr)
    return 1 if failed else 0


def selftest(device: Device, seed: int) -> Iterator[Check]:
    """Yield the checks of a device as they are made; what it held is lost.

    Raises
    ------
    DeviceError
        If it does not answer any more.
    """
    geometry = device.geometry
    lock = ", locked" if device.locked else ""
    yield Check(
        "geometry",
        f"{geometry.array} x {geometry.array}, words of {geometry.word_bits} bits, operands of "
        f"{geometry.operand_bits}, sums of {geometry.sum_bits}{lock}",
    )
    for memory in Memory:
        yield _memory(memory.name, BankStore(device, memory), device, memory == Memory.W, seed)
    if isinstance(device, HostDevice):
        yield _memory("program", LineStore(device), device, True, seed)
    else:
        detail = f"{geometry.program_depth} lines"
        yield Check("program", detail, skipped="the device has no host port to read it through")
    yield _registers(device, seed)
    yield _training(device, seed)


def _memory(name: str, store: Store, device: Device, kept: bool, seed: int) -> Check:
    """Test a memory, unless a lock keeps it."""
    detail = f"{store.depth * store.columns} words: addresses, march, random"
    if device.locked and kept:
        return Check(name, detail, skipped="the accelerator is locked")
    begin = time.monotonic()
    with progress_bar(words_moved(store), what=f"memory {name}") as advance:
        error = examine(store, seed, lambda words: advance(words, ""))
    return Check(name, detail, error, seconds=time.monotonic() - begin)


def _registers(device: Device, seed: int) -> Check:
    """Write the shift registers and read them again."""
    begin = time.monotonic()
    rng = np.random.default_rng(seed)
    error = None
    drawn = rng.integers(1, 1 << 32, device.geometry.array).tolist()
    for states in (drawn, [state ^ 0xFFFFFFFF or 1 for state in drawn]):
        device.write_lfsr(states)
        for lane, (wrote, read) in enumerate(zip(states, device.read_lfsr(), strict=True)):
            if wrote != read:
                error = error or f"lane {lane} reads {read:#010x} where {wrote:#010x} was written"
    detail = f"{len(drawn)} lanes of stochastic rounding"
    return Check("shift registers", detail, error, seconds=time.monotonic() - begin)


def _training(device: Device, seed: int) -> Check:
    """Train a small network on the device, beside the reference."""
    name = "training"
    if device.locked:
        return Check(name, "a built-in network", skipped="the accelerator is locked")
    begin = time.monotonic()
    rng = np.random.default_rng(seed)
    made = _network(device.geometry, rng)
    if made is None:
        return Check(name, "a built-in network", skipped="none fits the memories")
    program, layers, draw = made
    pair = Lockstep(ReferenceDevice(device.geometry), device)
    limit = (1 << device.geometry.word_bits - 1) - 1
    for memory in Memory:
        # Both begin with the same words, also where no tensor lies.
        shape = device.geometry.depth(memory), device.geometry.array
        words = rng.integers(-limit, limit + 1, shape, dtype=np.int32)
        pair.reference.write_words(memory, 0, words)
        device.write_words(memory, 0, words)
    pair.load(program, seed=seed)
    error = None
    compared = 0
    for number in range(_RUNS):
        result = pair.run(*draw())
        compared += result.words_compared
        if result.first is not None and error is None:
            error = f"step {number + 1} of {layers}: {result.first}"
            if result.words_different:
                error += f"; {result.words_different} of {result.words_compared} words differ"
    detail = f"{_RUNS} steps of {layers}, {compared} words, {program.cycles} cycles each"
    return Check(name, detail, error, seconds=time.monotonic() - begin)


def _network(
    geometry: Geometry, rng: np.random.Generator
) -> tuple[Program, str, Callable[[], tuple[NDArray[Any], NDArray[Any]]]] | None:
    """Return the step of a network that fits, its layers, and what draws a batch for it."""
    target = compiler.Target(**asdict(geometry))
    for layers, batch in _NETWORKS:

        def draw(layers: tuple[int, ...] = layers, batch: int = batch) -> Any:
            x = rng.random((batch, layers[0]))
            return x, losses.one_vs_rest(rng.integers(0, layers[-1], batch), layers[-1])

        params = nn.perceptron(rng, list(layers))
        try:
            program = compiler.compile(_step, params, *draw(), donate=0, target=target, headroom=2)
        except SiligradError:
            continue
        return program, "-".join(map(str, layers)), draw
    return None


def _step(params: Any, x: Any, y: Any) -> Any:
    """One step of gradient descent."""

    def loss(params: Any) -> Any:
        return losses.squared_hinge(nn.predict(params, x), y)

    slopes = grad(loss)(params)
    return [
        (W - 2**-4 * dW, b - 2**-4 * db) for (W, b), (dW, db) in zip(params, slopes, strict=True)
    ]


def _table(checks: list[Check], counters: dict[str, int]) -> str:
    rows = [(check.name, check.result, check.detail, check.skipped or "") for check in checks]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    if counters:
        counted = ", ".join(f"{count} {name}" for name, count in counters.items())
        lines.append(f"link: {counted}")
    return "\n".join(lines)
