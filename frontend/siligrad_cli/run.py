"""``siligrad run``: run an image on a device, compare it with the reference, stop and go on.

The unit is the step: one execution of the program. A program that was compiled for several steps a
run takes them so many at a time. Whatever a run depends on is in its state file: the words of the
three memories, the shift registers, the steps done; so a run that was stopped goes on, on the same
device or on another, and ends with the bits that it would have ended with anyway.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from siligrad import tree
from siligrad.device import Device, DeviceError, DeviceUnavailable, Report, device_class
from siligrad.errors import DataError
from siligrad.isa import Memory
from siligrad.long_work import progress_bar, stopping
from siligrad.program import Program, Role
from siligrad_cli.archive import BYTES_MAX, write_arrays
from siligrad_cli.options import natural, positive
from siligrad_cli.run_state import Inputs, State, image_crc, output_tensors
from siligrad_sim.lockstep import Lockstep
from siligrad_sim.reference import ReferenceDevice
from siligrad_sim.rtl import TRACE_CYCLES, RtlDevice, trace

__all__ = ["add_parser"]

Arrays = dict[str, NDArray[Any]]

SAVE_EVERY = 100
"""Runs between two states that are saved, unless another number is asked for."""


def add_parser(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "run",
        help="run an image on a device, beside the reference",
        description="Run the program of an image on a device, compare every word with the "
        "reference, and report cycles and saturations. Exit status 1 at the first difference. "
        "Ctrl-C stops after the run that is going on; --resume goes on from a state with the same "
        "bits.",
    )
    parser.add_argument("image", type=Path, metavar="IMAGE", help="what siligrad compile wrote")
    parser.add_argument(
        "--device",
        default="reference",
        metavar="NAME",
        help="an installed device, such as reference, verilator, cxxrtl or pysim (default "
        "reference)",
    )
    parser.add_argument(
        "--steps",
        type=positive,
        metavar="S",
        help="how often to execute the program, in all (default: as often as --input has data; "
        "without it, a single run)",
    )
    parser.add_argument(
        "--input",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="arrays (.npz) by the names of the program's tensors, a step after the other along "
        "the first axis, again from the beginning when they are used up; what stays in the device "
        "may be given too, without that axis. May be repeated. Without it: random numbers within "
        "each input's limit",
    )
    parser.add_argument(
        "--seed",
        type=natural,
        metavar="K",
        help="of stochastic rounding, and of random inputs (default 0)",
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FILE",
        help="write what stays in the device, and the results of every step (.npz)",
    )
    parser.add_argument(
        "--compare",
        action=argparse.BooleanOptionalAction,
        help="run the reference beside and compare every word, counter and cycle after every run "
        "(default: yes, unless the device is the reference)",
    )
    parser.add_argument(
        "--state",
        type=Path,
        metavar="FILE",
        help="save the state here, now and then and at the end",
    )
    parser.add_argument(
        "--save-every",
        type=positive,
        default=SAVE_EVERY,
        metavar="M",
        help=f"runs from one saved state to the next (default {SAVE_EVERY})",
    )
    parser.add_argument(
        "--resume", type=Path, metavar="FILE", help="go on from this state, and save it here again"
    )
    parser.add_argument(
        "--vcd", type=Path, metavar="FILE", help="record every signal of a simulated device"
    )
    parser.add_argument(
        "--vcd-cycles",
        type=positive,
        default=TRACE_CYCLES,
        metavar="C",
        help=f"clock cycles to record (default {TRACE_CYCLES})",
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON, only that")
    parser.set_defaults(run=_command)


class _Machine:
    """The device, and the reference beside it where they are compared."""

    def __init__(self, device: Device, *, compare: bool) -> None:
        self.device = device
        self.pair = Lockstep(ReferenceDevice(device.geometry), device) if compare else None
        self.words_compared = 0

    @property
    def _devices(self) -> list[Device]:
        return [self.device] if self.pair is None else [self.pair.reference, self.device]

    def begin(self, program: Program, inputs: Inputs, state: State) -> None:
        """Load the program, what stays in the device, and what an earlier run had come to."""
        n = program.geometry.array
        for device in self._devices:
            device.load(program, seed=state.seed)
            for index, values in inputs.resident.items():
                tensor = program.tensors[index]
                words = tensor.pack(tensor.encode(values), n)
                device.write_words(tensor.memory, tensor.base, words)
            for memory, words in state.words.items():
                device.write_words(memory, 0, words)
            if state.lfsr:
                device.write_lfsr(state.lfsr)

    def run(self, arguments: list[Any], done: int) -> Report:
        """Run once.

        Raises
        ------
        DeviceError
            If the cycles are not those promised, or anything differs from the reference.
        """
        if self.pair is None:
            return self.device.run(*arguments)
        result = self.pair.run(*arguments)
        self.words_compared += result.words_compared
        if result.first is not None:
            raise DeviceError(
                f"device {self.device.name} differs from the reference in the run after {done} "
                f"steps: {result.first}"
            )
        return result.device


def _command(options: argparse.Namespace) -> int:
    say: Callable[[str], None] = (lambda _: None) if options.json else print
    program = Program.load(options.image)
    compare = options.compare if options.compare is not None else options.device != "reference"
    if compare and options.device == "reference":
        raise DeviceUnavailable(
            "--compare compares a device with the reference; choose another --device"
        )
    inputs, state = _begin(options, program)
    kind = device_class(options.device)
    reason = kind.available()
    if reason is not None:
        raise DeviceUnavailable(f"device {options.device!r} cannot be used here: {reason}")
    say(f"program   {program.name}: {len(program.instructions)} instructions")
    say(f"inputs    {inputs}")
    if state.done:
        say(f"resumed   after {state.done} steps")
    if issubclass(kind, RtlDevice):
        say(f"opening   {options.device} (a simulator is built once, and kept)")
    with kind(program.geometry) as device:
        if device.locked and compare:
            if options.compare:
                raise DeviceUnavailable(
                    f"device {options.device} is locked: its W cannot be compared; use --no-compare"
                )
            say("compared  nothing: the device is locked")
            compare = False
        machine = _Machine(device, compare=compare)
        machine.begin(program, inputs, state)
        if options.vcd:
            trace(device, options.vcd, options.vcd_cycles)
        try:
            finished = _run(machine, program, inputs, state, options)
            if options.state:
                state.save(options.state, device)
        except DeviceError as error:
            if options.state is None:
                raise
            raise DeviceError(f"{error}; {_what_is_saved(options, state)}") from error
        if not finished:
            return _interrupted(options, state)
        if options.output:
            write_arrays(options.output, _results(device, program, state))
    if options.json:
        print(json.dumps(_as_json(options, program, machine, state), indent=1))
    else:
        print("\n".join(_summary(options, program, machine, state)))
    return 0


def _begin(options: argparse.Namespace, program: Program) -> tuple[Inputs, State]:
    """Return inputs and state from what was asked for, and what is resumed."""
    at_once = program.loop.steps
    made = output_tensors(program)
    if options.resume is None:
        inputs = Inputs(program, options.input, options.seed or 0)
        state = State(
            image=image_crc(program),
            data=inputs.digest,
            seed=options.seed or 0,
            steps=options.steps or max(inputs.count // at_once, 1) * at_once,
            done=0,
            cycles=0,
            saturations=np.zeros(len(program.instructions), np.int64),
            outputs={name: [] for name in made} if options.output or not made else None,
        )
    else:
        options.state = options.state or options.resume
        state = State.load(options.resume, program)
        if options.seed is not None and options.seed != state.seed:
            raise DataError(
                f"--seed {options.seed} is not the seed that the run in {options.resume} was "
                f"started with, {state.seed}; leave it out"
            )
        inputs = Inputs(program, options.input, state.seed)
        if inputs.digest != state.data:
            raise DataError(
                f"the run in {options.resume} was started with other inputs; give --input, or "
                "none, as it was given then"
            )
        if options.output and state.outputs is None:
            raise DataError(
                f"the run in {options.resume} was started without --output: the results of its "
                f"{state.done} steps were not kept"
            )
        state.steps = options.steps or state.steps
    if state.steps % at_once:
        raise DataError(
            f"--steps must be a multiple of {at_once}, the steps that {program.name!r} takes in a "
            f"run, not {state.steps}"
        )
    if state.outputs is not None:
        size = 8 * sum(program.tensors[i].rows * program.tensors[i].columns for i in made.values())
        if state.steps * size > BYTES_MAX:
            raise DataError(
                f"the results of {state.steps} steps take {state.steps * size} bytes; at most "
                f"{BYTES_MAX} are kept: ask for fewer steps, or leave out --output"
            )
    return inputs, state


def _run(
    machine: _Machine,
    program: Program,
    inputs: Inputs,
    state: State,
    options: argparse.Namespace,
) -> bool:
    """Run until all steps are done; return False if Ctrl-C was pressed before."""
    outputs = output_tensors(program) if state.outputs is not None else {}
    runs = 0
    bar = progress_bar(state.steps, what=f"running on {options.device}", done=state.done)
    with stopping() as stopped, bar as advance:
        while state.done < state.steps:
            if stopped():
                return False
            report = machine.run(inputs.of_run(state.done), state.done)
            state.done += program.loop.steps
            state.cycles += report.cycles
            state.saturations += np.array(report.saturations, np.int64)
            if outputs and state.outputs is not None:
                values = tree.flatten(machine.device.read())[0]
                for name, value in _by_path(program, values).items():
                    state.outputs[name].append(value)
            runs += 1
            if options.state and runs % options.save_every == 0:
                state.save(options.state, machine.device)
            advance(program.loop.steps, "")
    return True


def _by_path(program: Program, values: list[NDArray[np.float64]]) -> dict[str, NDArray[np.float64]]:
    """Return the results that every step makes anew by path, with a first axis of steps."""
    outputs = output_tensors(program)
    found = {}
    for index, value in zip(program.result.tensors, values, strict=True):
        for path, tensor in outputs.items():
            if tensor == index:
                found[path] = value if program.tensors[index].moves else value[None]
    return found


def _again(options: argparse.Namespace) -> str:
    """Return the command that goes on from the state that was saved."""
    again = ["siligrad", "run", str(options.image), "--device", options.device]
    for path in options.input:
        again += ["--input", str(path)]
    if options.output:
        again += ["--output", str(options.output)]
    return shlex.join([*again, "--resume", str(options.state)])


def _what_is_saved(options: argparse.Namespace, state: State) -> str:
    """Say what a run that failed has not lost."""
    if state.saved is None:
        return "no state was saved before that: begin anew"
    return (
        f"{state.saved} of {state.steps} steps are saved, and this goes on with them when the "
        f"device can be used again: {_again(options)}"
    )


def _interrupted(options: argparse.Namespace, state: State) -> int:
    """Say how to go on, and return the exit status."""
    message = f"siligrad: interrupted after {state.done} of {state.steps} steps"
    if options.state:
        message += f"; this goes on with them: {_again(options)}"
    else:
        message += "; nothing was saved, --state FILE would have"
    print(message, file=sys.stderr)
    return 130


def _results(device: Device, program: Program, state: State) -> Arrays:
    """Return what stays in the device, by tensor, and the results of every step, by path.

    What a lock keeps is left out.
    """
    n = program.geometry.array
    arrays: Arrays = {}
    for tensor in program.tensors:
        if tensor.role == Role.RESIDENT and not (device.locked and tensor.memory == Memory.W):
            words = device.read_words(tensor.memory, tensor.base, tensor.words(n))
            arrays[tensor.name] = tensor.decode(tensor.unpack(words, n))
    for name, parts in (state.outputs or {}).items():
        arrays[name] = np.concatenate(parts)
    return arrays


def _saturated(program: Program, state: State) -> list[str]:
    sources = program.sources or ("line unknown",) * len(program.instructions)
    counts = enumerate(state.saturations.tolist())
    return [
        f"instruction {index} ({sources[index]}): {count} elements"
        for index, count in counts
        if count
    ]


def _summary(
    options: argparse.Namespace, program: Program, machine: _Machine, state: State
) -> list[str]:
    runs = state.steps // program.loop.steps
    several = f" in {runs} runs" if program.loop.steps > 1 else ""
    head = (
        f"run       {state.steps} steps{several} on {options.device}: {program.cycles} cycles each "
        f"predicted, {state.cycles / runs:g} measured"
    )
    lines = [head]
    lines += [f"saturated {line}" for line in _saturated(program, state)] or ["saturated none"]
    if machine.pair is not None:
        lines.append(f"compared  {machine.words_compared} words with the reference, all equal")
    if counters := machine.device.counters:
        counted = ", ".join(f"{count} {name}" for name, count in counters.items())
        lines.append(f"link      {counted}")
    for name in ("state", "output", "vcd"):
        if getattr(options, name):
            lines.append(f"{name:<9} {getattr(options, name)}")
    return lines


def _as_json(
    options: argparse.Namespace, program: Program, machine: _Machine, state: State
) -> Mapping[str, Any]:
    runs = state.steps // program.loop.steps
    return {
        "program": program.name,
        "device": options.device,
        "inputs": state.data,
        "seed": state.seed,
        "steps": state.steps,
        "runs": runs,
        "cycles_predicted": program.cycles,
        "cycles_measured": state.cycles / runs,
        "saturations": state.saturations.tolist(),
        "words_compared": machine.words_compared,
        "link": dict(machine.device.counters),
    }
