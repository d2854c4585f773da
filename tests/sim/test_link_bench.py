"""The link's frame decoder passes its bench, and fails it where it is broken."""

from __future__ import annotations

import re

import pytest

from benchmarks.fuzz.frame_decoder import BENCH, FrameDecoder, fuzz
from siligrad_sim.bench_runner import BenchFailed, convert_to_verilog, run_bench

FRAMES = 15

ANSWERS = "answers_frames_as_the_specification_says"
BLOCKS = "decodes_blocks_of_every_length"
CHECKS = "drops_frames_with_a_wrong_check"
WORDS = "takes_as_many_words_as_a_request_may_have"


def bench(component: object, *tests: str) -> list[str]:
    """Run it in Icarus, where every register and memory begins with X."""
    return run_bench(
        component,
        BENCH,
        simulator="icarus",
        parameters={"frames": FRAMES},
        tests=list(tests) or None,
        unknowns=True,
    )


def test_the_frame_decoder_does_what_the_model_does() -> None:
    assert len(bench(FrameDecoder())) == 4


def test_a_frame_that_ends_within_a_block_is_no_frame() -> None:
    with pytest.raises(BenchFailed, match="counts as complete: True"):
        bench(FrameDecoder(fault="ends anywhere"), ANSWERS)


def test_a_reply_waits_for_whom_it_is_for() -> None:
    with pytest.raises(BenchFailed, match="but must Answers"):
        bench(FrameDecoder(fault="drops replies"), ANSWERS)


def test_no_zero_follows_a_full_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("siligrad_hdl.link.cobs._FULL", 256)
    with pytest.raises(BenchFailed, match="was decoded to"):
        bench(FrameDecoder(), BLOCKS)


def test_a_request_has_no_more_words_than_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("siligrad_hdl.link.serial.WORDS_MAX", 128)
    with pytest.raises(BenchFailed, match="but must Answers"):
        bench(FrameDecoder(), WORDS)


def test_a_frame_with_a_wrong_check_is_no_frame() -> None:
    text, count = re.subn(
        r"assign match_detected = [^;]*;",
        "assign match_detected = 1'h1;",
        convert_to_verilog(FrameDecoder()),
    )
    assert count == 2  # of what comes, and of what goes, where nobody looks at it
    with pytest.raises(BenchFailed, match=r"but must Answers\(replies=\(\), writes=\(\)\)"):
        bench(text, CHECKS)


def test_the_fuzzer_counts_frames() -> None:
    assert fuzz(0.1, seed=3) > FRAMES
