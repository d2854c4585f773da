"""The image file: a program as bytes, for a device, a board's firmware or another day.

Layout, byte for byte, in ``docs/spec/image.md``: a header with a CRC-32, then the program's lines,
a table of tensors, their names, the words to be loaded, and a JSON text with what only a host
needs. Little-endian throughout. Nothing in a file is trusted: sizes are bounded before they are
read, every offset is checked, and the instructions pass the same checker as freshly compiled ones.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from siligrad import tree
from siligrad.errors import SiligradError
from siligrad.fixed import QFormat
from siligrad.isa import (
    LINE_BITS,
    Geometry,
    Instruction,
    Loop,
    Memory,
    decode_program,
    encode_program,
)
from siligrad.tensor import Argument, Role, Tensor

__all__ = [
    "Contents",
    "IMAGE_VERSION",
    "ImageError",
    "MAGIC",
    "checksum",
    "from_bytes",
    "read",
    "refusing",
    "to_bytes",
]

MAGIC = b"SILIGRAD"
IMAGE_VERSION = 2
SIZE_MAX = 1 << 26
"""Largest image in bytes that is read."""

HEADER = struct.Struct("<8sHHII4B4IQ10I4H")
"""The header; the fields are those of ``docs/spec/image.md``, in order."""

RECORD = struct.Struct("<IBBHIIIiIdI8x")
"""What a tensor is described by; the same."""

SECTIONS = ("program", "tensors", "names", "data", "metadata")
"""What follows the header, in order."""

NO_DATA = 0xFFFFFFFF
"""Where a tensor's words are that is not loaded."""

_CRC_OFFSET = 16
_LINE_BYTES = LINE_BITS // 8
_FLAGS = {"sign": 1, "magnitude": 2, "moves": 4}
"""Bit of each of these fields of a tensor."""


class ImageError(SiligradError, ValueError):
    """A file is not an image of a program that can be run here."""


class Contents(Protocol):
    """What an image is made of; :class:`siligrad.program.Program` documents it."""

    @property
    def name(self) -> str: ...
    @property
    def geometry(self) -> Geometry: ...
    @property
    def instructions(self) -> tuple[Instruction, ...]: ...
    @property
    def tensors(self) -> tuple[Tensor, ...]: ...
    @property
    def arguments(self) -> tuple[Argument, ...]: ...
    @property
    def result(self) -> Argument: ...
    @property
    def initial(self) -> Mapping[int, NDArray[np.int32]]: ...
    @property
    def macs(self) -> tuple[int, ...]: ...
    @property
    def sources(self) -> tuple[str, ...]: ...
    @property
    def notes(self) -> tuple[str, ...]: ...
    @property
    def loop(self) -> Loop: ...
    @property
    def cycles(self) -> int: ...


def to_bytes(program: Contents) -> bytes:
    """Return the image of a program; the same program gives the same bytes."""
    n = program.geometry.array
    lines = b"".join(
        line.to_bytes(_LINE_BYTES, "little") for line in encode_program(program.instructions)
    )
    records, names, data = bytearray(), bytearray(), bytearray()
    for index, tensor in enumerate(program.tensors):
        offset = NO_DATA
        if index in program.initial:
            offset = len(data)
            data += tensor.pack(program.initial[index], n).astype("<i2").tobytes()
        records += RECORD.pack(
            len(names),
            tensor.role,
            tensor.memory,
            sum(bit for name, bit in _FLAGS.items() if getattr(tensor, name)),
            tensor.base,
            tensor.rows,
            tensor.columns,
            tensor.format.frac,
            tensor.limit,
            tensor.scale,
            offset,
        )
        names += tensor.name.encode() + b"\0"
    metadata = {
        "name": program.name,
        "arguments": [_argument_to_json(argument) for argument in program.arguments],
        "result": _argument_to_json(program.result),
        "shapes": [list(tensor.shape) for tensor in program.tensors],
        "macs": list(program.macs),
        "sources": list(program.sources),
        "notes": list(program.notes),
    }
    text = json.dumps(metadata, separators=(",", ":"), ensure_ascii=True).encode()
    sections = []
    body = bytearray()
    for part in (lines, bytes(records), bytes(names), bytes(data), text):
        body += bytes(-len(body) % 8)
        sections += [HEADER.size + len(body), len(part)]
        body += part
    geometry = program.geometry
    header = bytearray(
        HEADER.pack(
            MAGIC,
            IMAGE_VERSION,
            HEADER.size,
            HEADER.size + len(body),
            0,
            geometry.array,
            geometry.operand_bits,
            geometry.sum_bits,
            geometry.word_bits,
            geometry.x_depth,
            geometry.w_depth,
            geometry.e_depth,
            geometry.program_depth,
            program.cycles,
            *sections,
            program.loop.steps,
            program.loop.x_stride,
            program.loop.w_stride,
            program.loop.e_stride,
        )
    )
    struct.pack_into("<I", header, _CRC_OFFSET, zlib.crc32(header + body))
    return bytes(header + body)


def checksum(blob: bytes) -> int:
    """Return the CRC-32 in the header of an image."""
    return int.from_bytes(blob[_CRC_OFFSET : _CRC_OFFSET + 4], "little")


@contextmanager
def refusing(where: str) -> Iterator[None]:
    """Turn whatever is wrong with an image into an :class:`ImageError` that begins with `where`."""
    try:
        yield
    except ImageError as error:
        raise ImageError(f"{where}: {error}") from None
    except SiligradError as error:
        raise ImageError(f"{where}: not a valid program: {error}") from error
    except (KeyError, TypeError, ValueError, IndexError, OverflowError, RecursionError) as error:
        raise ImageError(f"{where}: its contents contradict each other ({error!r})") from error


def from_bytes(blob: bytes) -> tuple[dict[str, Any], int]:
    """Return the fields of the program in `blob`, and the cycles of a run that it promises.

    To be called inside :func:`refusing`: what is wrong with the bytes may raise anything.
    """
    if blob[: len(MAGIC)] != MAGIC:
        raise ImageError("not a siligrad image (it does not begin with SILIGRAD)")
    if len(blob) < HEADER.size:
        raise ImageError(f"truncated: {len(blob)} bytes are no whole header of {HEADER.size}")
    values = HEADER.unpack_from(blob)
    _, version, header_size, total, crc, array, operand_bits, sum_bits, word_bits = values[:9]
    x_depth, w_depth, e_depth, program_depth, cycles = values[9:14]
    if version != IMAGE_VERSION:
        raise ImageError(
            f"image version {version}; this siligrad reads version {IMAGE_VERSION}: "
            "compile it again"
        )
    if total != len(blob):
        raise ImageError(f"truncated or extended: {len(blob)} bytes, {total} expected")
    zeroed = blob[:_CRC_OFFSET] + bytes(4) + blob[_CRC_OFFSET + 4 :]
    if zlib.crc32(zeroed) != crc:
        raise ImageError("damaged: its CRC-32 does not match")
    if header_size != HEADER.size:
        raise ImageError("a header of another form")
    parts = {}
    for name, offset, size in zip(SECTIONS, values[14:24:2], values[15:24:2], strict=True):
        if offset < HEADER.size or offset + size > total:
            raise ImageError(f"section {name} lies outside the file")
        parts[name] = blob[offset : offset + size]
    geometry = Geometry(
        array=array,
        operand_bits=operand_bits,
        sum_bits=sum_bits,
        x_depth=x_depth,
        w_depth=w_depth,
        e_depth=e_depth,
        program_depth=program_depth,
        word_bits=word_bits,
    )
    if len(parts["program"]) % _LINE_BYTES or len(parts["tensors"]) % RECORD.size:
        raise ImageError("a section holds no whole number of entries")
    lines = [
        int.from_bytes(parts["program"][at : at + _LINE_BYTES], "little")
        for at in range(0, len(parts["program"]), _LINE_BYTES)
    ]
    metadata = json.loads(parts["metadata"])
    tensors: list[Tensor] = []
    initial: dict[int, NDArray[np.int32]] = {}
    records = list(RECORD.iter_unpack(parts["tensors"]))
    for index, (record, shape) in enumerate(zip(records, metadata["shapes"], strict=True)):
        name_at, role, memory, flags, base, rows, columns, frac, limit, scale, data_at = record
        if flags & ~sum(_FLAGS.values()):
            raise ImageError(f"tensor {index} has flags that do not exist ({flags:#x})")
        end = parts["names"].index(b"\0", name_at)
        tensor = Tensor(
            name=parts["names"][name_at:end].decode(),
            role=Role(role),
            memory=Memory(memory),
            base=base,
            rows=rows,
            columns=columns,
            shape=tuple(int(size) for size in shape),
            format=QFormat(word_bits, frac),
            scale=scale,
            limit=limit,
            **{field: bool(flags & bit) for field, bit in _FLAGS.items()},
        )
        if rows < 1 or columns < 1 or tensor.words(array) > geometry.depth(tensor.memory):
            raise ImageError(f"tensor {tensor.name} of {rows} x {columns} does not fit its memory")
        if int(np.prod(tensor.shape)) != rows * columns:
            raise ImageError(
                f"tensor {tensor.name}: shape {tensor.shape} is not {rows} x {columns}"
            )
        tensors.append(tensor)
        if data_at != NO_DATA:
            count = tensor.words(array) * array
            words = np.frombuffer(parts["data"], dtype="<i2", count=count, offset=data_at)
            initial[index] = tensor.unpack(words.astype(np.int32).reshape(-1, array), array)
    arguments = [_argument_from_json(item, len(tensors)) for item in metadata["arguments"]]
    fields = {
        "name": str(metadata["name"]),
        "geometry": geometry,
        "instructions": tuple(decode_program(lines)),
        "tensors": tuple(tensors),
        "arguments": tuple(arguments),
        "result": _argument_from_json(metadata["result"], len(tensors)),
        "initial": initial,
        "macs": tuple(int(count) for count in metadata["macs"]),
        "sources": tuple(str(source) for source in metadata["sources"]),
        "notes": tuple(str(note) for note in metadata["notes"]),
        "loop": Loop(*values[24:28]),
    }
    return fields, cycles


def read(path: str | Path) -> bytes:
    """Return what is in the file at `path`.

    Raises
    ------
    ImageError
        If it cannot be read, or is too large for an image.
    """
    path = Path(path)
    try:
        size = path.stat().st_size
        if size > SIZE_MAX:
            raise ImageError(f"{path}: {size} bytes; an image has at most {SIZE_MAX}")
        with path.open("rb") as file:
            return file.read(SIZE_MAX + 1)
    except OSError as error:
        raise ImageError(f"{path}: {error.strerror}") from None


def _argument_to_json(argument: Argument) -> dict[str, Any]:
    return {
        "name": argument.name,
        "structure": _structure_to_json(argument.structure),
        "tensors": list(argument.tensors),
        "resident": argument.resident,
    }


def _argument_from_json(item: dict[str, Any], tensors: int) -> Argument:
    indices = tuple(int(index) for index in item["tensors"])
    structure = _structure_from_json(item["structure"])
    if structure.leaf_count != len(indices):
        raise ImageError(f"argument {item['name']}: {len(indices)} arrays for {structure}")
    if not all(0 <= index < tensors for index in indices):
        raise ImageError(f"argument {item['name']} refers to a tensor that does not exist")
    return Argument(str(item["name"]), structure, indices, bool(item["resident"]))


def _structure_to_json(structure: tree.Structure) -> Any:
    """Return `structure` as JSON: a leaf is 0, None is null.

    Named tuples become tuples, dataclasses dicts: the classes stay behind.
    """
    if structure.kind is None:
        return 0
    if structure.kind is type(None):
        return None
    children = [_structure_to_json(child) for child in structure.children]
    if issubclass(structure.kind, list):
        return {"list": children}
    if issubclass(structure.kind, tuple):
        return {"tuple": children}
    return {"dict": [[key, child] for key, child in zip(structure.keys, children, strict=True)]}


def _structure_from_json(item: Any) -> tree.Structure:
    if item == 0:
        return tree.LEAF
    if item is None:
        return tree.Structure(type(None))
    if not isinstance(item, dict):
        raise ImageError(f"{item!r} says nothing of how arrays are nested")
    ((kind, children),) = item.items()
    if kind == "dict":
        keys = tuple(key for key, _ in children)
        return tree.Structure(
            dict, keys, tuple(_structure_from_json(child) for _, child in children)
        )
    parts = tuple(_structure_from_json(child) for child in children)
    return tree.Structure({"list": list, "tuple": tuple}[kind], tuple(range(len(parts))), parts)
