"""``siligrad prove``: runs the proofs of the hardware, and the faults that each must notice."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any

from siligrad.errors import SiligradError
from siligrad.isa import ARRAY_SIZES
from siligrad.long_work import progress
from siligrad_cli.options import positive

if TYPE_CHECKING:
    from siligrad_sim.formal.proof import Outcome, Proof

__all__ = ["ProveError", "add_parser"]


class ProveError(SiligradError):
    """The proofs cannot be run."""


def add_parser(commands: Any) -> None:
    """Add the command to the subparsers of ``siligrad``."""
    parser = commands.add_parser(
        "prove",
        help="prove what programs count on of the hardware that is built",
        description="Run the proofs of docs/verification.md, each with faults put into the "
        "hardware that it must notice. Exits with 1 if a proof fails or a fault is not noticed.",
    )
    parser.add_argument(
        "--only", nargs="+", metavar="NAME", default=[], help="these proofs (default: all)"
    )
    parser.add_argument(
        "--array",
        type=_sizes,
        metavar="N[,N...]",
        default=(4,),
        help="sizes of the array, for proofs that depend on it (default: 4)",
    )
    parser.add_argument(
        "--jobs", type=positive, default=1, metavar="J", help="proofs at a time (default: 1)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.set_defaults(run=_run)


def _sizes(text: str) -> tuple[int, ...]:
    sizes = []
    for item in text.split(","):
        if not item.strip().isdecimal() or int(item) not in ARRAY_SIZES:
            raise argparse.ArgumentTypeError(
                f"an array has a size from {ARRAY_SIZES.start} to {ARRAY_SIZES.stop - 1}, "
                f"not {item!r}"
            )
        sizes.append(int(item))
    return tuple(dict.fromkeys(sizes))


def _run(options: argparse.Namespace) -> int:
    from siligrad_sim.formal.tools import tools_missing  # noqa: PLC0415

    if (missing := tools_missing()) is not None:
        raise ProveError(missing)
    proofs = _chosen(options.only)
    tasks = [
        (proof.name, array)
        for proof in proofs
        for array in (options.array if proof.per_array else options.array[:1])
    ]
    found = dict(progress(_outcomes(tasks, options.jobs), "proofs", len(tasks)))
    outcomes = [found[task] for task in tasks]
    if options.json:
        print(json.dumps([_record(outcome) for outcome in outcomes], indent=2))
    else:
        _print_table(outcomes)
    return 0 if all(outcome.passed for outcome in outcomes) else 1


def _chosen(names: Sequence[str]) -> list[Proof]:
    # Needs Amaranth and Z3, which may not be installed.
    from siligrad_sim.formal.catalogue import PROOFS  # noqa: PLC0415

    known = {proof.name: proof for proof in PROOFS}
    for name in names:
        if name not in known:
            raise ProveError(f"there is no proof {name!r}; there are {', '.join(known)}")
    return [proof for proof in PROOFS if not names or proof.name in names]


def _outcomes(
    tasks: Sequence[tuple[str, int]], jobs: int
) -> Iterator[tuple[tuple[str, int], Outcome]]:
    """Run the tasks, each a proof and N, and yield what became of each as it ends."""
    if jobs == 1 or len(tasks) == 1:
        for task in tasks:
            yield task, _prove(*task)
        return
    # Processes of their own: Z3 is not to be used by two threads.
    with ProcessPoolExecutor(min(jobs, len(tasks)), mp_context=get_context("spawn")) as pool:
        futures = {pool.submit(_prove, *task): task for task in tasks}
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        finally:
            pool.shutdown(cancel_futures=True)


def _prove(name: str, array: int) -> Outcome:
    (proof,) = _chosen([name])
    return proof.run(array)


def _record(outcome: Outcome) -> dict[str, Any]:
    return {
        "proof": outcome.proof,
        "scope": outcome.scope,
        "array": outcome.array,
        "proved": outcome.proved,
        "reason": outcome.reason,
        "controls": {
            fault: {"caught": found is not None, "found": found}
            for fault, found in outcome.controls.items()
        },
        "seconds": [round(seconds, 3) for seconds in outcome.seconds],
    }


def _print_table(outcomes: Sequence[Outcome]) -> None:
    width = max(len(outcome.proof) for outcome in outcomes)
    for outcome in outcomes:
        size = "" if outcome.array is None else f"N = {outcome.array}"
        verdict = "proved" if outcome.proved else "FAILED"
        print(f"{outcome.proof:{width}}  {size:6}  {verdict}  {outcome.seconds[0]:7.1f} s")
        print(f"    {outcome.scope}")
        print(f"    {'found' if outcome.proved else 'counterexample'}: {outcome.reason}")
        for fault, found in outcome.controls.items():
            print(f"    control: {fault}: {'NOT CAUGHT' if found is None else f'caught, {found}'}")
        print(f"    controls took {outcome.seconds[1]:.1f} s")
    passed = sum(outcome.passed for outcome in outcomes)
    print(f"{passed} of {len(outcomes)} proofs hold, with every fault noticed")
