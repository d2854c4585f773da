"""Draw mutants of the Python that decides about bits, and have the suite judge them.

What can be changed is what the package cosmic-ray finds: operators, comparisons, numbers,
conditions, loops, decorators, exceptions. A place is drawn first, then one of the changes there, so
that places with many operators to choose from do not outweigh the others. Left out are annotations,
which do not exist when a program runs; ``is`` in place of ``==``, which small integers and members
of an enumeration cannot tell; what the decorator of a dataclass is told, which computes nothing;
and the star that begins the keywords of a signature, which is no operator. What survives is
equivalent if :mod:`benchmarks.mutants.equivalents` has an argument that it is.

The suite runs in a copy of the checkout, one for each worker, the quickest tests first, up to the
first that fails. No test that needs a simulator is among them.
"""

from __future__ import annotations

import ast
import hashlib
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks.mutants.equivalents import EQUIVALENTS, Equivalent, claimed, tree_of
from benchmarks.mutants.outcome import MutantsError, Outcome, Record, Verdict
from benchmarks.mutants.workers import judged

__all__ = ["SUITES", "Change", "Suspects", "changed", "changes", "missing", "run", "sample"]

ROOT = Path(__file__).resolve().parents[2]
"""The checkout."""

SECONDS = 300.0
"""After so long the tests are ended, which counts as noticed: they take a tenth of it."""

_CAMPAIGN = "tests/sim/test_campaign.py::"

_COMPILER = (
    "tests/frontend/test_kernel.py",
    "tests/frontend/test_formats.py",
    "tests/frontend/test_memories.py",
    "tests/frontend/test_schedule.py",
    "tests/frontend/test_place.py",
    "tests/frontend/test_target.py",
    "tests/frontend/test_compiler.py",
    "tests/frontend/test_lowering_rules.py",
    "tests/frontend/test_lowering_corners.py",
    "tests/frontend/test_compiled_networks.py",
    "tests/frontend/test_algebra.py",
    "tests/frontend/test_compile_arguments.py",
    "tests/frontend/test_compiled_constants.py",
    "tests/frontend/test_steps.py",
    "tests/cli/test_compile.py",
    f"{_CAMPAIGN}test_a_case_is_compiled_to_the_network_that_it_describes",
    f"{_CAMPAIGN}test_formats_that_rules_never_agree_on_are_refused",
    "tests/frontend/test_explain.py",
    "tests/frontend/test_quantize_training.py",
    "tests/frontend/test_quantize_integer.py",
    "tests/frontend/test_quantize_calibration.py",
    "tests/sim/test_reference.py",
)

SUITES: Mapping[str, Sequence[str]] = {
    "frontend/siligrad/fixed.py": (
        "tests/frontend/test_fixed.py",
        "frontend/siligrad/fixed.py",
        "tests/frontend/test_formats.py",
        "tests/frontend/test_compiler.py",
        "tests/frontend/test_compiled_networks.py",
        "tests/sim/test_reference_instructions.py",
    ),
    "sim/siligrad_sim/reference.py": (
        "tests/sim/test_reference_instructions.py",
        "tests/sim/test_reference.py",
        f"{_CAMPAIGN}test_a_case_is_compiled_to_the_network_that_it_describes",
        "tests/sim/test_lockstep.py",
    ),
    **{
        f"frontend/siligrad/compiler/{path.name}": _COMPILER
        for path in sorted((ROOT / "frontend/siligrad/compiler").glob("*.py"))
        if path.name != "__init__.py"
    },
}
"""Files that are changed, and which tests judge them, in this order."""

_COPIED = ("frontend", "hdl", "sim", "tests", "examples", "docs", "pyproject.toml", "README.md")


@dataclass(frozen=True, slots=True)
class Change:
    """One change of a file.

    Parameters
    ----------
    path
        From the root of the checkout.
    line, column
        Where it is.
    operator, occurrence
        What cosmic-ray calls it.
    """

    path: str
    line: int
    column: int
    operator: str
    occurrence: int

    def __str__(self) -> str:
        return f"{self.path}:{self.line}:{self.column}: {self.operator.removeprefix('core/')}"


def missing() -> str | None:
    """Return None if Python can be mutated here, else what is missing."""
    if find_spec("cosmic_ray") is None:
        return "cosmic-ray, which changes Python, is missing: type `pip install cosmic-ray`"
    return None


def changes(path: str, source: str) -> list[Change]:
    """Return every change of `source`, the text of the file `path`."""
    from cosmic_ray.ast import ast_nodes, get_ast  # noqa: PLC0415  (an optional dependency)
    from cosmic_ray.plugins import get_operator, operator_names  # noqa: PLC0415

    outside = _left_out(source)
    lines = source.splitlines()
    nodes = list(ast_nodes(get_ast(source)))
    found = []
    for name in operator_names():
        kind = get_operator(name)
        if kind.arguments() or re.search(r"NoOp|(Eq|NotEq)_(Is|IsNot)$", name):
            continue
        operator = kind()
        places = [start for node in nodes for start, _ in operator.mutation_positions(node)]
        found += [
            Change(path, line, column, name, occurrence)
            for occurrence, (line, column) in enumerate(places)
            if not any(first <= (line, column) < last for first, last in outside)
            and not lines[line - 1].startswith("*,", column)
        ]
    return found


def changed(source: str, change: Change) -> str:
    """Return what a change makes of the text of its file."""
    from cosmic_ray.mutating import mutate_code  # noqa: PLC0415  (an optional dependency)
    from cosmic_ray.plugins import get_operator  # noqa: PLC0415

    mutated: str | None = mutate_code(source, get_operator(change.operator)(), change.occurrence)
    if mutated is None or mutated == source:
        raise MutantsError(f"{change} changes nothing")
    return mutated


def sample(sources: Mapping[str, str], count: int, seed: int) -> list[Change]:
    """Draw up to `count` changes: of each file its share of all places, but at least two."""
    rng = random.Random(seed)
    places: dict[str, list[list[Change]]] = {}
    for path, source in sources.items():
        at = defaultdict(list)
        for change in changes(path, source):
            at[change.line, change.column].append(change)
        places[path] = [at[place] for place in sorted(at)]
        rng.shuffle(places[path])
    total = sum(map(len, places.values()))
    shares = {path: max(round(count * len(of) / total), 2) for path, of in places.items()}
    drawn = [rng.choice(of) for path, each in places.items() for of in each[: shares[path]]]
    return sorted(rng.sample(drawn, min(count, len(drawn))), key=str)


def _left_out(source: str) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Return where annotations, and what decorators of dataclasses are told, begin and end."""
    found: list[ast.expr | None] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.AnnAssign | ast.arg):
            found.append(node.annotation)
        elif isinstance(node, ast.FunctionDef):
            found.append(node.returns)
        elif isinstance(node, ast.ClassDef):
            for decorator in node.decorator_list:
                if isinstance(decorator, ast.Call) and ast.unparse(decorator.func) == "dataclass":
                    found += [keyword.value for keyword in decorator.keywords]
    return [
        ((node.lineno, node.col_offset), (node.end_lineno or 0, node.end_col_offset or 0))
        for node in found
        if node is not None
    ]


class Suspects:
    """What decides about changes: a copy of the checkout in which the suite runs.

    Parameters
    ----------
    root
        The checkout.
    suites
        As :data:`SUITES`.
    scratch
        The folder that the copy is made in; whoever gives it removes it.
    """

    def __init__(self, root: Path, suites: Mapping[str, Sequence[str]], scratch: Path) -> None:
        self.root = root
        self.suites = suites
        self.scratch = scratch

    def judge(self) -> Callable[[Change | str], Outcome]:
        """Return :meth:`outcome`: what a worker asks for."""
        return self.outcome

    @cached_property
    def _copy(self) -> Path:
        folder = Path(tempfile.mkdtemp(prefix="copy-", dir=self.scratch))
        for name in _COPIED:
            source = self.root / name
            if source.is_dir():
                shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
            elif source.exists():
                shutil.copy2(source, folder / name)
        return folder

    def outcome(self, change: Change | str) -> Outcome:
        """Return what becomes of a change; a path alone is that file as it is."""
        if isinstance(change, str):
            return self._run(self.suites[change])
        path = self._copy / change.path
        source = path.read_text(encoding="utf-8")
        try:
            path.write_text(changed(source, change), encoding="utf-8")
            return self._run(self.suites[change.path])
        finally:
            path.write_text(source, encoding="utf-8")

    def _run(self, tests: Sequence[str]) -> Outcome:
        """Run tests in the copy, up to the first that fails."""
        folders = [str(self._copy / name) for name in ("frontend", "hdl", "sim")]
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([*folders, str(self._copy)]),
            "PYTHONDONTWRITEBYTECODE": "1",  # two changes in one second would look alike
        }
        options = ["-x", "-q", "-rfE", "-p", "no:cacheprovider"]
        process = subprocess.Popen(
            [sys.executable, "-m", "pytest", *options, *tests],
            cwd=self._copy,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        try:
            said, _ = process.communicate(timeout=SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            return Outcome("killed", "timeout", f"the tests took more than {SECONDS:g} s")
        if process.returncode == 0:
            return Outcome("survived")
        failed = re.search(r"^(?:FAILED|ERROR) ([^\s:]+)(?:::)?(.*)$", said, re.MULTILINE)
        if process.returncode not in {1, 2, 3} or failed is None:
            raise MutantsError(
                f"pytest ended with status {process.returncode} and names no test that failed: "
                f"{' '.join(said.split())[-300:]}"
            )
        return Outcome("killed", Path(failed[1]).stem, failed[2].strip())


def run(
    count: int,
    seed: int,
    *,
    jobs: int,
    folder: Path,
    advance: Callable[[int, str], object] = lambda steps, text: None,
    stop: Callable[[], bool] = lambda: False,
) -> list[Verdict]:
    """Judge `count` changes, but for those that `folder` has a result of; return all verdicts.

    Parameters and errors as of :func:`benchmarks.mutants.rtl.run`.
    """
    if (reason := missing()) is not None:
        raise MutantsError(reason)
    sources = {path: (ROOT / path).read_text(encoding="utf-8") for path in SUITES}
    drawn = sample(sources, count, seed)
    claims = _claims(drawn, sources)
    record = Record(folder / "python.json", _key(sources))
    kept = {change: record.get(str(change)) for change in drawn}
    outcomes: dict[Any, Outcome] = {each: found for each, found in kept.items() if found}
    left = [change for change in drawn if change not in outcomes]
    advance(len(outcomes), "python")
    with tempfile.TemporaryDirectory(prefix="siligrad-mutants-") as scratch:
        original = Suspects(ROOT, SUITES, Path(scratch))
        for path in {SUITES[change.path]: change.path for change in left}.values():
            found = original.outcome(path)
            if found.status != "survived":
                raise MutantsError(f"without a change, {path} fails {found.by}: {found.why}")
        judge = Suspects(ROOT, SUITES, Path(scratch)).judge  # each worker makes its own copy
        for change, outcome in judged(
            left, judge, jobs=jobs, seconds=2 * SECONDS, given_up=_given_up, stop=stop
        ):
            outcomes[change] = outcome
            record.add(str(change), outcome)
            _check(change, outcome, claims)
            advance(1, f"{outcome.status} {Path(change.path).name}")
    judgements = {change: outcomes[change] for change in drawn if change in outcomes}
    for change, outcome in judgements.items():
        _check(change, outcome, claims)
    return [
        Verdict(
            change.path,
            str(change),
            Outcome("equivalent", "argument", claims[change].reason) if change in claims else found,
        )
        for change, found in judgements.items()
    ]


def _claims(drawn: Sequence[Change], sources: Mapping[str, str]) -> dict[Change, Equivalent]:
    """Return which changes are claimed to be equivalent."""
    claims = claimed(sources, EQUIVALENTS)
    found = {}
    for change in drawn:
        if here := claims.get((change.path, change.line)):
            tree = tree_of(changed(sources[change.path], change))
            if tree in here:
                found[change] = here[tree]
    return found


def _check(change: Change, outcome: Outcome, claims: Mapping[Change, Equivalent]) -> None:
    """Refuse a claim that a test contradicts."""
    if change in claims and outcome.status == "killed":
        raise MutantsError(
            f"{change} is no equivalent, {outcome.by} fails with it: {outcome.why}: remove it from "
            "benchmarks/mutants/equivalents.py"
        )


def _key(sources: Mapping[str, str]) -> str:
    tests = sorted({test for suite in SUITES.values() for test in suite})
    texts = [(ROOT / test.partition("::")[0]).read_text(encoding="utf-8") for test in tests]
    return hashlib.sha256(repr((sources, texts)).encode()).hexdigest()


def _given_up(reason: str) -> Outcome:
    return Outcome("survived", "given up", reason)
