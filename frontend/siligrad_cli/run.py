"""``siligrad run``: run an image on a device, compare it with the reference, stop and go on.

The unit is the step: one execution of the program. A program that was compiled for several steps a
run takes them so many at a time. Whatever a run depends on is in its state file: the words of the
three memories, the shift registers, the steps done; so a run that was stopped goes on, on the same
device or on another, and ends with the bits that it would have ended with anyway.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shlex
import sys
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from siligrad import tree
from siligrad.device import Device, DeviceError, DeviceUnavailable, Report, device_class
from siligrad.errors import DataError
from siligrad.isa import Memory
from siligrad.long_work import progress_bar, stopping
from siligrad.program import Program, Role, Tensor
from siligrad_cli.archive import BYTES_MAX, read_arrays, write_arrays
from siligrad_cli.options import natural, positive
from siligrad_sim.lockstep import Lockstep
from siligrad_sim.reference import ReferenceDevice
from siligrad_sim.rtl import TRACE_CYCLES, RtlDevice, trace

__all__ = ["Inputs", "State", "add_parser"]

Arrays = dict[str, NDArray[Any]]

SAVE_EVERY = 100
"""Runs between two states that are saved, unless another number is asked for."""

_STATE_VERSION = 1
_METADATA = "metadata.json"
_OUTPUT = "output/"


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


@dataclass
class State:
    """What a run has come to: with the image and the inputs, all that the rest depends on.

    Parameters
    ----------
    image
        CRC-32 of the image.
    data
        What the inputs are: a digest of them, or ``"random"``.
    seed
        Of the run.
    steps, done
        To be done in all, and done.
    cycles
        That the device counted in all.
    saturations
        Saturated elements of each instruction in all.
    outputs
        The results of every step so far, by name; None if there are some that nobody wants.
    words, lfsr
        The memories and the shift registers; empty before anything has run.
    saved
        Steps after which the state was last written or read; None if it never was.
    """

    image: int
    data: str
    seed: int
    steps: int
    done: int
    cycles: int
    saturations: NDArray[np.int64]
    outputs: dict[str, list[NDArray[np.float64]]] | None
    words: dict[Memory, NDArray[np.int32]] = field(default_factory=dict)
    lfsr: tuple[int, ...] = ()
    saved: int | None = None

    def save(self, path: Path, device: Device) -> None:
        """Write the state, with what `device` holds now.

        Raises
        ------
        DataError
            If it cannot be written.
        """
        metadata = {
            "version": _STATE_VERSION,
            "image": self.image,
            "data": self.data,
            "seed": self.seed,
            "steps": self.steps,
            "done": self.done,
            "cycles": self.cycles,
            "outputs": self.outputs is not None,
        }
        arrays: Arrays = {_METADATA: np.frombuffer(json.dumps(metadata).encode(), np.uint8)}
        for memory, words in device.dump().items():
            arrays[memory.name] = words.astype(np.int16)
        arrays["lfsr"] = np.array(device.read_lfsr(), np.uint32)
        arrays["saturations"] = self.saturations
        for name, parts in (self.outputs or {}).items():
            if parts:
                arrays[_OUTPUT + name] = np.concatenate(parts)
        write_arrays(path, arrays)
        self.saved = self.done

    @staticmethod
    def load(path: Path, program: Program) -> State:
        """Read the state at `path`, of a run of `program`.

        Raises
        ------
        DataError
            If it is no state, damaged, or of another program.
        """
        arrays = read_arrays(path)
        try:
            metadata = json.loads(arrays.pop(_METADATA).tobytes())
            if metadata["version"] != _STATE_VERSION:
                raise DataError(f"{path} is a state of version {metadata['version']}, not 1")
            numbers = {
                name: int(metadata[name]) for name in ("image", "seed", "steps", "done", "cycles")
            }
            data, kept = str(metadata["data"]), bool(metadata["outputs"])
        except (KeyError, ValueError, TypeError) as error:
            raise DataError(
                f"{path} is no state of a run: siligrad run --state writes one"
            ) from error
        if numbers["image"] != _crc(program):
            raise DataError(
                f"{path} is the state of another program than {program.name!r}: resume it with the "
                "image that it was made with"
            )
        geometry = program.geometry
        n = geometry.array
        count = len(program.instructions)
        wanted: dict[str, tuple[tuple[int, ...], type]] = {
            memory.name: ((geometry.depth(memory), n), np.int16) for memory in Memory
        }
        wanted |= {"lfsr": ((n,), np.uint32), "saturations": ((count,), np.int64)}
        for name, (shape, dtype) in wanted.items():
            array = arrays.get(name)
            if array is None or array.shape != shape or array.dtype != dtype:
                raise DataError(f"{path} is damaged: {name} is not {dtype.__name__} of {shape}")
        limit = (1 << (geometry.word_bits - 1)) - 1
        if any(np.abs(arrays[memory.name].astype(np.int32)).max() > limit for memory in Memory):
            raise DataError(f"{path} is damaged: a word is beyond {limit}")
        if not arrays["lfsr"].all() or not 0 <= numbers["done"] <= numbers["steps"]:
            raise DataError(f"{path} is damaged: its numbers contradict each other")
        outputs = None
        if kept:
            outputs = {
                name: [arrays[_OUTPUT + name]] if _OUTPUT + name in arrays else []
                for name in _output_tensors(program)
            }
        return State(
            **numbers,
            data=data,
            saturations=arrays["saturations"],
            outputs=outputs,
            words={memory: arrays[memory.name].astype(np.int32) for memory in Memory},
            lfsr=tuple(arrays["lfsr"].tolist()),
            saved=numbers["done"],
        )


def _crc(program: Program) -> int:
    return zlib.crc32(program.to_bytes())


class Inputs:
    """What each run is given: arrays of files, or random numbers.

    Parameters
    ----------
    program
        What is run.
    files
        Where the arrays are; none for random numbers.
    seed
        Of random numbers; those of a step depend on nothing else but its number.

    Raises
    ------
    DataError
        If a file cannot be read, or an array is missing, unknown, or does not fit.
    """

    def __init__(self, program: Program, files: list[Path], seed: int) -> None:
        self._program = program
        self._seed = seed
        self._wanted = [
            index
            for argument in program.arguments
            if not argument.resident
            for index in argument.tensors
        ]
        self.digest = "random"
        self.count = 0
        self._arrays: dict[int, NDArray[np.float64]] = {}
        self.resident: dict[int, NDArray[np.float64]] = {}
        if files:
            self._read(files)

    def _read(self, files: list[Path]) -> None:
        tensors = self._program.tensors
        staying = [i for a in self._program.arguments if a.resident for i in a.tensors]
        names = {tensors[index].name: index for index in self._wanted + staying}
        digest = hashlib.sha256()
        for path in files:
            for name, array in sorted(read_arrays(path).items()):
                if name not in names:
                    known = ", ".join(names)
                    raise DataError(f"{path}: the program has no array {name!r}; it has {known}")
                index = names[name]
                where = self._arrays if index in self._wanted else self.resident
                where[index] = _checked(path, tensors[index], array, steps=index in self._wanted)
                digest.update(f"{name} {array.shape} ".encode() + where[index].tobytes())
        self.digest = digest.hexdigest()
        where_from = ", ".join(map(str, files))
        for index in self._wanted:
            if index not in self._arrays:
                raise DataError(
                    f"{where_from} has no array {tensors[index].name!r}, which the program is "
                    f"given in every step: shape (steps, {_spell(tensors[index].shape)})"
                )
        counts = {tensors[index].name: len(array) for index, array in self._arrays.items()}
        if len(set(counts.values())) > 1:
            each = ", ".join(f"{count} of {name}" for name, count in counts.items())
            raise DataError(f"{where_from} has different numbers of steps: {each}")
        self.count = min(counts.values(), default=0)

    def of_run(self, done: int) -> list[Any]:
        """Return the arguments of the run that begins after `done` steps."""
        steps = [done + step for step in range(self._program.loop.steps)]
        values = {}
        random = [] if self._arrays else [self._random(step) for step in steps]
        for index in self._wanted:
            if self._arrays:
                rows = self._arrays[index][[step % self.count for step in steps]]
            else:
                rows = np.stack([drawn[index] for drawn in random])
            values[index] = rows if self._program.tensors[index].moves else rows[0]
        return [
            tree.unflatten(argument.structure, [values[index] for index in argument.tensors])
            for argument in self._program.arguments
            if not argument.resident
        ]

    def _random(self, step: int) -> dict[int, NDArray[np.float64]]:
        """Return numbers within the limit of each input; +1 and -1 where only these are allowed."""
        rng = np.random.default_rng((self._seed, step))
        drawn = {}
        for index in self._wanted:
            tensor = self._program.tensors[index]
            if tensor.sign:
                drawn[index] = rng.choice([-1.0, 1.0], tensor.shape)
            else:
                largest = float(tensor.format.decode(tensor.limit)) * abs(tensor.scale)
                drawn[index] = rng.uniform(-largest, largest, tensor.shape)
        return drawn

    def __str__(self) -> str:
        if not self._wanted:
            return "none: the program is given nothing"
        if not self._arrays:
            return f"random numbers within each input's limit, seed {self._seed}"
        return f"{self.count} steps from files"


def _spell(shape: tuple[int, ...]) -> str:
    return ", ".join(map(str, shape))


def _checked(
    path: Path, tensor: Tensor, array: NDArray[Any], *, steps: bool
) -> NDArray[np.float64]:
    """Return `array` as floating point if `tensor` can hold it, each of its steps."""
    if array.dtype.kind not in "fiub":
        raise DataError(f"{path}: {tensor.name} holds {array.dtype}, not numbers")
    shape = array.shape[1:] if steps else array.shape
    if shape != tensor.shape or (steps and (array.ndim == 0 or not len(array))):
        wanted = f"(steps, {_spell(tensor.shape)})" if steps else f"({_spell(tensor.shape)})"
        raise DataError(f"{path}: {tensor.name} must have shape {wanted}, not {array.shape}")
    values = array.astype(np.float64)
    for step, value in enumerate(values if steps else [values]):
        try:
            tensor.encode(value)
        except DataError as error:
            raise DataError(f"{path}: {f'step {step}: ' if steps else ''}{error}") from error
    return values


def _output_tensors(program: Program) -> dict[str, int]:
    """Return the results that every step makes anew, by the path to each in the function's."""
    paths = tree.paths(program.result.structure, "result")
    return {
        path: index
        for path, index in zip(paths, program.result.tensors, strict=True)
        if program.tensors[index].role == Role.OUTPUT
    }


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
    made = _output_tensors(program)
    if options.resume is None:
        inputs = Inputs(program, options.input, options.seed or 0)
        state = State(
            image=_crc(program),
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
    outputs = _output_tensors(program) if state.outputs is not None else {}
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
    outputs = _output_tensors(program)
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
