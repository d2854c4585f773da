"""What a run of a program is given, and what it has come to: the files of ``siligrad run``."""

from __future__ import annotations

import hashlib
import json
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from siligrad import tree
from siligrad.device import Device
from siligrad.errors import DataError
from siligrad.isa import Memory
from siligrad.program import Program, Role, Tensor
from siligrad_cli.archive import read_arrays, write_arrays

__all__ = ["Inputs", "State", "image_crc", "output_tensors"]

_STATE_VERSION = 1
_METADATA = "metadata.json"
_OUTPUT = "output/"


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
        arrays: dict[str, NDArray[Any]] = {
            _METADATA: np.frombuffer(json.dumps(metadata).encode(), np.uint8)
        }
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
        if numbers["image"] != image_crc(program):
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
                for name in output_tensors(program)
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


def image_crc(program: Program) -> int:
    """Return the CRC-32 of a program's image, by which a state knows it again."""
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


def output_tensors(program: Program) -> dict[str, int]:
    """Return the results that every step makes anew, by the path to each in the function's."""
    paths = tree.paths(program.result.structure, "result")
    return {
        path: index
        for path, index in zip(paths, program.result.tensors, strict=True)
        if program.tensors[index].role == Role.OUTPUT
    }
