"""What the tests of the benches share: how a bench is run, and on which components."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In

from siligrad.isa import Geometry, encode_program
from siligrad_hdl.accelerator import Accelerator
from siligrad_sim.bench_runner import Simulator, run_bench
from siligrad_sim.benches.programs import Step, training_step

__all__ = ["SHARED", "Case", "connect", "run_accelerator", "small_step"]


@dataclass(frozen=True)
class Case:
    """A bench, what builds its component, and the parameters of both."""

    bench: str
    component: type
    parameters: dict[str, Any] = field(default_factory=dict)
    tests: int = 1

    def run(self, simulator: Simulator, **faults: Any) -> list[str]:
        component = self.component(**self.parameters, **faults)
        bench = f"siligrad_sim.benches.{self.bench}"
        return run_bench(component, bench, simulator=simulator, parameters=self.parameters)

    @property
    def id(self) -> str:
        return "-".join([self.bench, *map(str, self.parameters.values())])


SHARED = Geometry(array=3, x_depth=36, w_depth=36, e_depth=36, program_depth=40)
"""One accelerator for the programs of several tests, to build only once."""


def small_step(n: int, word_bits: int = 16, operand_bits: int = 16, steps: int = 1) -> Step:
    return training_step(
        n,
        batch=n + 1,
        inputs=n + 2,
        hidden=2 * n - 1,
        outputs=n - 1,
        word_bits=word_bits,
        operand_bits=operand_bits,
        steps=steps,
    )


def run_accelerator(
    step: Step,
    simulator: Simulator,
    *,
    component: object = None,
    bench: str = "accelerator",
    tests: list[str] | None = None,
    unknowns: bool = False,
    **parameters: Any,
) -> list[str]:
    return run_bench(
        Accelerator(step.geometry) if component is None else component,
        f"siligrad_sim.benches.{bench}",
        simulator=simulator,
        parameters={
            "geometry": asdict(step.geometry),
            "lines": [f"{line:x}" for line in encode_program(step.instructions)],
            "loop": asdict(step.loop),
            **parameters,
        },
        tests=tests,
        unknowns=unknowns,
    )


def connect(
    m: Module,
    outer: wiring.Component,
    inner: wiring.Component,
    without: set[tuple[str | int, ...]] | None = None,
) -> None:
    """Join every port of two components of one signature, but those `without`."""
    for path, member, port in outer.signature.flatten(outer):
        if any(path[: len(names)] == names for names in without or ()):
            continue
        other: Any = inner
        for name in path:
            other = other[name] if isinstance(name, int) else getattr(other, name)
        m.d.comb += other.eq(port) if member.flow == In else port.eq(other)
