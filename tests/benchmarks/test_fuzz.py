"""Ten seconds of fuzzing for the parsers, five for the gateware; and that faults are found.

As long again for the gateware is in ``tests/sim/test_link_bench.py``.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import strategies as st

from benchmarks.fuzz import __main__ as command
from benchmarks.fuzz import gateware, parsers
from benchmarks.fuzz.gateware import Gateware
from benchmarks.fuzz.parsers import TARGETS, Target
from siligrad import checkpoint
from siligrad.datasets import load_csv
from siligrad.errors import DataError
from siligrad.npz import read_npz
from siligrad_sim.benches.link_frames import tried
from siligrad_sim.benches.link_model import LinkModel
from siligrad_sim.verilator import VerilatorDevice

SECONDS = 10.0

needs_verilator = pytest.mark.skipif(
    VerilatorDevice.available() is not None, reason="Verilator is missing"
)


@pytest.mark.parametrize("name", TARGETS)
def test_nothing_that_is_read_ends_otherwise_than_it_should(name: str) -> None:
    assert parsers.fuzz(TARGETS[name], SECONDS / len(TARGETS), seed=1) >= 50


@pytest.fixture(scope="module")
def link() -> Iterator[Gateware]:
    opened = Gateware()
    yield opened
    opened.close()


@needs_verilator
def test_the_gateware_does_what_the_model_does(link: Gateware) -> None:
    frames, found = gateware.fuzz(link, SECONDS / 2, seed=1)
    assert found is None, str(found)
    assert frames > 1000


@needs_verilator
def test_a_link_that_does_not_look_at_the_check_is_found_out() -> None:
    text, count = re.subn(
        r"assign match_detected = [^;]*;", "assign match_detected = 1'h1;", gateware.link_verilog()
    )
    assert count == 2  # of what comes, and of what goes, where nobody looks at it
    broken = Gateware(text)
    _, found = gateware.fuzz(broken, 5, seed=0)
    broken.close()
    assert found is not None
    assert len(found.stream) <= 3  # a hello, and what should not have been heard
    assert found.got.replies
    assert "but must reply nothing" in str(found)


def test_what_is_tried_reaches_every_answer_and_no_answer() -> None:
    """Else the comparison would be of little."""
    seen: dict[int | None, int] = dict.fromkeys((128, 129, 130, 131, None), 0)
    written = 0
    for seed in range(20):
        model = LinkModel()
        for part in tried(random.Random(seed), 100):
            for frame in part.split(b"\0"):
                answers = model.answer(frame)
                seen[answers.replies[0][8] if answers.replies else None] += 1
                written += bool(answers.writes)
    assert min(seen.values()) > 50
    assert written > 200


def test_a_parser_that_raises_what_it_should_not_is_found_out() -> None:
    def careless(data: bytes) -> None:
        data[0] if len(data) < 20 else data[40]

    with pytest.raises(Exception, match=r"index out of range|distinct failures"):
        parsers.fuzz(Target("careless", lambda: st.binary(max_size=60), careless), 5, 0)


def test_a_parser_that_takes_long_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parsers, "SECONDS_MAX", 0.0)
    with pytest.raises(AssertionError, match=r"it took 0\.0 s"):
        parsers.fuzz(Target("slow", st.binary, lambda _: None), 1, 0)


def test_the_command_counts_what_it_tried(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("warnings.simplefilter", lambda _: None)  # pytest has its own
        assert command.main(["--seconds", "0.2", "--only", "cobs", "--only", "idx"]) == 0
    counts = dict(line.split() for line in capsys.readouterr().out.splitlines())
    assert set(counts) == {"cobs", "idx"}
    assert all(int(count) >= 50 for count in counts.values())
    with pytest.raises(SystemExit):
        command.main(["--seconds", "0"])


# Found by it, and named here


@pytest.mark.parametrize("label", ["6.5e22", "nan", "-inf"])
def test_classes_that_no_integer_holds_are_refused(label: str, tmp_path: Path) -> None:
    path = tmp_path / "digits.csv"
    path.write_text(f"1,2,0\n3,4,{label}\n", encoding="utf-8")
    with pytest.raises(DataError, match="must hold whole numbers"):
        load_csv(path, path)


def test_archives_are_bounded_before_they_are_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "large.npz"
    np.savez_compressed(path, params=np.zeros(20_000_000))  # 160 MB, of 160 KB
    assert path.stat().st_size < 1 << 18
    with pytest.raises(DataError, match=r"holds 160000128 bytes; at most \d+ are read"):
        checkpoint.load(path, {"params": np.zeros(3)})
    with path.open("rb") as file, pytest.raises(DataError, match="at most 1000 are read"):
        read_npz(file, 1000)
