"""Flip one bit in the middle of a training step, and see what becomes of it.

The step is run once undisturbed; then again and again from the same state, each time with another
bit that flips in another cycle. What is compared is all that the accelerator remembers.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from siligrad.device import DeviceError, OverrunError
from siligrad.isa import Memory, encode_program
from siligrad.lfsr import seed_lanes
from siligrad.registers import Register, Status
from siligrad.timing import run_cycles
from siligrad_sim.benches.programs import Step, draw_words, training_step
from siligrad_sim.faults.device import FlippingDevice, Part

__all__ = ["CLASSES", "Experiment", "Flip", "Outcome", "Result", "Row", "inject"]

State = dict[str, NDArray[np.uint32]]


class Outcome(Enum):
    """What a run with a flipped bit does; only the first that is true counts."""

    NEVER_ENDED = "still busy after its limit"
    OVERRUN = "ended by the watchdog"
    CYCLES = "other cycles than promised"
    NOT_DONE = "ended, but not as it should"
    SATURATIONS = "wrong words, or none, and wrong counters of saturations"
    WRONG = "wrong words, nothing tells"
    ITS_WORD = "the flipped word alone is wrong"
    LATER = "this run is right, the next is not"
    NONE = "no effect"


@dataclass(frozen=True, slots=True)
class Flip:
    """A bit that flips when a run has been busy for `cycle` cycles."""

    cycle: int
    part: str
    word: int
    bit: int


@dataclass(frozen=True, slots=True)
class Result:
    """What became of a flip.

    Parameters
    ----------
    flip
        Which.
    outcome
        Of the run in which it was.
    program_changed
        Whether the program reads back changed afterwards.
    recovered
        Whether a run of the same step is right after its words, its program and the shift registers
        have been written again, without a reset.
    """

    flip: Flip
    outcome: Outcome
    program_changed: bool
    recovered: bool


@dataclass
class Row:
    """What became of all flips of a class."""

    outcomes: Counter[Outcome] = field(default_factory=Counter)
    program_changed: int = 0
    """After which the program read back changed."""
    lasting: int = 0
    """After which writing everything again was not enough."""

    def add(self, result: Result) -> None:
        """Count a result."""
        self.outcomes[result.outcome] += 1
        self.program_changed += result.program_changed
        self.lasting += not result.recovered


CLASSES: Mapping[str, str] = {
    "X": r"memory_x bank_\d+ memory",
    "W": r"memory_w bank_\d+ memory",
    "E": r"memory_e bank_\d+ memory",
    "program": r"program word_\d+ memory",
    "fetch": r"sequencer fetch .*|program word_\d+ read\S*",
    "stream": r"sequencer stream .*",
    "queues": r"sequencer (aux|epilogue\S*|write) .*",
    "rest of sequencer": r"sequencer [^ ]+",
    "watchdog": r"watchdog .*",
    "host registers": r"host .*|busy\$\d+|load",  # two of them lie outside it
    "addresses": r"(writer|memory_[xwe]) [^ ]+",
    "words on their way": r"(writer|memory_[xwe]) rotator .*|memory_[xwe] bank_\d+ read\S*",
    "array and epilogue": r"(array|epilogue\S*|operands\S*) .*",
    "saturations": r"saturations\S* .*",
}
"""What is flipped: registers and memories by their names. Each is of one class."""

_WORDS = re.compile(r"memory_[xwe] bank_\d+ memory|saturations\S* sums memory")
_RESULTS = re.compile(rf"{_WORDS.pattern}|epilogue\S* lane_\d+ lfsr state")
_PROGRAM = re.compile(CLASSES["program"])
_COUNTERS = re.compile(r"saturations\S* sums memory")
_LOADED = (_RESULTS, _PROGRAM)

_SEED = 3


class Experiment:
    """A training step on an accelerator whose bits flip.

    Parameters
    ----------
    array
        N; the batch and the layers are a little smaller, or larger.
    """

    def __init__(self, array: int = 3) -> None:
        self.step: Step = training_step(
            array, batch=array - 1, inputs=array + 1, hidden=array, outputs=array - 1
        )
        geometry = self.step.geometry
        self.cycles = run_cycles(self.step.instructions, array)
        self.device = FlippingDevice(geometry)
        words = draw_words(np.random.default_rng(_SEED), geometry, "coarse")
        self.device.write_lines(encode_program(self.step.instructions))
        for memory in Memory:
            self.device.write_words(memory, 0, words[memory])
        self.device.write_lfsr(seed_lanes(_SEED, array))
        self.device.read_register(Register.STATUS)  # what was written last has arrived then
        self._ready = self.device.state()
        self._after = [self._run_on(), self._run_on()]

    def _run_on(self) -> State:
        """Run the step, which must take as long as it promises, and return what it leaves."""
        took = self.device.execute(self.step.loop, self.cycles)
        if took != self.cycles:
            raise DeviceError(f"an undisturbed run took {took} cycles, not {self.cycles}")
        return self.device.state()

    def parts(self, name: str) -> list[Part]:
        """Return the registers and memories of a class."""
        pattern = re.compile(CLASSES[name])
        return [part for part in self.device.parts.values() if pattern.fullmatch(part.name)]

    def flips(self, name: str, count: int, seed: int) -> Iterator[Flip]:
        """Draw flips of a class: any of its bits, any cycle of the run but the last."""
        rng = np.random.default_rng([seed, list(CLASSES).index(name)])
        parts = self.parts(name)
        sizes = np.array([part.bits * part.words for part in parts])
        for _ in range(count):
            part = parts[int(rng.choice(len(parts), p=sizes / sizes.sum()))]
            yield Flip(
                int(rng.integers(1, self.cycles)),
                part.name,
                int(rng.integers(part.words)),
                int(rng.integers(part.bits)),
            )

    def run(self, flip: Flip | None) -> Result:
        """Run the step with a flip, or without one; from the same state each time."""
        self.device.restore(self._ready)
        if flip is not None:
            self.device.flip_in_run(flip.cycle, flip.part, flip.word, flip.bit)
        outcome = self._outcome(flip)
        changed = bool(_different(self._ready, self.device.state(), _PROGRAM))
        recovered = outcome is not Outcome.NEVER_ENDED
        if recovered:
            self.device.restore(self._ready, only=_LOADED)
            recovered = self._runs_as_promised(self._after[0])
        return Result(flip or Flip(0, "", 0, 0), outcome, changed, recovered)

    def _outcome(self, flip: Flip | None) -> Outcome:
        try:
            took = self.device.execute(self.step.loop, self.cycles)
        except OverrunError:
            status = Status(self.device.read_register(Register.STATUS))
            return Outcome.OVERRUN if status & Status.OVERRUN else Outcome.CYCLES
        except DeviceError:
            status = Status(self.device.read_register(Register.STATUS))
            return Outcome.NEVER_ENDED if status & Status.BUSY else Outcome.NOT_DONE
        if took != self.cycles:
            return Outcome.CYCLES
        after = self.device.state()
        wrong = _different(self._after[0], after, _RESULTS)
        if wrong:
            if flip is not None and wrong == {(flip.part, flip.word)} and _WORDS.match(flip.part):
                return Outcome.ITS_WORD
            counters = _different(self._after[0], after, _COUNTERS)
            return Outcome.SATURATIONS if counters else Outcome.WRONG
        if _different(self._after[0], after, re.compile("")) and not self._runs_as_promised(
            self._after[1]
        ):
            return Outcome.LATER
        return Outcome.NONE

    def _runs_as_promised(self, expected: State) -> bool:
        """Run once more; return whether that leaves what is expected, in the promised cycles."""
        try:
            took = self.device.execute(self.step.loop, self.cycles)
        except DeviceError:
            return False
        return took == self.cycles and not _different(expected, self.device.state(), _RESULTS)


def _different(first: State, second: State, names: re.Pattern[str]) -> set[tuple[str, int]]:
    """Return the words in which two states differ, of what has such a name."""
    return {
        (name, int(word))
        for name, words in first.items()
        if names.match(name)
        for word in np.flatnonzero(words != second[name])
    }


def inject(
    experiment: Experiment,
    classes: Sequence[str],
    count: int,
    seed: int,
    *,
    advance: Callable[[int, str], None] = lambda steps, text: None,
    stopped: Callable[[], bool] = lambda: False,
) -> dict[str, Row]:
    """Flip `count` bits of each class, one in each run, and return what became of them.

    Parameters
    ----------
    experiment
        The step.
    classes
        Names of :data:`CLASSES`.
    count, seed
        How many flips, and from what they follow.
    stopped, advance
        As :mod:`siligrad.long_work` gives them; a step is a flip.
    """
    rows = {}
    for name in classes:
        rows[name] = Row()
        for flip in experiment.flips(name, count, seed):
            if stopped():
                return rows
            rows[name].add(experiment.run(flip))
            advance(1, name)
    return rows
