"""A random program as plain data: everything that is compiled and run follows from it.

There are two kinds. A :class:`NetworkCase` is a network with its loss, which goes through autodiff
and compiler as a user's does; a :class:`BareCase` is instructions at random, which reach corners
that no compiler emits. Both are written to JSON and read back; what is read is checked.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, TypeAlias, cast, get_args

from siligrad.errors import DataError
from siligrad.isa import Geometry, Rounding

__all__ = [
    "BareCase",
    "Case",
    "Contents",
    "Formats",
    "Loss",
    "NetworkCase",
    "Output",
    "Residual",
    "digest",
    "from_json",
    "to_json",
]

Contents = Literal["example", "random", "coarse", "largest", "zeros"]
"""What words hold: values like those that formats were chosen with, any codes, moderate codes whose
sums lie half-way between two results often, codes of the largest magnitude, zeros."""

Loss = Literal["hinge", "squares", "none"]
"""Squared hinge, squared error, or no training at all."""

Residual = Literal["none", "before", "after"]
"""Whether a layer's input is added to its result, before the relu or after it."""

Output = Literal["none", "predictions", "activations", "input gradient", "margins", "errors"]
"""What a step returns besides new parameters."""

Formats = Literal["max", "percentile", "mse", "declared"]
"""How formats are chosen: from examples by one of the methods of :func:`siligrad.compile`, or
declared, coarser than the compiler would choose them."""


@dataclass(frozen=True, slots=True)
class BareCase:
    """Instructions at random, on memories full of words.

    Parameters
    ----------
    geometry
        The accelerator.
    instructions
        How many are drawn.
    kept
        Which of them are in the program: so that a failure can be reduced to few of them.
    steps, runs
        Steps of a run, and how often it is run.
    contents
        What the memories hold before the first run.
    seed
        Of everything drawn, and of the shift registers.
    """

    geometry: Geometry
    instructions: int
    kept: tuple[bool, ...]
    steps: int
    runs: int
    contents: Contents
    seed: int

    def __post_init__(self) -> None:
        _within("instructions", self.instructions, 1, 32)
        if len(self.kept) != self.instructions or not any(self.kept):
            raise DataError(
                f"kept must say for each of {self.instructions} instructions whether it is there, "
                f"and keep one, not {list(self.kept)}"
            )
        _check_run(self.steps, self.runs, self.seed)
        _one_of("contents", self.contents, Contents)
        if self.contents == "example":
            raise DataError("contents must not be 'example': bare instructions have no examples")


@dataclass(frozen=True, slots=True)
class NetworkCase:
    """A network, its loss, what it is compiled for, and what it is run with.

    Parameters
    ----------
    geometry
        The accelerator.
    rounding, update_rounding
        Of results, and of updates.
    widths
        Of the input, of each hidden layer, and of the output: two to six.
    batch
        Rows of an input.
    biases
        For each layer, whether it has a bias.
    shared
        Whether hidden layers after the first use one matrix, where their widths allow it.
    residual
        In every hidden layer whose input and result are equally wide.
    times
        Inputs of a recurrence in the first layer; 1 is none.
    modules
        Whether the parameters are a pair, those of the first half of the layers and the others.
    frozen
        Whether the first of two modules is not trained.
    loss, rate
        What is minimised, with the learning rate ``2**-rate``.
    output
        What is returned besides.
    formats, headroom
        How formats are chosen.
    steps, runs
        Steps of a run, and how often it is run.
    inputs, parameters, leftover
        What inputs of a run and parameters hold, and the memories' words before the program is
        loaded.
    seed
        Of everything drawn, and of the shift registers.
    """

    geometry: Geometry
    rounding: Rounding
    update_rounding: Rounding
    widths: tuple[int, ...]
    batch: int
    biases: tuple[bool, ...]
    shared: bool
    residual: Residual
    times: int
    modules: bool
    frozen: bool
    loss: Loss
    rate: int
    output: Output
    formats: Formats
    headroom: int
    steps: int
    runs: int
    inputs: Contents
    parameters: Contents
    leftover: Contents
    seed: int

    def __post_init__(self) -> None:
        _within("the number of widths", len(self.widths), 2, 6)
        for width in self.widths:
            _within("a width", width, 1, 256)
        _within("batch", self.batch, 1, 256)
        if len(self.biases) != len(self.widths) - 1:
            raise DataError(
                f"biases must say for each of {len(self.widths) - 1} layers whether it has one, "
                f"not {list(self.biases)}"
            )
        _within("times", self.times, 1, 4)
        _within("rate", self.rate, 0, 12)
        _within("headroom", self.headroom, 0, 4)
        _check_run(self.steps, self.runs, self.seed)
        for name, kind in (
            ("residual", Residual),
            ("loss", Loss),
            ("output", Output),
            ("formats", Formats),
            ("inputs", Contents),
            ("parameters", Contents),
            ("leftover", Contents),
        ):
            _one_of(name, getattr(self, name), kind)


Case: TypeAlias = BareCase | NetworkCase

_KINDS: Mapping[str, type[BareCase | NetworkCase]] = {
    "bare": BareCase,
    "network": NetworkCase,
}


def to_json(case: Case) -> dict[str, Any]:
    """Return `case` as what :mod:`json` writes; :func:`from_json` reads it."""
    kind = next(name for name, each in _KINDS.items() if isinstance(case, each))
    return {"kind": kind, **json.loads(json.dumps(asdict(case)))}


def from_json(item: Any) -> Case:
    """Return the case that `item`, read by :mod:`json`, describes.

    Raises
    ------
    DataError
        If it describes none: what is missing, too much, of another type or out of bounds.
    """
    if not isinstance(item, dict):
        raise DataError(f"a case is an object of JSON, not {type(item).__name__}")
    kind = item.get("kind")
    if not isinstance(kind, str) or kind not in _KINDS:
        raise DataError(f"a case is of a kind {', '.join(map(repr, _KINDS))}, not {kind!r}")
    chosen = _KINDS[kind]
    values = {name: value for name, value in item.items() if name != "kind"}
    _same_names(f"a case of kind {kind!r}", values, [field.name for field in fields(chosen)])
    converted = {
        field.name: _converted(field.name, str(field.type), values[field.name])
        for field in fields(chosen)
    }
    return chosen(**converted)


def digest(case: Case) -> str:
    """Return 16 hexadecimal digits that tell `case` from others."""
    text = json.dumps(to_json(case), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _converted(name: str, kind: str, value: Any) -> Any:
    """Return `value`, of JSON, as the type that a field declares."""
    if kind == "Geometry":
        if not isinstance(value, dict):
            raise DataError(f"{name} is an object of JSON, not {type(value).__name__}")
        _same_names(name, value, [field.name for field in fields(Geometry)])
        return Geometry(**{key: _of_type(key, number, int) for key, number in value.items()})
    if kind == "Rounding":
        number = _of_type(name, value, int)
        _within(name, number, min(Rounding), max(Rounding))
        return Rounding(number)
    if kind.startswith("tuple["):
        item = bool if "bool" in kind else int
        return tuple(_of_type(name, each, item) for each in _of_type(name, value, list))
    return _of_type(name, value, {"int": int, "bool": bool}.get(kind, str))


def _of_type(name: str, value: Any, kind: type) -> Any:
    if type(value) is not kind:  # True is no number here
        raise DataError(f"{name} must be of type {kind.__name__}, not {value!r}")
    return value


def _same_names(what: str, values: Mapping[str, Any], wanted: Sequence[str]) -> None:
    different = sorted(set(values) ^ set(wanted))
    if different:
        raise DataError(
            f"{what} has the fields {', '.join(wanted)}: too many or too few is "
            f"{', '.join(different)}"
        )


def _within(name: str, value: int, least: int, most: int) -> None:
    if not least <= value <= most:
        raise DataError(f"{name} must be from {least} to {most}, not {value}")


def _check_run(steps: int, runs: int, seed: int) -> None:
    _within("steps", steps, 1, 16)
    _within("runs", runs, 1, 16)
    _within("seed", seed, 0, (1 << 64) - 1)


def _one_of(name: str, value: str, kind: Any) -> None:
    known = cast("tuple[str, ...]", get_args(kind))
    if value not in known:
        raise DataError(f"{name} must be one of {', '.join(map(repr, known))}, not {value!r}")
