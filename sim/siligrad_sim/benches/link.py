"""Bench of the frame decoder of the serial link: bytes in, requests and replies out.

The component has the ports of ``benchmarks.fuzz.frame_decoder.FrameDecoder``. Parameters: "frames",
how many parts of a stream are sent between two resets; "seconds", for how long (0: one batch);
"report", a file for the number of frames.
"""

from __future__ import annotations

import random
import struct
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cocotb

from siligrad_sim.bench_runner import bench_parameters
from siligrad_sim.benches.cycles import next_cycle, now, settled, start
from siligrad_sim.benches.link_frames import tried
from siligrad_sim.benches.link_model import (
    Answers,
    LinkModel,
    decoded,
    encoded,
    frame_of,
    outcomes,
    word_at,
)

__all__ = [
    "answers_frames_as_the_specification_says",
    "decodes_blocks_of_every_length",
    "drops_frames_with_a_wrong_check",
    "takes_as_many_words_as_a_request_may_have",
]

INPUTS = ("byte", "byte_valid", "reply__ready", "host__acknowledge", "host__read_data")

_FRAMES = 60
_STALL = 8
"""Cycles in a row without taking a byte of a reply, at most."""

_QUIET = 40
"""Cycles in which nothing has happened: nothing more will come."""

_PATIENCE = 100_000
"""Cycles until a part of a stream must have been answered."""


class Ends:
    """Both ends of the decoder: a line that sends, and a host port that answers, with stalls."""

    def __init__(self, dut: Any, rng: random.Random) -> None:
        self.dut = dut
        self.rng = rng
        self.asked: int | None = None  # the address of a request that has not been acknowledged
        self.stalled = 0

    async def send(self, part: bytes) -> tuple[Answers, list[tuple[bytes, bool]]]:
        """Send bytes and return what comes of them: replies and writes, and the decoded frames."""
        dut, rng = self.dut, self.rng
        pause = rng.choice((1, 1, 2, 6))  # most cycles between two bytes
        takes, answers = rng.choice((1.0, 0.8, 0.3)), rng.choice((1.0, 0.5, 0.1))
        waiting, gap, quiet = deque(part), 0, 0
        reply, data = bytearray(), bytearray()
        replies: list[bytes] = []
        writes: list[tuple[int, int]] = []
        frames: list[tuple[bytes, bool]] = []
        for _ in range(_PATIENCE):
            sends = bool(waiting) and gap == 0
            dut.byte_valid.value = sends
            if sends:
                dut.byte.value = waiting.popleft()
                gap = rng.randint(1, pause)  # bytes come two cycles apart, or more
            elif gap:
                gap -= 1
            ready = rng.random() < takes or self.stalled == _STALL
            self.stalled = 0 if ready else self.stalled + 1
            dut.reply__ready.value = ready
            acknowledges = self.asked is not None and rng.random() < answers
            dut.host__acknowledge.value = acknowledges
            if acknowledges and self.asked is not None:
                dut.host__read_data.value = word_at(self.asked)
            await settled()
            quiet = 0 if waiting else quiet + 1
            if dut.active.value:
                quiet = 0
                if dut.data_valid.value:
                    data.append(dut.data.value.to_unsigned())
                if dut.end.value:
                    frames.append((bytes(data), bool(dut.complete.value)))
                    data.clear()
                if ready and dut.reply__valid.value:
                    reply.append(dut.reply__payload.value.to_unsigned())
                if dut.reply_end.value:
                    replies.append(bytes(reply))
                    reply.clear()
                if dut.host__strobe.value:
                    address = dut.host__address.value.to_unsigned()
                    assert self.asked in {None, address}, f"cycle {now()}: the request has changed"
                    self.asked = None if acknowledges else address
                    if acknowledges and dut.host__write.value:
                        writes.append((address, dut.host__write_data.value.to_unsigned()))
                else:
                    assert self.asked is None, f"cycle {now()}: the request was given up"
            await next_cycle(dut)
            if quiet == _QUIET:
                assert not reply, f"cycle {now()}: a reply that does not end: {reply.hex()}"
                return Answers(tuple(replies), tuple(writes)), frames
        raise AssertionError(f"cycle {now()}: after {_PATIENCE} cycles it has not fallen silent")


async def batch(dut: Any, rng: random.Random, parts: Sequence[bytes]) -> None:
    """Send parts of a stream after a reset, and compare what comes of each with the model."""
    dut.rst.value = 1
    await next_cycle(dut)
    dut.rst.value = 0
    ends, model = Ends(dut, rng), LinkModel()
    for number, part in enumerate(parts, start=1):
        got, frames = await ends.send(part)
        lines = "\n".join(f"  {one.hex()}" for one in parts[:number])
        sent = f"after a reset and the frames\n{lines}\n"
        pieces = part.split(b"\0")[:-1]
        assert len(frames) == len(pieces), f"{sent}{len(frames)} frames ended, not {len(pieces)}"
        for piece, (data, complete) in zip(pieces, frames, strict=True):
            inside = decoded(piece)
            whole = inside is not None
            assert complete == whole, f"{sent}{piece.hex()} counts as complete: {complete}"
            assert inside in {None, data}, f"{sent}{piece.hex()} was decoded to {data.hex()}"
        possible = list(outcomes(model, [piece for piece in pieces if piece]))
        after = [state for expected, state in possible if expected == got]
        assert after, f"{sent}the decoder did {got}, but must {possible[0][0]}"
        model = after[0]


@cocotb.test()
async def decodes_blocks_of_every_length(dut: Any) -> None:
    """Blocks that are full, or nearly, with a zero behind them and without; and no bytes at all."""
    rng = random.Random(cocotb.RANDOM_SEED)
    await start(dut, dict.fromkeys(INPUTS, 0))
    parts = [encoded(b"") + b"\0", b"\0\0\0"]
    for length in (1, 253, 254, 255, 508):
        block = bytes(rng.choices(range(1, 256), k=length))
        parts += [encoded(data) + b"\0" for data in (block, b"\0" + block, block + b"\0\1")]
    await batch(dut, rng, parts)


@cocotb.test()
async def takes_as_many_words_as_a_request_may_have(dut: Any) -> None:
    """Requests of the most words, of one more, and of far more; each after a good one."""
    rng = random.Random(cocotb.RANDOM_SEED)
    await start(dut, dict.fromkeys(INPUTS, 0))
    session, parts = 5, []
    for number, count in enumerate((1, 64, 65, 66, 128, 64)):
        words = struct.pack(f"<{count}I", *range(count))
        head = struct.pack("<IIBBI", session, number, 2, count - 1, 7)
        parts.append(frame_of(head + words) + b"\0")
    hello = frame_of(struct.pack("<IIBBI", session, 0xFFFFFFFF, 0, 0, 0)) + b"\0"
    await batch(dut, rng, [hello, *parts])


@cocotb.test()
async def drops_frames_with_a_wrong_check(dut: Any) -> None:
    """A write with one wrong bit, anywhere in it and in its check; each before a good one."""
    rng = random.Random(cocotb.RANDOM_SEED)
    await start(dut, dict.fromkeys(INPUTS, 0))
    parts = [frame_of(struct.pack("<IIBBI", 9, 0, 0, 0, 0)) + b"\0"]
    for number, at in enumerate((4, 10, 14, 18, 21), start=1):
        good = frame_of(struct.pack("<IIBBII", 9, number, 2, 0, 3, number))
        wrong = bytearray(decoded(good) or b"")
        wrong[at] ^= 1 << rng.randrange(8)
        parts += [encoded(bytes(wrong)) + b"\0", good + b"\0"]
    await batch(dut, rng, parts)


@cocotb.test()
async def answers_frames_as_the_specification_says(dut: Any) -> None:
    """Frames that are right, damaged, too long, too short, repeated; zeros; no pause; stalls."""
    parameters = bench_parameters()
    await start(dut, dict.fromkeys(INPUTS, 0))
    deadline = time.monotonic() + parameters.get("seconds", 0)
    frames = 0
    while frames == 0 or time.monotonic() < deadline:
        rng = random.Random(f"{cocotb.RANDOM_SEED} {frames}")
        parts = tried(rng, parameters.get("frames", _FRAMES))
        await batch(dut, rng, parts)
        frames += len(parts)
    if "report" in parameters:
        Path(parameters["report"]).write_text(f"{frames}", encoding="ascii")
