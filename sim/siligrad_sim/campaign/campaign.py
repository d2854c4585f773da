"""Campaigns: chunks of random programs, one after the other or on a Dask cluster.

Every chunk that has ended leaves a file in the campaign's folder, written beside and renamed. What
is on disk is done; a campaign that was stopped, or whose workers died, goes on with the others. The
files are written here and not by the workers, so these need no folder in common.
"""

from __future__ import annotations

import json
import logging
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from siligrad.errors import DataError, SiligradError
from siligrad.files import replacing
from siligrad_sim.campaign.case import digest, from_json
from siligrad_sim.campaign.chunk import Plan, run_chunk
from siligrad_sim.campaign.differential import Machines
from siligrad_sim.campaign.failure import save_failure
from siligrad_sim.campaign.trial import trial_of

__all__ = ["CampaignError", "Summary", "finished_chunks", "run_campaign", "summarize"]

RECORD_SIZE_MAX = 1 << 26
"""Largest file of a chunk that is read, in bytes."""

CONNECTING_SECONDS = 10
"""How long a Dask scheduler may take to answer."""

_MOST_DEATHS = 5
"""Workers that may die while they run the same chunk before the campaign gives up."""


class CampaignError(SiligradError):
    """A campaign cannot be run or gone on with."""


@dataclass
class Summary:
    """What the chunks of a campaign that are on disk found.

    Parameters
    ----------
    programs
        Run on all devices.
    distinct
        Of these, different as cases.
    words, cycles, saturations
        Sums over programs, runs and devices.
    seconds
        Of work; several workers have several in one.
    by_kind, by_array
        Programs of each kind, and on arrays of each size.
    discarded
        Cases that have no program, by what refused them.
    failures
        Folders of programs on which a device differs, with the first difference.
    missing
        Chunks that are not on disk.
    """

    programs: int = 0
    distinct: int = 0
    words: int = 0
    cycles: int = 0
    saturations: int = 0
    seconds: float = 0.0
    by_kind: Counter[str] = field(default_factory=Counter)
    by_array: Counter[int] = field(default_factory=Counter)
    discarded: Counter[str] = field(default_factory=Counter)
    failures: list[tuple[Path, str]] = field(default_factory=list)
    missing: list[int] = field(default_factory=list)


def run_campaign(
    plan: Plan,
    folder: Path,
    *,
    scheduler: str = "local",
    workers: int = 1,
    stopped: Callable[[], bool] = lambda: False,
    advance: Callable[[int, str], None] = lambda steps, text: None,
) -> Summary:
    """Run the chunks that are not in `folder` yet and return what all of them found.

    Parameters
    ----------
    plan
        What is run.
    folder
        Where chunks leave their files, and failures their folders; made if it is not there.
    scheduler
        ``local``, for processes of this machine, or the address of a Dask cluster, whose workers
        must have this siligrad.
    workers
        Local processes; with one, everything happens in this one, without Dask.
    stopped, advance
        As :mod:`siligrad.long_work` gives them; a step is a program.

    Raises
    ------
    CampaignError
        If `folder` holds another campaign, or the cluster cannot be used.
    siligrad.device.DeviceError
        If a device cannot be opened.
    """
    _claim(plan, folder)
    done = finished_chunks(plan, folder)
    waiting = [number for number in range(plan.chunks) if number not in done]
    if scheduler == "local" and workers == 1:
        records = _run_here(plan, waiting, stopped, advance)
    else:
        records = _run_on_cluster(plan, waiting, scheduler, workers, stopped, advance)
    for record in records:
        _keep(record, folder)
    return summarize(plan, folder)


def finished_chunks(plan: Plan, folder: Path) -> dict[int, dict[str, Any]]:
    """Return the records of the chunks that are on disk, by number.

    Raises
    ------
    CampaignError
        If a file cannot be read or is no record of `plan`.
    """
    found = {}
    for path in sorted(folder.glob("chunk-*.json")):
        record = _read_json(path)
        try:
            number = record["chunk"]
            ids = [program["id"] for program in record["programs"]]
            count = plan.programs_of(number)
            whole = len(ids) == count or (record["failure"] is not None and len(ids) < count)
            right = path == _record_path(folder, number) and 0 <= number < plan.chunks
        except (KeyError, TypeError) as error:
            raise CampaignError(f"{path} is no record of a chunk: {error!r}") from error
        if not (whole and right and ids == [f"{number}.{index}" for index in range(len(ids))]):
            raise CampaignError(
                f"{path} is not a record of {count} programs of chunk {number}; remove it, "
                "and the chunk is run again"
            )
        found[number] = record
    return found


def summarize(plan: Plan, folder: Path) -> Summary:
    """Return what the chunks in `folder` found.

    Raises
    ------
    CampaignError
        If a file cannot be read or is no record of `plan`.
    """
    records = finished_chunks(plan, folder)
    summary = Summary(missing=[each for each in range(plan.chunks) if each not in records])
    different = set()
    for record in records.values():
        summary.seconds += record["seconds"]
        summary.by_array[record["array"]] += len(record["programs"])
        summary.discarded.update(record["discarded"])
        for program in record["programs"]:
            summary.programs += 1
            summary.by_kind[program["kind"]] += 1
            summary.words += program["words"]
            summary.cycles += program["cycles"]
            summary.saturations += program["saturations"]
            different.add(program["case"])
        if record["failure"] is not None:
            place = folder / record["failure"]["folder"]
            summary.failures.append((place, record["failure"]["message"]))
    summary.distinct = len(different)
    return summary


# What is on disk.


def _record_path(folder: Path, number: int) -> Path:
    return folder / f"chunk-{number:05d}.json"


def _read_json(path: Path) -> Any:
    try:
        if path.stat().st_size > RECORD_SIZE_MAX:
            raise CampaignError(f"{path} is larger than {RECORD_SIZE_MAX} bytes")
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CampaignError(f"{path} cannot be read: {error}; remove it") from error


def _claim(plan: Plan, folder: Path) -> None:
    """Make `folder` this campaign's, or check that it is."""
    path = folder / "campaign.json"
    # Through JSON, so that it compares equal to what is read.
    identity = json.loads(json.dumps(plan.identity()))
    if path.exists():
        found = _read_json(path)
        different = [
            f"{name} {found.get(name)!r} instead of {value!r}"
            for name, value in identity.items()
            if not isinstance(found, dict) or found.get(name) != value
        ]
        if different:
            raise CampaignError(
                f"{folder} holds another campaign: its {', '.join(different)}; "
                "choose another folder, or the same options"
            )
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with replacing(path) as beside:
            beside.write_text(json.dumps(identity, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise CampaignError(f"{folder} cannot be written: {error.strerror or error}") from error


def _keep(result: dict[str, Any], folder: Path) -> None:
    """Write what a chunk found, a failure first."""
    record = dict(result)
    if record["failure"] is not None:
        case = from_json(record["failure"]["case"])
        trial = trial_of(case)
        device = record["failure"]["difference"]["device"]
        with Machines() as machines:
            mismatch = machines.compare(trial, device).mismatch
        if mismatch is None:
            raise CampaignError(
                f"chunk {record['chunk']}: {device} differed "
                f"({record['failure']['difference']['message']}), but not when it ran again; "
                f"the case is {json.dumps(record['failure']['case'])}"
            )
        name = f"failure-{device}-{digest(case)}"
        origin = {
            "what": f"program {len(record['programs'])} of chunk {record['chunk']}, shrunk",
            "case": record["failure"]["case"],
        }
        save_failure(folder / name, trial, mismatch, origin)
        record["failure"] = {"folder": name, "message": str(mismatch)}
    path = _record_path(folder, record["chunk"])
    try:
        with replacing(path) as beside:
            beside.write_text(json.dumps(record) + "\n", encoding="utf-8")
    except OSError as error:
        raise DataError(f"{path} cannot be written: {error.strerror or error}") from error


# Who runs the chunks.


def _run_here(
    plan: Plan,
    waiting: Iterable[int],
    stopped: Callable[[], bool],
    advance: Callable[[int, str], None],
) -> Iterator[dict[str, Any]]:
    with Machines() as machines:
        for number in waiting:
            if stopped():
                return
            try:
                yield run_chunk(plan, number, machines=machines, stopped=stopped, advance=advance)
            except KeyboardInterrupt:
                return


def _run_on_cluster(
    plan: Plan,
    waiting: Sequence[int],
    scheduler: str,
    workers: int,
    stopped: Callable[[], bool],
    advance: Callable[[int, str], None],
) -> Iterator[dict[str, Any]]:
    if not waiting:
        return
    with _cluster(scheduler, workers) as client:
        import distributed  # noqa: PLC0415  (heavy, and not needed by one process)

        # A chunk is done again when its worker dies. Its name is that of its result.
        name = f"chunk-{zlib.crc32(json.dumps(plan.identity()).encode()):08x}"
        futures = {client.submit(run_chunk, plan, each, key=f"{name}-{each}") for each in waiting}
        while futures and not stopped():
            try:
                ended = distributed.wait(  # type: ignore[no-untyped-call]
                    futures, timeout=1, return_when="FIRST_COMPLETED"
                ).done
            except TimeoutError:
                continue
            futures -= ended
            for future in ended:
                try:
                    record = future.result()
                except distributed.KilledWorker as error:
                    raise CampaignError(
                        f"{_MOST_DEATHS} workers died while they ran {future.key}; what was "
                        "finished before is kept"
                    ) from error
                advance(len(record["programs"]), "")
                yield record


@contextmanager
def _cluster(scheduler: str, workers: int) -> Iterator[Any]:
    """Give a Dask client; the processes of a local cluster end with it."""
    try:
        # Before anything is set: what it sets itself would go again with that.
        import distributed  # noqa: PLC0415
        from dask import config  # noqa: PLC0415
    except ImportError as error:
        raise CampaignError(
            "several workers need the Python package distributed: pip install 'siligrad[verify]'"
        ) from error
    # What Dask has to say of a worker that dies is told here, if it matters.
    quiet = {
        "logging.distributed": "critical",
        "distributed.scheduler.allowed-failures": _MOST_DEATHS - 1,
    }
    with config.set(quiet), ExitStack() as opened:
        logging.getLogger("distributed").setLevel(logging.CRITICAL)
        address: Any = scheduler
        if scheduler == "local":
            address = distributed.LocalCluster(  # type: ignore[no-untyped-call]
                n_workers=workers,
                processes=True,
                threads_per_worker=1,
                dashboard_address="127.0.0.1:0",
                silence_logs=logging.CRITICAL,
                memory_limit=0,
            )
            opened.enter_context(address)
        try:
            client = distributed.Client(  # type: ignore[no-untyped-call]
                address, timeout=CONNECTING_SECONDS
            )
        except (OSError, ValueError) as error:
            raise CampaignError(f"no Dask scheduler answers at {scheduler}: {error}") from error
        yield opened.enter_context(client)
