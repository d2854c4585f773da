"""Proofs that the adapters of AXI4-Lite and Wishbone keep the protocols on both of their sides.

A bench is the adapter between a bus of which nothing is known but that its master keeps the rules,
and a host port that answers when it likes, within :data:`_HOST` cycles. What is asserted is written
after ARM IHI 0022 (A3.2 handshake, A3.3 dependencies, B1.1 AXI4-Lite), after OpenCores'
*Wishbone B4* (chapter 3, classic cycles), and after ``docs/spec/host.md``. sby proves it for all
cycles by induction; cover statements show that the assumptions leave all kinds of requests.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from amaranth.back import rtlil
from amaranth.hdl import Assert, Assume, Cat, Cover, Module, Mux, ResetSignal, Signal, Value

from siligrad_hdl.axi_lite import AxiLiteAdapter, Response
from siligrad_hdl.wishbone import WishboneAdapter
from siligrad_sim.formal.proof import Check, Proof, Verdict
from siligrad_sim.formal.tools import ProverError, run_sby

__all__ = ["AXI_LITE", "WISHBONE", "check_axi_lite", "check_wishbone"]

_HOST = 2
"""Cycles that the host port lets wait at most before it acknowledges."""

_READY = 2
"""Cycles that a master lets wait at most before it takes a response."""

_ANSWER = 14
"""Cycles in which every request is answered: two of both directions and their waiting, at most."""

_DEPTH = _ANSWER + 4

Spoil = Callable[[Module, Any], None]
"""Puts a fault in: adds statements to the bench, which go before those that are there."""


class _Bench:
    """What both buses share: a module with the past of signals, and the host port's side."""

    def __init__(self) -> None:
        self.m = Module()
        self.ports: list[Signal] = []
        self.begun = Signal()  # there is a cycle before this one
        self.m.d.sync += self.begun.eq(1)
        self.m.d.comb += Assume(~ResetSignal())

    def free(self, name: str, width: int = 1) -> Signal:
        """Return an input, of which nothing is known."""
        signal = Signal(width, name=name)
        self.ports.append(signal)
        return signal

    def past(self, value: Value) -> Signal:
        """Return `value` as it was in the cycle before."""
        before = Signal(len(value))
        self.m.d.sync += before.eq(value)
        return before

    def claim(self, condition: Value, claim: Value) -> None:
        """Assert `claim` in every cycle with `condition`."""
        with self.m.If(condition):
            self.m.d.comb += Assert(claim, src_loc_at=1)

    def assume(self, condition: Value, claim: Value) -> None:
        """Assume `claim` in every cycle with `condition`."""
        with self.m.If(condition):
            self.m.d.comb += Assume(claim)

    def reach(self, condition: Value) -> None:
        """Ask for a run in which `condition` is."""
        self.m.d.comb += Cover(condition, src_loc_at=1)

    def waiting(self, condition: Value) -> Signal:
        """Return for how many cycles up to the one before `condition` has been; at most 63."""
        count = Signal(6)
        with self.m.If(condition):
            self.m.d.sync += count.eq(count + (count != 63))
        with self.m.Else():
            self.m.d.sync += count.eq(0)
        return count

    def serve(self, host: Any) -> None:
        """Answer at a host port, and assert that each request is held until it is answered."""
        acknowledge, data = self.free("acknowledge"), self.free("read_data", 32)
        self.m.d.comb += [host.acknowledge.eq(acknowledge), host.read_data.eq(data)]
        self.m.d.comb += Assume(~acknowledge | host.strobe)
        self.assume(self.waiting(host.strobe & ~acknowledge) >= _HOST, acknowledge)
        request = Cat(host.write, host.address, host.write_data)
        held = self.begun & self.past(host.strobe & ~acknowledge)
        self.claim(held, host.strobe)
        # What a read carries as data means nothing.
        self.claim(held, request[:-32] == self.past(request)[:-32])
        self.claim(held & host.write, host.write_data == self.past(host.write_data))

    def prove(self, what: str) -> Verdict:
        """Prove all claims for all cycles; if they hold, every cover statement must be reached."""
        text = rtlil.convert(self.m, name="bench", ports=self.ports)
        proved = run_sby("prove", _DEPTH, text, top="bench")
        if proved.holds:
            covered = run_sby("cover", _DEPTH, text, top="bench")
            if not covered.holds:
                raise ProverError(f"{what}: the assumptions leave too little: {covered.said}")
        return Verdict(proved.holds, f"{what}: {proved.said}")


def _no_fault(m: Module, adapter: Any) -> None:
    del m, adapter


def check_axi_lite(spoil: Spoil = _no_fault) -> Verdict:
    """Prove that the adapter of AXI4-Lite keeps the protocol, with a fault if one is given."""
    bench = _Bench()
    m = bench.m
    m.submodules.adapter = adapter = AxiLiteAdapter()
    axi, host = adapter.axi, adapter.host
    bench.serve(host)
    inputs = (
        "awaddr",
        "awvalid",
        "wdata",
        "wstrb",
        "wvalid",
        "bready",
        "araddr",
        "arvalid",
        "rready",
    )
    bus = {name: bench.free(name, len(getattr(axi, name))) for name in inputs}
    m.d.comb += [getattr(axi, name).eq(signal) for name, signal in bus.items()]
    spoil(m, adapter)

    # The master: what is valid stays as it is until it is taken, and responses are taken some time.
    for valid, ready, payload in (
        (bus["awvalid"], axi.awready, bus["awaddr"]),
        (bus["wvalid"], axi.wready, Cat(bus["wdata"], bus["wstrb"])),
        (bus["arvalid"], axi.arready, bus["araddr"]),
    ):
        held = bench.begun & bench.past(valid & ~ready)
        bench.assume(held, valid & (payload == bench.past(payload)))
    for valid, ready in ((axi.bvalid, bus["bready"]), (axi.rvalid, bus["rready"])):
        bench.assume(bench.waiting(valid & ~ready) >= _READY, ready)

    # The same for what the adapter says.
    for valid, ready, payload in (
        (axi.bvalid, bus["bready"], axi.bresp),
        (axi.rvalid, bus["rready"], Cat(axi.rdata, axi.rresp)),
    ):
        held = bench.begun & bench.past(valid & ~ready)
        bench.claim(held, valid & (payload == bench.past(payload)))

    # Address and data of a write, and its response: one of each, the response after both.
    takes_aw, takes_w = bus["awvalid"] & axi.awready, bus["wvalid"] & axi.wready
    takes_ar = bus["arvalid"] & axi.arready
    gives_b, gives_r = axi.bvalid & bus["bready"], axi.rvalid & bus["rready"]
    owed = {name: Signal(3, name=f"owed_{name}") for name in ("aw", "w", "r")}
    for name, taken, given in (
        ("aw", takes_aw, gives_b),
        ("w", takes_w, gives_b),
        ("r", takes_ar, gives_r),
    ):
        m.d.sync += owed[name].eq(owed[name] + taken - given)
        bench.claim(~given | taken, owed[name] <= 1)
    for name, valid in (("aw", axi.bvalid), ("w", axi.bvalid), ("r", axi.rvalid)):
        m.d.comb += Assert(owed[name] == valid)

    # What is asked of the host port, and what is answered.
    aligned_w, aligned_r = ~bus["awaddr"][:2].any(), ~bus["araddr"][:2].any()
    good = bus["wstrb"].all() & aligned_w
    write, read = host.strobe & host.write, host.strobe & ~host.write
    bench.claim(write, bus["awvalid"] & bus["wvalid"] & good)
    bench.claim(write, (host.address == bus["awaddr"][2:]) & (host.write_data == bus["wdata"]))
    bench.claim(read, bus["arvalid"] & aligned_r & (host.address == bus["araddr"][2:]))
    bench.claim(takes_aw | takes_w, takes_aw & takes_w & (~good | (write & host.acknowledge)))
    bench.claim(takes_ar, ~aligned_r | (read & host.acknowledge))
    bench.claim(write & host.acknowledge, takes_aw)
    bench.claim(read & host.acknowledge, takes_ar)
    after_w, after_r = bench.begun & bench.past(takes_aw), bench.begun & bench.past(takes_ar)
    bench.claim(after_w, axi.bresp == Mux(bench.past(good), Response.OKAY, Response.SLVERR))
    bench.claim(after_r, axi.rresp == Mux(bench.past(aligned_r), Response.OKAY, Response.SLVERR))
    bench.claim(after_r, axi.rdata == bench.past(Mux(aligned_r, host.read_data, 0)))

    # Nobody waits for ever.
    m.d.comb += [
        Assert(bench.waiting(bus["awvalid"] & bus["wvalid"] & ~axi.awready) < _ANSWER),
        Assert(bench.waiting(bus["arvalid"] & ~axi.arready) < _ANSWER),
    ]
    bench.reach(gives_b & (axi.bresp == Response.OKAY) & bus["arvalid"])
    bench.reach(gives_b & (axi.bresp == Response.SLVERR))
    bench.reach(gives_r & (axi.rresp == Response.OKAY) & axi.rdata.all() & bus["awvalid"])
    bench.reach(gives_r & (axi.rresp == Response.SLVERR))
    bench.reach(axi.bvalid & bench.past(axi.bvalid & ~bus["bready"]))
    return bench.prove("AXI4-Lite")


def check_wishbone(spoil: Spoil = _no_fault) -> Verdict:
    """Prove that the adapter of Wishbone keeps the protocol, with a fault if one is given."""
    bench = _Bench()
    m = bench.m
    m.submodules.adapter = adapter = WishboneAdapter()
    bus, host = adapter.wishbone, adapter.host
    bench.serve(host)
    names = ("cyc", "stb", "we", "adr", "sel", "dat_w")
    inputs = {name: bench.free(name, len(getattr(bus, name))) for name in names}
    m.d.comb += [getattr(bus, name).eq(signal) for name, signal in inputs.items()]
    spoil(m, adapter)

    # The master: a request that it goes on with is the same until it is answered. It may end its
    # cycle at any time.
    requested = inputs["cyc"] & inputs["stb"]
    request = Cat(inputs[name] for name in ("we", "adr", "sel", "dat_w"))
    answered = bus.ack | bus.err
    goes_on = bench.begun & bench.past(requested & ~answered) & requested
    bench.assume(goes_on, request == bench.past(request))

    # Answers are to requests, one to each, and say what is true.
    bench.claim(answered, requested & ~(bus.ack & bus.err))
    bench.claim(bus.err, ~inputs["sel"].all())
    bench.claim(bus.ack, inputs["sel"].all() & host.strobe & host.acknowledge)
    bench.claim(bus.ack & ~inputs["we"], bus.dat_r == host.read_data)

    # What is at the host port is what was requested in the cycle before it came there.
    strobe_before = bench.past(host.strobe)
    comes = bench.begun & host.strobe & ~strobe_before
    asked = Cat(inputs["we"], inputs["adr"], inputs["dat_w"])
    bench.claim(comes, bench.past(requested & ~answered & inputs["sel"].all()))
    bench.claim(comes, Cat(host.write, host.address, host.write_data) == bench.past(asked))
    # A request whose master has waited for it is answered when it is done, and any other is not.
    waited_for = Signal()
    still = requested & (comes | waited_for)
    with m.If(host.strobe):
        m.d.sync += waited_for.eq(still & ~host.acknowledge)
    with m.Else():
        m.d.sync += waited_for.eq(0)
    bench.claim(host.strobe & host.acknowledge, bus.ack == still)
    bench.claim(still & host.strobe, Cat(host.write, host.address, host.write_data) == asked)
    # Between two requests at the host port there is a cycle without.
    bench.claim(bench.begun & bench.past(host.strobe & host.acknowledge), ~host.strobe)

    # Nobody waits for ever.
    m.d.comb += Assert(bench.waiting(requested & ~answered) < _ANSWER)
    bench.reach(bus.ack & inputs["we"])
    bench.reach(bus.ack & ~inputs["we"] & bus.dat_r.all())
    bench.reach(bus.err)
    bench.reach(host.strobe & host.acknowledge & requested & ~bus.ack)
    return bench.prove("Wishbone")


def _axi_drops_response(m: Module, adapter: Any) -> None:
    """Let a response be there for one cycle only."""
    seen = Signal()
    m.d.sync += seen.eq(adapter.axi.bvalid)
    with m.If(seen):
        m.d.comb += adapter.axi.bready.eq(1)


def _axi_ignores_strobes(m: Module, adapter: Any) -> None:
    m.d.comb += adapter.axi.wstrb.eq(0b1111)


def _wishbone_ignores_selection(m: Module, adapter: Any) -> None:
    m.d.comb += adapter.wishbone.sel.eq(0b1111)


def _wishbone_forgets_the_end(m: Module, adapter: Any) -> None:
    """Take a cycle that was ended for one that goes on."""
    m.d.comb += [adapter.wishbone.cyc.eq(1), adapter.wishbone.stb.eq(1)]


def _axi_control(spoil: Spoil) -> Check:
    return lambda array: check_axi_lite(spoil)


def _wishbone_control(spoil: Spoil) -> Check:
    return lambda array: check_wishbone(spoil)


AXI_LITE = Proof(
    name="axi-lite",
    scope=(
        "the adapter of AXI4-Lite, for all cycles by induction and any master that keeps the "
        "rules: a response stays as it is until it is taken, there is one for each request and "
        "none without, no write with partial strobes and nothing misaligned reaches the host port, "
        "what does is held until it is acknowledged; a request waits at most "
        f"{_ANSWER} cycles where host port and master let wait at most {_HOST} and {_READY}"
    ),
    check=lambda array: check_axi_lite(),
    controls={
        "a response is withdrawn after a cycle": _axi_control(_axi_drops_response),
        "the strobes of a write are not looked at": _axi_control(_axi_ignores_strobes),
    },
)
"""AXI4-Lite keeps its protocol."""

WISHBONE = Proof(
    name="wishbone",
    scope=(
        "the adapter of Wishbone, for all cycles by induction and any master of classic cycles, "
        "which may end a cycle at any time: an answer is to a request that is there, one for each, "
        "with the word of the host port, no request of a part of a word reaches the host port, "
        "what does is held until it is acknowledged and carried out once; a request waits at most "
        f"{_ANSWER} cycles where the host port lets wait at most {_HOST}"
    ),
    check=lambda array: check_wishbone(),
    controls={
        "the selection of bytes is not looked at": _wishbone_control(_wishbone_ignores_selection),
        "a cycle that was ended is answered": _wishbone_control(_wishbone_forgets_the_end),
    },
)
"""Wishbone keeps its protocol."""
