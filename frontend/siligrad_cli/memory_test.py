"""Tests of memories that are reached through a device: stuck bits, and addresses that are one.

Every word is written and read in three ways. *Addresses*: every word of the memory holds another
pattern, so that two addresses which choose the same word are found, and named. *March*: the five
passes of March C- (A. J. van de Goor, *Using March Tests to Test SRAMs*, 1993), of blocks of words
instead of words, since a link carries blocks: up and down the addresses, each block is read as the
pass before has left it, and written with the opposite. *Random*: random patterns, and their
opposites.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from math import gcd
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from siligrad.device import Device
from siligrad.host import HostDevice
from siligrad.isa import Memory
from siligrad.registers import WORDS_PER_LINE, program_address

__all__ = ["BankStore", "LineStore", "Store", "examine", "words_moved"]

Words = NDArray[np.int64]

_BLOCK = 32
"""Words of each column that are written or read at once."""

_SPREAD = 0x9E3779B1
"""What a word's number is multiplied by, so that neighbours differ in many bits; near 2**32 over
the golden ratio, made coprime to the number of patterns."""


class Store(Protocol):
    """A memory: columns of words, some bits each, patterns of which are unsigned."""

    @property
    def depth(self) -> int:
        """Words of a column."""

    @property
    def columns(self) -> int:
        """Columns."""

    @property
    def bits(self) -> int:
        """Bits of a word."""

    @property
    def forbidden(self) -> int | None:
        """A pattern that cannot be written."""

    def write(self, at: int, words: Words) -> None:
        """Write patterns, shape ``(count, columns)``, from `at` on in every column."""

    def read(self, at: int, count: int) -> Words:
        """Read `count` patterns of every column from `at` on."""

    def place(self, word: int, column: int) -> str:
        """Say which word that is."""

    def column(self, column: int) -> str:
        """Say which column that is."""


@dataclass(frozen=True, slots=True)
class BankStore:
    """One of the memories X, W and E of a device."""

    device: Device
    memory: Memory

    @property
    def depth(self) -> int:
        return self.device.geometry.depth(self.memory)

    @property
    def columns(self) -> int:
        return self.device.geometry.array

    @property
    def bits(self) -> int:
        return self.device.geometry.word_bits

    @property
    def forbidden(self) -> int:
        return 1 << self.bits - 1  # the code that has no opposite

    def write(self, at: int, words: Words) -> None:
        codes = words - (words >> self.bits - 1 << self.bits)
        self.device.write_words(self.memory, at, codes.astype(np.int32))

    def read(self, at: int, count: int) -> Words:
        codes = self.device.read_words(self.memory, at, count).astype(np.int64)
        return codes & (1 << self.bits) - 1

    def place(self, word: int, column: int) -> str:
        return f"word {word} of bank {column}"

    def column(self, column: int) -> str:
        return f"bank {column}"


@dataclass(frozen=True, slots=True)
class LineStore:
    """The program memory of a device with a host port."""

    device: HostDevice
    forbidden: None = None
    bits: int = 32
    columns: int = WORDS_PER_LINE

    @property
    def depth(self) -> int:
        return self.device.geometry.program_depth

    def write(self, at: int, words: Words) -> None:
        self.device.write_block(program_address(at), words.reshape(-1).astype(np.uint32))

    def read(self, at: int, count: int) -> Words:
        words = self.device.read_block(program_address(at), count * WORDS_PER_LINE)
        return words.astype(np.int64).reshape(count, WORDS_PER_LINE)

    def place(self, word: int, column: int) -> str:
        return f"word {column} of line {word}"

    def column(self, column: int) -> str:
        return f"word {column} of every line"


@dataclass(slots=True)
class _Findings:
    """What reads have shown of a store."""

    store: Store
    reads: int = 0
    wrong: int = 0
    first: str = ""
    always_one: Words = field(init=False)
    ever_one: Words = field(init=False)

    def __post_init__(self) -> None:
        self.always_one = np.full(self.store.columns, (1 << self.store.bits) - 1, np.int64)
        self.ever_one = np.zeros(self.store.columns, np.int64)

    def compare(self, at: int, wrote: Words, everywhere: Words | None = None) -> None:
        """Read what was written from `at` on.

        `everywhere` is what was written in the whole store, where that tells words apart.
        """
        read = self.store.read(at, len(wrote))
        self.reads += read.size
        self.always_one &= np.bitwise_and.reduce(read, axis=0)
        self.ever_one |= np.bitwise_or.reduce(read, axis=0)
        different = np.argwhere(read != wrote)
        self.wrong += len(different)
        if len(different) and not self.first:
            word, column = different[0].tolist()
            got = int(read[word, column])
            digits = -(-self.store.bits // 4)
            self.first = (
                f"{self.store.place(at + word, column)} reads {got:#0{digits + 2}x} where "
                f"{int(wrote[word, column]):#0{digits + 2}x} was written"
            )
            owners = np.argwhere(np.zeros(0) if everywhere is None else everywhere == got)
            if len(owners) == 1:
                other = self.store.place(*owners[0].tolist())
                self.first += f", which is what was written to {other}"

    def stuck(self) -> Iterator[str]:
        """Name the bits that were never read otherwise in a whole column."""
        for column, (ones, ever) in enumerate(zip(self.always_one, self.ever_one, strict=True)):
            for bit in range(self.store.bits):
                if ones >> bit & 1 or not ever >> bit & 1:
                    yield f"bit {bit} is always {ever >> bit & 1} in {self.store.column(column)}"

    def verdict(self) -> str | None:
        if not self.wrong:
            return None
        told = f"{self.wrong} of {self.reads} words read are wrong, the first: {self.first}"
        return "; ".join([told, *self.stuck()])


def words_moved(store: Store) -> int:
    """Return the words that :func:`examine` writes and reads."""
    return store.depth * store.columns * (2 * _digits(store) + 10 + 4)


def examine(store: Store, seed: int, advance: Callable[[int], None] = lambda _: None) -> str | None:
    """Test a memory, all of which is written over; return what is wrong with it, or None.

    Parameters
    ----------
    store
        The memory.
    seed
        Of random patterns.
    advance
        Is told of words written or read.
    """
    findings = _Findings(store)
    for digit in range(_digits(store)):
        written = _addresses(store, digit)
        _write_all(store, written, advance)
        _read_all(findings, written, advance, tell_apart=True)
    _march(findings, advance)
    rng = np.random.default_rng(seed)
    shape = store.depth, store.columns
    drawn = _allowed(store, rng.integers(0, 1 << store.bits, shape, dtype=np.int64))
    for written in (drawn, _allowed(store, drawn ^ (1 << store.bits) - 1)):
        _write_all(store, written, advance)
        _read_all(findings, written, advance)
    return findings.verdict()


def _allowed(store: Store, patterns: Words) -> Words:
    """Return patterns without the forbidden one: all bits but one take its place."""
    if store.forbidden is None:
        return patterns
    return np.where(patterns == store.forbidden, store.forbidden - 1, patterns)


def _digits(store: Store) -> int:
    """Return how many patterns of a word's bits it takes to tell all words apart."""
    digits = 1
    while _patterns(store) ** digits < store.depth * store.columns:
        digits += 1
    return digits


def _patterns(store: Store) -> int:
    """Return how many patterns there are; a forbidden one is the last that is reached."""
    return (1 << store.bits) - (store.forbidden is not None)


def _addresses(store: Store, digit: int) -> Words:
    """Return a pattern for each word: a digit of its number, spread over the bits."""
    count = _patterns(store)
    spread = _SPREAD % count
    while gcd(spread, count) != 1:
        spread += 1
    numbers = np.arange(store.depth * store.columns, dtype=np.int64).reshape(store.depth, -1)
    chosen: Words = numbers // count**digit % count * spread % count
    if store.forbidden is None:
        return chosen
    chosen[chosen >= store.forbidden] += 1
    return chosen


def _blocks(store: Store, *, down: bool = False) -> list[tuple[int, int]]:
    """Return where blocks begin and how long they are, in the order of their addresses."""
    blocks = [(at, min(_BLOCK, store.depth - at)) for at in range(0, store.depth, _BLOCK)]
    return blocks[::-1] if down else blocks


def _write_all(store: Store, words: Words, advance: Callable[[int], None]) -> None:
    for at, count in _blocks(store):
        store.write(at, words[at : at + count])
        advance(count * store.columns)


def _read_all(
    findings: _Findings,
    words: Words,
    advance: Callable[[int], None],
    *,
    tell_apart: bool = False,
) -> None:
    for at, count in _blocks(findings.store):
        findings.compare(at, words[at : at + count], words if tell_apart else None)
        advance(count * findings.store.columns)


def _march(findings: _Findings, advance: Callable[[int], None]) -> None:
    """March C-: up w0; up r0 w1; up r1 w0; down r0 w1; down r1 w0; r0."""
    store = findings.store
    shape = store.depth, store.columns
    every_other = int("01" * store.bits, 2) & (1 << store.bits) - 1
    zero = np.full(shape, every_other, np.int64)
    one = _allowed(store, zero ^ (1 << store.bits) - 1)

    _write_all(store, zero, advance)
    for down in (False, True):
        for before, after in ((zero, one), (one, zero)):
            for at, count in _blocks(store, down=down):
                findings.compare(at, before[at : at + count])
                store.write(at, after[at : at + count])
                advance(2 * count * store.columns)
    _read_all(findings, zero, advance)
