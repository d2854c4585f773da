"""What became of mutants: kept in a file as they are judged, and printed as a table."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from siligrad.errors import SiligradError
from siligrad.files import replacing

__all__ = ["MutantsError", "Outcome", "Record", "Status", "Verdict", "report", "score", "table"]

Status = Literal["killed", "equivalent", "survived"]


class MutantsError(SiligradError):
    """Mutants cannot be made, or cannot be judged."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one mutant.

    Parameters
    ----------
    status
        ``killed``: a check of the suite failed. ``equivalent``: a proof (hardware) or an argument
        (Python, see :mod:`benchmarks.mutants.equivalents`) says that nothing can tell it from the
        original. ``survived``: neither.
    by
        Which check, or which proof.
    why
        What it said, in a line.
    """

    status: Status
    by: str = ""
    why: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """A mutant and what became of it.

    Parameters
    ----------
    group
        Component or file that it is counted with.
    mutant
        What was changed, and where.
    outcome
        What became of it.
    """

    group: str
    mutant: str
    outcome: Outcome


class Record:
    """Outcomes by mutant, in a file that is written anew with each; what is there is kept.

    Parameters
    ----------
    path
        The file, of JSON.
    key
        What the outcomes depend on besides the mutant: with another one the file begins anew.
    """

    def __init__(self, path: Path, key: str) -> None:
        self._path = path
        self._key = key
        self._outcomes: dict[str, Outcome] = {}
        try:
            kept = json.loads(path.read_text(encoding="utf-8"))
            if kept["key"] == key:
                self._outcomes = {name: Outcome(**each) for name, each in kept["mutants"].items()}
        except FileNotFoundError:
            pass
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise MutantsError(
                f"{path} is no file of outcomes of mutants: {error}: remove it, or choose another "
                "folder"
            ) from error

    def get(self, name: str) -> Outcome | None:
        """Return what became of the mutant of that name, if it was judged."""
        return self._outcomes.get(name)

    def add(self, name: str, outcome: Outcome) -> None:
        """Note what became of a mutant, on disk."""
        self._outcomes[name] = outcome
        mutants = {each: asdict(found) for each, found in self._outcomes.items()}
        text = json.dumps({"key": self._key, "mutants": mutants}, indent=1)
        with replacing(self._path) as beside:
            beside.write_text(text + "\n", encoding="utf-8")


def score(outcomes: Sequence[Outcome]) -> float:
    """Return which share of the mutants that are not proved equivalent is killed; 1 of none."""
    counts = Counter(each.status for each in outcomes)
    judged = counts["killed"] + counts["survived"]
    return counts["killed"] / judged if judged else 1.0


def table(verdicts: Sequence[Verdict], title: str) -> list[str]:
    """Return the lines of a table: for each group how many mutants there are and what became."""
    groups: dict[str, list[Outcome]] = defaultdict(list)
    for verdict in sorted(verdicts, key=lambda each: each.group):
        groups[verdict.group].append(verdict.outcome)
    rows = [*groups.items(), ("all", [verdict.outcome for verdict in verdicts])]
    width = max(len(name) for name in [title, *(name for name, _ in rows)])
    lines = [f"{title:<{width}}  mutants  killed  equivalent  survived    score"]
    for name, outcomes in rows:
        counts = Counter(each.status for each in outcomes)
        lines.append(
            f"{name:<{width}} {len(outcomes):>8} {counts['killed']:>7} "
            f"{counts['equivalent']:>11} {counts['survived']:>9} {score(outcomes):>8.1%}"
        )
    return lines


def report(verdicts: Sequence[Verdict], title: str) -> str:
    """Return the table, what killed, what is equivalent and why, and what survived."""
    lines = table(verdicts, title)
    for status, what in (("killed", "killed by"), ("equivalent", "equivalent")):
        counts = Counter(each.outcome.by for each in verdicts if each.outcome.status == status)
        if counts:
            said = ", ".join(f"{name} {count}" for name, count in counts.most_common())
            lines += ["", f"{what}: {said}"]
    for verdict in verdicts:
        if verdict.outcome.status == "equivalent" and verdict.outcome.why:
            lines.append(f"  {verdict.mutant} ({verdict.outcome.why})")
    survivors = [verdict for verdict in verdicts if verdict.outcome.status == "survived"]
    lines += ["", f"{len(survivors)} survived{':' if survivors else ''}"]
    for verdict in survivors:
        because = f" ({verdict.outcome.why})" if verdict.outcome.why else ""
        lines.append(f"  {verdict.mutant}{because}")
    return "\n".join(lines)
