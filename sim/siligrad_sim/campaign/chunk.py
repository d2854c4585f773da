"""A chunk of a campaign: a fixed number of random programs that follow from two numbers.

:func:`run_chunk` draws them, runs each on every device beside the reference and returns a record
that JSON can hold. The same plan and number give the same programs, on any machine that has the
same version of hypothesis.
"""

from __future__ import annotations

import hashlib
import time
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from siligrad.errors import SiligradError
from siligrad.isa import Geometry
from siligrad_sim.campaign.case import Case, NetworkCase, digest, to_json
from siligrad_sim.campaign.differential import Machines, Mismatch
from siligrad_sim.campaign.failure import mismatch_to_json
from siligrad_sim.campaign.trial import REFUSALS, trial_of

__all__ = ["ChunkError", "Plan", "run_chunk"]

SHRINKING_SECONDS = 30.0
"""After so long a failure is taken as small as it is."""


class ChunkError(SiligradError):
    """A chunk did not come to its programs."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a campaign runs.

    Parameters
    ----------
    seed
        Everything random follows from it.
    programs
        How many, in all chunks.
    chunk
        Programs of a chunk; the last one may have fewer.
    devices
        Names of those that run beside the reference.
    geometries
        Accelerators; chunk `i` is for number `i` of these, from the first again after the last.
    """

    seed: int
    programs: int
    chunk: int
    devices: tuple[str, ...]
    geometries: tuple[Geometry, ...]

    @property
    def chunks(self) -> int:
        """How many chunks there are."""
        return -(-self.programs // self.chunk)

    def programs_of(self, number: int) -> int:
        """Programs of the chunk of that number."""
        return min(self.chunk, self.programs - number * self.chunk)

    def identity(self) -> dict[str, Any]:
        """Return what makes results of one campaign comparable, as what :mod:`json` writes."""
        return {
            "seed": self.seed,
            "programs": self.programs,
            "chunk": self.chunk,
            "devices": list(self.devices),
            "geometries": [asdict(geometry) for geometry in self.geometries],
            "hypothesis": _hypothesis(),
            "sources": _sources(),
        }


def _hypothesis() -> str:
    """Return the version of what draws: another one draws other programs."""
    try:
        return version("hypothesis")
    except PackageNotFoundError:
        return "missing"


@cache
def _sources() -> str:
    """Return a hash of the sources of all that takes part, the hardware's if it is installed."""
    digest_so_far = hashlib.sha256()
    for package in ("siligrad", "siligrad_hdl", "siligrad_sim"):
        found = find_spec(package)
        if found is not None and found.origin is not None:
            for path in sorted(Path(found.origin).parent.rglob("*.py")):
                digest_so_far.update(path.read_bytes())
    return digest_so_far.hexdigest()[:16]


class _DiffersError(AssertionError):
    """A device and the reference differ: what hypothesis shrinks."""


def run_chunk(
    plan: Plan,
    number: int,
    *,
    machines: Machines | None = None,
    stopped: Callable[[], bool] = lambda: False,
    advance: Callable[[int, str], None] = lambda steps, text: None,
) -> dict[str, Any]:
    """Run a chunk and return its record.

    Parameters
    ----------
    plan, number
        Which chunk of what.
    machines
        Devices that are open; without, they are opened and closed.
    stopped, advance
        As :mod:`siligrad.long_work` gives them.

    Returns
    -------
    dict
        ``chunk``; ``programs``, a list of ``id``, ``case`` (its digest), ``kind``, ``words``,
        ``cycles``, ``saturations``; ``array``, ``operand_bits``; ``discarded``, the refusals by
        kind; ``seconds``; ``failure``, null or ``case`` and ``difference``. A chunk with a failure
        has no programs behind it.

    Raises
    ------
    KeyboardInterrupt
        If it was stopped.
    ChunkError
        If hypothesis came to fewer programs than there should be.
    """
    if machines is None:
        with Machines() as opened:
            return run_chunk(plan, number, machines=opened, stopped=stopped, advance=advance)
    began = time.monotonic()
    work = _Work(plan, number, machines, stopped, advance)
    failure = work.run()
    wanted = plan.programs_of(number)
    if failure is None and len(work.programs) < wanted:
        raise ChunkError(
            f"chunk {number}: {len(work.programs)} different programs were drawn, not {wanted}"
        )
    geometry = work.geometry
    return {
        "chunk": number,
        "array": geometry.array,
        "operand_bits": geometry.operand_bits,
        "programs": work.programs,
        "discarded": dict(sorted(work.discarded.items())),
        "seconds": round(time.monotonic() - began, 3),
        "failure": failure,
    }


class _Work:
    """What is known while a chunk runs."""

    def __init__(
        self,
        plan: Plan,
        number: int,
        machines: Machines,
        stopped: Callable[[], bool],
        advance: Callable[[int, str], None],
    ) -> None:
        self.plan = plan
        self.number = number
        self.machines = machines
        self.stopped = stopped
        self.advance = advance
        self.geometry = plan.geometries[number % len(plan.geometries)]
        self.programs: list[dict[str, Any]] = []
        self.discarded: Counter[str] = Counter()
        self.smallest: tuple[Case, Mismatch] | None = None
        self.failed_at = 0.0

    def run(self) -> dict[str, Any] | None:
        """Draw and run all programs; return the failure if there is one, shrunk."""
        try:
            from hypothesis import HealthCheck, Phase, given, seed, settings  # noqa: PLC0415
            from hypothesis.errors import Flaky  # noqa: PLC0415
        except ImportError as error:
            raise ChunkError(
                "random programs need the Python package hypothesis: pip install 'siligrad[verify]'"
            ) from error
        from siligrad_sim.campaign.drawing import cases  # noqa: PLC0415

        first_seed = ((self.plan.seed << 24) + self.number << 16) % (1 << 63)

        @seed(self.plan.seed << 32 | self.number)
        @settings(
            max_examples=self.plan.programs_of(self.number),
            database=None,
            derandomize=False,
            deadline=None,
            phases=[Phase.generate, Phase.shrink],
            suppress_health_check=list(HealthCheck),
            report_multiple_bugs=False,
            print_blob=False,
        )
        @given(case=cases([self.geometry], first_seed=first_seed))
        def check(case: Case) -> None:
            self.check(case)

        try:
            with warnings.catch_warnings():
                # Of a Dask worker's other threads, which use Python's own generator; we do not.
                warnings.filterwarnings("ignore", "Do not use the `random` module")
                check()
        except (_DiffersError, Flaky):
            assert self.smallest is not None
            case, mismatch = self.smallest
            return {"case": to_json(case), "difference": mismatch_to_json(mismatch)}
        return None

    def check(self, case: Case) -> None:
        """Run one program on all devices; raise if one differs."""
        from hypothesis import reject  # noqa: PLC0415

        if self.stopped():
            raise KeyboardInterrupt
        shrinking = self.smallest is not None
        if shrinking and time.monotonic() > self.failed_at + SHRINKING_SECONDS:
            assert self.smallest is not None
            if case != self.smallest[0]:
                return
        try:
            trial = trial_of(case)
        except REFUSALS as error:
            if not shrinking:
                self.discarded[type(error).__name__] += 1
            reject()
        name = digest(case)
        words = cycles = saturations = 0
        for device in self.plan.devices:
            result = self.machines.compare(trial, device)
            if result.mismatch is not None:
                if not shrinking:
                    self.failed_at = time.monotonic()
                self.smallest = (case, result.mismatch)
                raise _DiffersError(str(result.mismatch))
            words += result.words
            cycles += result.cycles
            saturations += result.saturations
        if shrinking:
            return
        self.programs.append({
            "id": f"{self.number}.{len(self.programs)}",
            "case": name,
            "kind": "network" if isinstance(case, NetworkCase) else "bare",
            "words": words,
            "cycles": cycles,
            "saturations": saturations,
        })
        self.advance(1, "")
