"""The link's frame decoder in cocotb: bytes as they come, stalls on every side, judged by a model.

The bench is :mod:`siligrad_sim.benches.link`; it sees each byte that is decoded and each cycle of a
handshake, and is a hundred times slower than :mod:`benchmarks.fuzz.gateware`, which is not.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Literal

from amaranth.hdl import Module
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from siligrad_hdl.link.cobs import CobsDecoder
from siligrad_hdl.link.serial import LinkCommands
from siligrad_hdl.ports import HostPort
from siligrad_sim.bench_runner import run_bench

__all__ = ["BENCH", "FrameDecoder", "fuzz"]

BENCH = "siligrad_sim.benches.link"

_SEEDS = 1 << 32


class FrameDecoder(wiring.Component):  # type: ignore[misc]  # Amaranth has no types
    """What is between the bytes of a line and the host port, as in the link.

    Parameters
    ----------
    fault
        What is wrong with it; tests must find it.

    Members
    -------
    byte, byte_valid : :py:`In(8)`, :py:`In(1)`
        A byte from the line.
    data, data_valid, end, complete
        What :class:`~siligrad_hdl.link.cobs.CobsDecoder` has made of the bytes.
    reply, reply_end, host
        As of :class:`~siligrad_hdl.link.serial.LinkCommands`.
    active : :py:`Out(1)`
        Something of all this happens in this cycle.
    """

    def __init__(self, *, fault: Literal["ends anywhere", "drops replies", ""] = "") -> None:
        self.fault = fault
        super().__init__({
            "byte": In(8),
            "byte_valid": In(1),
            "data": Out(8),
            "data_valid": Out(1),
            "end": Out(1),
            "complete": Out(1),
            "reply": Out(stream.Signature(8)),
            "reply_end": Out(1),
            "host": In(HostPort()),
            "active": Out(1),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.decoder = decoder = CobsDecoder()
        m.submodules.commands = commands = LinkCommands()
        wiring.connect(m, commands.reply, wiring.flipped(self.reply))
        wiring.connect(m, commands.host, wiring.flipped(self.host))
        complete = decoder.end if self.fault == "ends anywhere" else decoder.complete
        m.d.comb += [
            decoder.bytes.payload.eq(self.byte),
            decoder.bytes.valid.eq(self.byte_valid),
            self.data.eq(decoder.data),
            self.data_valid.eq(decoder.data_valid),
            self.end.eq(decoder.end),
            self.complete.eq(complete),
            self.reply_end.eq(commands.reply_end),
            self.active.eq(
                self.byte_valid
                | self.data_valid
                | self.reply.valid
                | self.reply_end
                | self.host.strobe
            ),
        ]
        if self.fault == "drops replies":
            m.d.comb += commands.reply.ready.eq(1)
        m.d.sync += [
            commands.data.eq(decoder.data),
            commands.data_valid.eq(decoder.data_valid),
            commands.end.eq(decoder.end),
            commands.complete.eq(complete),
        ]
        return m


def fuzz(seconds: float, seed: int) -> int:
    """Run the bench for some time in Icarus, and return how many frames it has sent.

    Raises
    ------
    siligrad_sim.bench_runner.BenchFailed
        If the decoder does something else than the model; the message has the frames.
    siligrad_sim.toolchain.ToolMissing
        If Icarus is missing.
    """
    with tempfile.TemporaryDirectory(prefix="siligrad-fuzz-") as folder:
        report = Path(folder, "frames")
        run_bench(
            FrameDecoder(),
            BENCH,
            simulator="icarus",
            parameters={"seconds": seconds, "report": str(report)},
            tests=["answers_frames_as_the_specification_says"],
            seed=seed % _SEEDS,
            unknowns=True,
        )
        return int(report.read_text(encoding="ascii"))
