"""The link's gateware in Verilator, fed with frames that are right, damaged, repeated and random.

Bytes go straight into the decoder, without a UART, and come straight out of the encoder, so that
thousands of frames a second are tried. What it replies and what it writes are compared with
:mod:`siligrad_sim.benches.link_model`.
"""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from amaranth.back import verilog
from amaranth.hdl import Cat, Module, Mux, ResetInserter, Signal
from amaranth.lib import memory, wiring
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.wiring import Out
from cobs import cobs

from benchmarks.fuzz.frame_decoder import FrameDecoder
from siligrad.frames import CRC_BYTES, WORDS_MAX
from siligrad.isa import Geometry
from siligrad.registers import REGION_BITS
from siligrad_hdl.link.cobs import CobsEncoder
from siligrad_hdl.ports import HostPort
from siligrad_sim.benches.link_frames import tried
from siligrad_sim.benches.link_model import Answers, LinkModel, outcomes
from siligrad_sim.netlist import TOP
from siligrad_sim.verilator import VerilatorDevice

__all__ = ["Difference", "Gateware", "fuzz", "link_verilog", "shrunk"]

_BYTES, _LOG, _RESET = (region << REGION_BITS for region in (0, 1, 2))
"""What the simulation's host port leads to: bytes to and from the link; what the link has written,
the number of words first; a reset of the link."""

_LOG_WORDS = 128
_REPLY_BYTES = 9 + 4 * WORDS_MAX + CRC_BYTES
_GAP_CYCLES = 2
"""From a byte to the next."""

_QUIET_CYCLES = 40
"""Without a byte to or from the link and without a request of it: nothing more will come."""

_LISTEN_CYCLES = 40
_STILL_BUSY = 0x200
"""What is read from the link when no byte has come for that long, and more may come."""

_BATCH = 100
"""Frames from one reset to the next."""


class _Bench(wiring.Component):  # type: ignore[misc]  # Amaranth has no types
    """The link without its UART, between a host port that feeds it and one that answers it."""

    def __init__(self) -> None:
        super().__init__({"host": Out(HostPort()), "busy": Out(1)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        reset = Signal()
        m.submodules.decoder = decoder = ResetInserter(reset)(FrameDecoder())
        m.submodules.encoder = encoder = ResetInserter(reset)(CobsEncoder(size=_REPLY_BYTES))
        m.submodules.heard = heard = SyncFIFOBuffered(width=8, depth=512)
        wiring.connect(m, decoder.reply, encoder.data)
        m.d.comb += [
            encoder.end.eq(decoder.reply_end),
            heard.w_data.eq(encoder.bytes.payload),
            heard.w_en.eq(encoder.bytes.valid),
            encoder.bytes.ready.eq(heard.w_rdy),
        ]

        # What the link is connected to: every address reads as a function of itself, after a time
        # that depends on it; what is written is logged.
        m.submodules.log = log = memory.Memory(shape=64, depth=_LOG_WORDS, init=[])
        write, read = log.write_port(), log.read_port()
        logged = Signal(range(_LOG_WORDS + 1))
        inner = decoder.host
        waited = Signal(3)
        m.d.comb += [
            inner.acknowledge.eq(inner.strobe & (waited == inner.address[:3])),
            inner.read_data.eq(inner.address * 0x01000193 + 0x811C9DC5),
            write.addr.eq(logged),
            write.data.eq(Cat(inner.write_data, inner.address)),
            write.en.eq(inner.acknowledge & inner.write & (logged != _LOG_WORDS)),
        ]
        m.d.sync += waited.eq(Mux(inner.strobe & ~inner.acknowledge, waited + 1, 0))

        # The simulation's own port.
        host = self.host
        region = host.address[REGION_BITS:]
        quiet = Signal(range(_QUIET_CYCLES + 1))
        active = decoder.byte_valid | inner.strobe | decoder.reply.valid | encoder.bytes.valid
        m.d.sync += quiet.eq(Mux(active, 0, Mux(quiet == _QUIET_CYCLES, quiet, quiet + 1)))
        gap = Signal(range(_GAP_CYCLES + 1))
        listened = Signal(range(_LISTEN_CYCLES + 1))
        fetched = Signal()
        m.d.sync += fetched.eq(host.strobe & ~host.acknowledge)
        word = host.address[:REGION_BITS] - 1
        m.d.comb += [
            decoder.byte.eq(host.write_data),
            read.addr.eq(word >> 1),
        ]
        with m.If(host.strobe & (region == _BYTES >> REGION_BITS)):
            with m.If(host.write):
                # On a line there are tens of cycles between two bytes.
                m.d.comb += host.acknowledge.eq(gap == _GAP_CYCLES)
                m.d.comb += decoder.byte_valid.eq(host.acknowledge)
                m.d.sync += gap.eq(Mux(host.acknowledge, 0, gap + 1))
            with m.Else():
                silent = quiet == _QUIET_CYCLES
                m.d.comb += [
                    host.acknowledge.eq(heard.r_rdy | silent | (listened == _LISTEN_CYCLES)),
                    host.read_data.eq(
                        Mux(heard.r_rdy, Cat(heard.r_data, 1), Mux(silent, 0, _STILL_BUSY))
                    ),
                    heard.r_en.eq(host.acknowledge),
                ]
                m.d.sync += listened.eq(Mux(host.acknowledge, 0, listened + 1))
        with m.Elif(host.strobe & (region == _LOG >> REGION_BITS)):
            with m.If(host.write):
                m.d.comb += host.acknowledge.eq(1)
            with m.Else():
                m.d.comb += [
                    host.acknowledge.eq(fetched),
                    host.read_data.eq(
                        Mux(
                            host.address[:REGION_BITS] == 0,
                            logged,
                            read.data.word_select(word[0], 32),
                        )
                    ),
                ]
        with m.Elif(host.strobe):
            m.d.comb += [reset.eq(host.write), host.acknowledge.eq(1)]
        with m.If(host.acknowledge & host.write & (region != _BYTES >> REGION_BITS)):
            m.d.sync += logged.eq(0)
        with m.Elif(write.en):
            m.d.sync += logged.eq(logged + 1)
        return m


def link_verilog() -> str:
    """Return the link, with what feeds it, as Verilog."""
    return str(verilog.convert(_Bench(), name=TOP, strip_internal_attrs=True))


class _Simulation(VerilatorDevice):
    """The simulation of a bench, which is no accelerator."""

    def identify(self) -> None:
        """Say nothing: there is nothing to identify."""


class Gateware:
    """The link's gateware, from the bytes that come in to the words that it writes.

    Parameters
    ----------
    text
        Verilog to simulate instead of :func:`link_verilog`; tests hand in faults.

    Raises
    ------
    siligrad.device.DeviceUnavailable
        If a tool is missing.
    """

    def __init__(self, text: str | None = None) -> None:
        self._device: Any = _Simulation(
            Geometry(), verilog=link_verilog() if text is None else text
        )

    def close(self) -> None:
        """End the simulation."""
        self._device.close()

    def reset(self) -> None:
        """Forget the session, and whatever was begun."""
        self._device.write_word(_RESET, 1)
        self._replies()

    def answer(self, stream: bytes) -> Answers:
        """Send bytes, without waiting between them, and return all that comes of them."""
        self._device.write_block(_BYTES, np.frombuffer(stream, np.uint8).astype(np.uint32))
        replies = tuple(map(_decoded, self._replies().split(b"\0")[:-1]))
        count = self._device.read_word(_LOG)
        if not count:
            return Answers(replies)
        words = self._device.read_block(_LOG + 1, 2 * count)
        self._device.write_word(_LOG, 0)
        pairs = words.reshape(count, 2).tolist()
        return Answers(replies, tuple((address, word) for word, address in pairs))

    def _replies(self) -> bytes:
        """Return what the link says until it falls silent, zeros included."""
        said = bytearray()
        while True:
            words = self._device.read_block(_BYTES, 8)
            said += bytes(words[words >> 8 == 1].astype(np.uint8))
            if not words.all():
                return bytes(said)


def _decoded(frame: bytes) -> bytes:
    """Return what is in a frame; the frame itself if it is none, which equals no reply."""
    try:
        return bytes(cobs.decode(frame))
    except cobs.DecodeError:
        return frame


@dataclass(frozen=True, slots=True)
class Difference:
    """A stream of frames of which the gateware makes something else than the model.

    Parameters
    ----------
    stream
        What was sent since the reset, each part without waiting inside it.
    expected, got
        What should have come of the last part, and what did.
    """

    stream: tuple[bytes, ...]
    expected: Answers
    got: Answers

    def __str__(self) -> str:
        sent = "\n".join(f"  {part.hex()}" for part in self.stream)
        return (
            f"after a reset and the {len(self.stream)} frames\n{sent}\nthe gateware "
            f"did {_spelled(self.got)}, but must {_spelled(self.expected)}"
        )


def _spelled(answers: Answers) -> str:
    replies = " and ".join(reply.hex() for reply in answers.replies) or "nothing"
    return f"reply {replies} and write {list(answers.writes)}"


def fuzz(gateware: Gateware, seconds: float, seed: int) -> tuple[int, Difference | None]:
    """Send frames for some time; return how many, and the first difference, made short.

    The same seed sends the same frames. Each batch ends with a good request, which must be
    answered: whatever came before it, the link has not hung.
    """
    deadline = time.monotonic() + seconds
    frames = 0
    while frames == 0 or time.monotonic() < deadline:
        parts = tried(random.Random(f"{seed} {frames}"), _BATCH)
        found = _compare(gateware, parts)
        if found is not None:
            return frames + len(found.stream), shrunk(gateware, found)
        frames += len(parts)
    return frames, None


def shrunk(gateware: Gateware, found: Difference) -> Difference:
    """Return a difference of as few parts as can be had by leaving out one after the other."""
    at = 0
    while at < len(found.stream) - 1:
        fewer = _compare(gateware, [*found.stream[:at], *found.stream[at + 1 :]])
        if fewer is None:
            at += 1
        else:
            found = fewer
    return found


def _compare(gateware: Gateware, parts: Sequence[bytes]) -> Difference | None:
    """Send parts after a reset, and return the first difference from the model."""
    gateware.reset()
    model = LinkModel()
    for number, part in enumerate(parts, start=1):
        got = gateware.answer(part)
        pieces = [piece for piece in part.split(b"\0") if piece]
        possible = list(outcomes(model, pieces))
        for expected, after in possible:
            if expected == got:
                model = after
                break
        else:
            return Difference(tuple(parts[:number]), possible[0][0], got)
    return None
