"""Bits that flip in a running accelerator, and what is noticed of them."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from benchmarks import faults as bench
from siligrad.registers import Register
from siligrad_sim.cxxrtl import CxxrtlDevice
from siligrad_sim.faults.injection import CLASSES, Experiment, Flip, Outcome, inject

pytestmark = pytest.mark.extended

DELAY = "sequencer stream delay_left"


@pytest.fixture(scope="module")
def experiment() -> Experiment:
    reason = CxxrtlDevice.available()
    if reason is not None:
        pytest.skip(reason)
    return Experiment(2)


@pytest.fixture(autouse=True)
def whole(experiment: Experiment) -> Any:
    """Whatever a test has done to it, the next one begins with a run that is right."""
    yield
    assert experiment.run(None).outcome is Outcome.NONE


def test_nothing_happens_where_nothing_flips(experiment: Experiment) -> None:
    for _ in range(3):
        result = experiment.run(None)
        assert (result.outcome, result.recovered) == (Outcome.NONE, True)
        assert not result.program_changed


def test_every_register_and_memory_is_of_one_class(experiment: Experiment) -> None:
    for name in experiment.device.parts:
        classes = [each for each, pattern in CLASSES.items() if re.fullmatch(pattern, name)]
        assert len(classes) == 1, f"{name}: {classes}"
    assert all(experiment.parts(name) for name in CLASSES)


def test_a_flip_is_one_bit_of_what_it_names(experiment: Experiment) -> None:
    device = experiment.device
    for part in ("memory_x bank_1 memory", "program word_2 memory", "host limit"):
        size = device.parts[part]
        before = device.state()
        device.flip(part, size.words - 1, size.bits - 1)
        after = device.state()
        changed = [name for name in before if (before[name] != after[name]).any()]
        assert changed == [part]
        difference = (before[part] ^ after[part]).tolist()
        assert sum(word.bit_count() for word in difference) == 1
        device.flip(part, size.words - 1, size.bits - 1)
    with pytest.raises(ValueError, match="host limit has 1 words of 64 bits, not bit 64 of word 0"):
        device.flip("host limit", 0, 64)


def test_a_word_that_nobody_reads_is_wrong_alone_and_a_weight_makes_others_wrong(
    experiment: Experiment,
) -> None:
    last = experiment.cycles - 1
    assert experiment.run(Flip(last, "memory_w bank_0 memory", 0, 3)).outcome is Outcome.ITS_WORD
    early = {experiment.run(Flip(1, "memory_w bank_0 memory", 0, bit)).outcome for bit in range(16)}
    assert early & {Outcome.WRONG, Outcome.SATURATIONS}


def test_the_watchdog_ends_what_waits_too_long_and_without_it_nothing_does(
    experiment: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The sign of what is left to wait: from done to a wait of 65535 cycles.
    flips = [Flip(cycle, DELAY, 0, 16) for cycle in range(1, experiment.cycles)]
    outcomes = {flip: experiment.run(flip) for flip in flips}
    stuck = [flip for flip, each in outcomes.items() if each.outcome is Outcome.OVERRUN]
    assert stuck
    assert all(outcomes[flip].recovered for flip in stuck)
    assert Outcome.NEVER_ENDED not in {each.outcome for each in outcomes.values()}
    write = type(experiment.device).write_register

    def without_limit(register: int, value: int) -> None:
        unlimited = register in (Register.LIMIT, Register.LIMIT_HIGH)
        write(experiment.device, register, 0 if unlimited else value)

    monkeypatch.setattr(experiment.device, "write_register", without_limit)
    result = experiment.run(stuck[0])
    assert result.outcome is Outcome.NEVER_ENDED
    assert not result.recovered


def test_a_run_that_is_cut_short_is_told_by_its_cycles(experiment: Experiment) -> None:
    half = experiment.cycles // 2
    assert experiment.run(Flip(half, "sequencer busy", 0, 0)).outcome is Outcome.CYCLES


def test_a_program_that_changed_reads_back_changed(experiment: Experiment) -> None:
    for cycle in (1, experiment.cycles - 1):
        result = experiment.run(Flip(cycle, "program word_0 memory", 0, 30))
        assert result.program_changed
        assert result.recovered
    # Its first line has been executed by then: it is the next run that is wrong.
    assert result.outcome is Outcome.LATER


def test_every_class_is_flipped_and_the_same_seed_flips_the_same(experiment: Experiment) -> None:
    first = inject(experiment, list(CLASSES), 5, seed=5)
    assert first == inject(experiment, list(CLASSES), 5, seed=5)
    assert first != inject(experiment, list(CLASSES), 5, seed=6)
    assert all(row.outcomes.total() == 5 for row in first.values())
    assert not any(row.outcomes[Outcome.NEVER_ENDED] for row in first.values())
    assert any(row.outcomes[Outcome.OVERRUN] for row in first.values())
    assert first["program"].program_changed == 5


def test_the_table_has_all_that_was_counted(
    experiment: Experiment, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bench, "Experiment", lambda array: experiment)
    assert bench.main(["--injections", "3", "--only", "W", "--only", "stream", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["classes"]
    assert set(found) == {"W", "stream"}
    assert all(sum(each["outcomes"].values()) == 3 for each in found.values())
    assert bench.main(["--injections", "3", "--only", "W"]) == 0
    assert re.search(r"^W +\d+ +3 ", capsys.readouterr().out, re.MULTILINE)
    with pytest.raises(SystemExit):
        bench.main(["--injections", "0"])
    assert "--injections must be at least 1, not 0" in capsys.readouterr().err
