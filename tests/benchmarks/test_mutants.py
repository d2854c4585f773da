"""Mutants: one that is noticed, one that is equivalent, one that survives; judges that fail."""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from benchmarks.mutants import __main__ as command
from benchmarks.mutants import python, rtl
from benchmarks.mutants.equivalence import proof_of
from benchmarks.mutants.equivalents import EQUIVALENTS, Equivalent, claimed, tree_of
from benchmarks.mutants.hardware import Suspects
from benchmarks.mutants.netlist import LEAST, Design, Mutant, sample
from benchmarks.mutants.outcome import MutantsError, Outcome, Record, Verdict, report, score
from benchmarks.mutants.workers import judged
from siligrad_sim.benches.device_runs import device_geometry

GEOMETRY = device_geometry(2)

hardware = pytest.mark.skipif(rtl.missing() is not None, reason=str(rtl.missing()))
changed = pytest.mark.skipif(python.missing() is not None, reason=str(python.missing()))


@pytest.fixture(scope="module")
def design() -> Design:
    return Design(GEOMETRY)


@pytest.fixture(scope="module")
def candidates(design: Design) -> list[Mutant]:
    return design.candidates(3000, seed=5)


def product_never_reset(candidates: list[Mutant]) -> Mutant:
    """A multiplier's registers have no reset: what arrives there in its place is nobody's."""
    return next(each for each in candidates if each.cell == "multiplier" and each.port == "rst")


def product_inverted(candidates: list[Mutant]) -> Mutant:
    return next(
        each
        for each in candidates
        if (each.component, each.port, each.mode) == ("multiplier", "Q", "inv")
    )


# Of the hardware.


@hardware
@pytest.mark.synthesis
def test_every_component_has_its_share_of_mutants_and_no_clock_has(
    candidates: list[Mutant],
) -> None:
    drawn = sample(candidates, 200, seed=1)
    assert len(set(drawn)) == 200
    there, taken = (Counter(each.component for each in of) for of in (candidates, drawn))
    assert len(taken) == 21
    for component, count in taken.items():
        assert count >= min(LEAST, there[component])
    assert taken["fetch"] > taken["watchdog"]
    assert not any(each.port.endswith(("CLK", "clk")) for each in candidates)
    assert sample(candidates, 200, seed=1) == drawn != sample(candidates, 200, seed=2)


@hardware
@pytest.mark.synthesis
def test_a_mutant_knows_its_line(candidates: list[Mutant]) -> None:
    mutant = product_inverted(candidates)
    file, line = mutant.lines[-1].split(":")
    assert file == "siligrad_hdl/multiplier.py"
    import siligrad_hdl

    text = Path(siligrad_hdl.__file__).with_name("multiplier.py").read_text(encoding="utf-8")
    registers = ("operand_a", "operand_b", "pipeline", "output")
    assert text.splitlines()[int(line) - 1].strip().startswith(tuple(f"{r} = " for r in registers))


@hardware
@pytest.mark.synthesis
def test_what_nobody_sees_is_proved_equivalent_and_nothing_else(
    design: Design, candidates: list[Mutant]
) -> None:
    assert proof_of(design, product_never_reset(candidates), seconds=20) == "equal in every state"
    assert proof_of(design, product_inverted(candidates), seconds=20) is None
    assert proof_of(design, product_never_reset(candidates), seconds=0) is None
    stuck = next(each for each in candidates if (each.port, each.mode) == ("Q", "const0"))
    assert proof_of(design, stuck, seconds=20) is None


@hardware
@pytest.mark.synthesis
def test_the_command_lists_what_survived_and_goes_on_where_it_was(
    candidates: list[Mutant],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    chosen = [product_inverted(candidates), product_never_reset(candidates)]
    monkeypatch.setattr(rtl, "GEOMETRY", GEOMETRY)
    monkeypatch.setattr(rtl, "sample", lambda of, count, seed: chosen)
    # Without proofs the second is one that nobody notices.
    arguments = ["rtl", "--mutants", "2", "--proof-seconds", "0", "--jobs", "1"]
    arguments += ["--output", str(tmp_path)]
    assert command.main(arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "multiplier        1       1           0         0   100.0%" in lines
    assert "cell              1       0           0         1     0.0%" in lines
    assert "all               2       1           0         1    50.0%" in lines
    assert lines[-2:] == ["1 survived:", f"  {chosen[1]}"]

    def build() -> None:
        raise AssertionError("something is judged again")

    monkeypatch.setattr(Suspects, "check_original", build)
    assert command.main([*arguments, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["score"] == 0.5
    assert [each["outcome"]["status"] for each in found["mutants"]] == ["killed", "survived"]


@hardware
def test_hardware_that_fails_without_a_mutant_proves_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    suspects = Suspects(GEOMETRY, (), 0)
    killed = Outcome("killed", "words", "a word differs")
    monkeypatch.setattr(Suspects, "killed", lambda self, number: killed)
    with pytest.raises(MutantsError, match="without a mutant fails the check 'words': a word"):
        suspects.check_original()


# Of the Python.

SOURCE = '''
def clip(x: int | None, most: int = 3) -> int | None:
    """Nothing here is 1 + 1."""
    if x == 0:
        return None
    return x if x < most else most
'''

TESTS = """
import pytest
from adder import clip

@pytest.mark.parametrize("x", [2], ids=["a small one: two"])
def test_small(x):
    assert clip(x) == 2

def test_large():
    assert clip(9) == 3
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    for folder, name, text in (
        ("frontend", "adder.py", SOURCE),
        ("tests", "test_adder.py", TESTS),
        ("tests", "test_never.py", "raise AssertionError('is imported')"),
    ):
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / name).write_text(text, encoding="utf-8")
    (tmp_path / "pyproject.toml").write_text("[tool.pytest.ini_options]\n", encoding="utf-8")
    return tmp_path


@changed
def test_a_change_is_killed_by_the_test_that_fails_or_survives(checkout: Path) -> None:
    path = "frontend/adder.py"
    found = python.changes(path, SOURCE)
    assert {each.line for each in found} == {2, 4, 6}  # no annotation, no text
    assert not any(each.operator.endswith("Eq_Is") for each in found)
    suspects = python.Suspects(checkout, {path: ("tests/test_adder.py",)}, checkout)
    assert suspects.outcome(path) == Outcome("survived")
    less = next(each for each in found if each.operator.endswith("Lt_GtE"))
    killed = suspects.outcome(less)
    assert (killed.status, killed.by) == ("killed", "test_adder")
    assert killed.why.startswith("test_small[a small one: two]")
    none = next(each for each in found if each.operator.endswith("Eq_Gt"))
    assert suspects.outcome(none).status == "killed"
    zero = next(each for each in found if each.operator.endswith("Eq_Lt"))
    assert suspects.outcome(zero) == Outcome("survived")
    assert str(zero) == "frontend/adder.py:4:9: ReplaceComparisonOperator_Eq_Lt"
    assert (checkout / path).read_text(encoding="utf-8") == SOURCE


@changed
def test_tests_that_take_too_long_are_ended(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = "frontend/adder.py"
    (checkout / "tests/test_adder.py").write_text("while True: pass", encoding="utf-8")
    monkeypatch.setattr(python, "SECONDS", 2)
    outcome = python.Suspects(checkout, {path: ("tests/test_adder.py",)}, checkout).outcome(path)
    assert (outcome.status, outcome.by) == ("killed", "timeout")


@changed
def test_changes_are_drawn_from_every_file() -> None:
    sources = {path: (python.ROOT / path).read_text(encoding="utf-8") for path in python.SUITES}
    drawn = python.sample(sources, 60, seed=1)
    assert 55 <= len(drawn) <= 60  # shares are rounded
    assert {each.path for each in drawn} == set(sources)
    assert python.sample(sources, 60, seed=1) == drawn != python.sample(sources, 60, seed=2)


@changed
def test_the_star_of_a_signature_is_no_operator() -> None:
    source = "def f(\n    *,\n    x: int,\n) -> int:\n    return (x\n    * 2)\n"
    lines = {each.line for each in python.changes("f.py", source)}
    assert lines == {6}


PLUS = """
def plus(x):
    return x + 0

def times(x):
    return x * 1
"""


def claim(before: str, after: str) -> Equivalent:
    return Equivalent("frontend/adder.py", before, after, "for a reason")


@pytest.fixture
def claims(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Verdict]]:
    """Return what judges all changes of a module when equivalents are claimed."""
    (checkout / "frontend/adder.py").write_text(PLUS, encoding="utf-8")
    test = "from adder import plus, times\n\ndef test():\n    assert plus(2) == times(2) == 2\n"
    (checkout / "tests/test_adder.py").write_text(test, encoding="utf-8")
    monkeypatch.setattr(python, "ROOT", checkout)
    monkeypatch.setattr(python, "SUITES", {"frontend/adder.py": ("tests/test_adder.py",)})

    def run(wanted: str, *equivalents: Equivalent) -> list[Verdict]:
        monkeypatch.setattr(python, "EQUIVALENTS", equivalents)
        drawn = [
            each
            for each in python.changes("frontend/adder.py", PLUS)
            if each.operator.endswith(wanted)
        ]
        monkeypatch.setattr(python, "sample", lambda sources, count, seed: drawn)
        return python.run(9, 1, jobs=1, folder=checkout)

    return run


@changed
def test_what_is_argued_to_be_equivalent_is_not_counted_as_survived(
    claims: Callable[..., list[Verdict]],
) -> None:
    by_or = claim("x + 0", "x | 0")
    (plain,) = claims("Operator_Add_BitOr")
    assert plain.outcome == Outcome("survived")
    (argued,) = claims("Operator_Add_BitOr", by_or)
    assert argued.outcome == Outcome("equivalent", "argument", "for a reason")
    (other,) = claims("Operator_Add_Sub", by_or)  # the same line, another change
    assert other.outcome == Outcome("survived")


@changed
def test_what_a_test_notices_is_no_equivalent(claims: Callable[..., list[Verdict]]) -> None:
    wrong = claim("x * 1", "x + 1")
    for _ in range(2):  # judged, and read again
        with pytest.raises(MutantsError, match="is no equivalent, test_adder fails with it: test"):
            claims("Operator_Mul_Add", wrong)


def test_a_claim_about_what_is_not_there_is_refused() -> None:
    sources = {"frontend/adder.py": PLUS}
    for before, count in (("x - 0", 0), ("return x", 2)):
        with pytest.raises(MutantsError, match=rf"{before}.* is there {count} times, not once"):
            claimed(sources, [claim(before, "nothing")])


def test_every_claim_is_about_what_is_there() -> None:
    sources = {path: (python.ROOT / path).read_text(encoding="utf-8") for path in python.SUITES}
    found = claimed(sources, EQUIVALENTS)
    assert sum(map(len, found.values())) >= len(EQUIVALENTS) > 0
    assert all(each.reason for each in EQUIVALENTS)


@changed
def test_every_claim_is_about_a_change_that_can_be_drawn() -> None:
    sources = {path: (python.ROOT / path).read_text(encoding="utf-8") for path in python.SUITES}
    found = claimed(sources, EQUIVALENTS)
    left = {each for here in found.values() for each in here.values()}
    for path in {path for path, _ in found}:
        for change in python.changes(path, sources[path]):
            if here := found.get((path, change.line)):
                tree = tree_of(python.changed(sources[path], change))
                left -= {here[tree]} if tree in here else set()
    assert not left


def test_without_cosmic_ray_the_command_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(python, "find_spec", lambda name: None)
    assert command.main(["python", "--output", str(tmp_path)]) == 1
    said = capsys.readouterr().err
    assert said.endswith("is missing: type `pip install cosmic-ray`\n")
    assert said.count("\n") == 1


# Judges, results, tables.


def make_judge() -> Callable[[int], int]:
    return judge


def judge(item: int) -> int:
    if item == 1:
        os._exit(7)
    if item == 2:
        time.sleep(60)
    if item == 9:
        raise ValueError("nine")
    return 10 * item


def test_a_judge_that_dies_or_hangs_is_replaced() -> None:
    reasons: list[str] = []

    def given_up(reason: str) -> int:
        reasons.append(reason)
        return -1

    judges = partial(judged, make_judge=make_judge, jobs=2, seconds=6, given_up=given_up)
    assert sorted(judges([0, 1, 2, 3, 4])) == [(0, 0), (1, -1), (2, -1), (3, 30), (4, 40)]
    assert sorted(reasons) == ["its process ended with 7", "not done after 6 s"]
    with pytest.raises(RuntimeError, match="9: ValueError: nine"):
        list(judges([9]))
    assert list(judges([0, 3], stop=lambda: True)) == []


def test_results_are_kept_for_the_same_netlist_alone(tmp_path: Path) -> None:
    path = tmp_path / "rtl.json"
    Record(path, "a").add("one", Outcome("killed", "words", "differ"))
    assert Record(path, "a").get("one") == Outcome("killed", "words", "differ")
    assert Record(path, "a").get("two") is None
    assert Record(path, "b").get("one") is None
    path.write_text("[]", encoding="utf-8")
    with pytest.raises(MutantsError, match=r"rtl\.json is no file of outcomes of mutants"):
        Record(path, "a")


def test_the_score_leaves_out_what_is_equivalent() -> None:
    killed, equal, alive = (
        Outcome("killed", "words"),
        Outcome("equivalent", "proof"),
        Outcome("survived"),
    )
    assert score([killed, killed, killed, equal, alive]) == 0.75
    assert score([equal]) == 1
    said = report([Verdict("a", "m1", killed), Verdict("b", "m2", equal)], "part")
    assert said.splitlines()[0].split() == [
        *("part", "mutants", "killed", "equivalent", "survived", "score")
    ]
    assert "killed by: words 1" in said
    assert "equivalent: proof 1" in said
    assert said.endswith("\n0 survived")
    argued = Outcome("equivalent", "argument", "zero has no sign")
    lines = report([Verdict("a", "m1", killed), Verdict("b", "m2", argued)], "part").splitlines()
    at = lines.index("equivalent: argument 1")
    assert lines[at + 1] == "  m2 (zero has no sign)"


def test_a_command_line_that_makes_no_sense_is_refused(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        command.main(["rtl", "--mutants", "0"])
    assert "--mutants and --jobs must be at least 1, not 0" in capsys.readouterr().err
