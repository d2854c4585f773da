"""``python -m benchmarks.fuzz_c``: the C driver's parsers, given what nobody should send.

Clang's libFuzzer, with its sanitizers, drives ``firmware/fuzz/fuzz_image.c`` (the loader of images,
and what a program does with a loaded one) and ``fuzz_link.c`` (replies on a serial line). It begins
with images of small programs, whole and damaged. What it finds is kept under ``build/fuzz``, and
one command shows it again.
"""

from __future__ import annotations

import argparse
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import siligrad as sg
import siligrad.numpy as np_
from siligrad import image, nn
from siligrad.errors import SiligradError
from siligrad.isa import LINE_BITS

__all__ = ["TARGETS", "FuzzError", "build", "fuzz", "image_seeds", "link_seeds", "main"]

FIRMWARE = Path(__file__).parents[1] / "firmware"

TARGETS = ("image", "link")
"""``firmware/fuzz/fuzz_TARGET.c``."""

_FLAGS = ("-std=c99", "-O1", "-g", "-Wall", "-Wextra", "-Wpedantic", "-Werror")
_SANITIZERS = "-fsanitize=fuzzer,address,undefined"
_INPUT_MAX = 1 << 13
"""Bytes of an input; images of the seeds are smaller."""


class FuzzError(SiligradError):
    """The fuzzer found something, or could not be built."""


def _train(params: Any, x: Any, y: Any) -> Any:
    def loss(params: Any, x: Any, y: Any) -> Any:
        margin = np_.maximum(1 - y * nn.predict(params, x), 0)
        return np_.mean(np_.sum(margin**2, axis=1))

    slopes = sg.grad(loss)(params, x, y)
    return [
        (W - 2**-4 * dW, b - 2**-4 * db) for (W, b), (dW, db) in zip(params, slopes, strict=True)
    ]


def image_seeds() -> Iterator[bytes]:
    """Yield inputs of the target "image": images with choices and sizes of pieces in front."""
    rng = np.random.default_rng(0)
    target = sg.Target(array=3, x_depth=64, w_depth=64, e_depth=64, program_depth=64)
    for steps, widths in ((1, [2, 2]), (1, [5, 4, 3]), (3, [3, 2])):
        params = nn.perceptron(rng, widths)
        x = rng.random((2, widths[0]))
        y = np.where(rng.integers(0, 2, (2, widths[-1])), 1.0, -1.0)
        blob = sg.compile(_train, params, x, y, donate=0, target=target, steps=steps).to_bytes()
        for choices, piece in ((0, 0), (1, 1), (1 | 2, 3), (1 | 4, 7), (1 | 8, 2), (1 | 16, 9)):
            yield bytes([choices, piece]) + blob
        yield bytes([1 | 32, 0]) + blob
        yield bytes([1, 4]) + _with_long_program(blob, 64)
        for at in rng.integers(0, len(blob), 8).tolist():
            yield bytes([1, 5]) + blob[:at] + bytes([blob[at] ^ 1 << at % 8]) + blob[at + 1 :]
            yield bytes([1, 5]) + blob[:at]


def _with_long_program(blob: bytes, lines: int) -> bytes:
    """Return an image with so many lines more in its program."""
    more = lines * LINE_BITS // 8
    places = [48 + 8 * index for index in range(len(image.SECTIONS))]
    changed = bytearray(blob)
    for at in places:
        offset, size = struct.unpack_from("<II", blob, at)
        first = at == places[0]
        struct.pack_into("<II", changed, at, offset + more * (not first), size + more * first)
    end = sum(struct.unpack_from("<II", blob, places[0]))
    return bytes(changed[:end] + bytes(more) + changed[end:])


def link_seeds() -> Iterator[bytes]:
    """Yield inputs of the target "link": see the source for what its bytes mean."""
    right = bytes([254, 0, 128])
    yield right * 4
    yield right + b"".join(bytes([count - 1, 254, count, 128]) + right for count in (1, 9, 64))
    yield right + bytes([63, 254, 64, 128]) + right * 3 + bytes([254, 1, 128, 254, 64, 128]) * 40
    for status in (129, 130, 131, 7):
        yield right + bytes([3, 254, 4, status]) + right
    yield bytes([1, 1, 0, 255, 5, 1, 0]) * 20 + right
    yield bytes(range(1, 254)) * 3 + bytes([0]) + right


def build(target: str, folder: Path, sources: Mapping[str, str] | None = None) -> Path:
    """Compile a target with libFuzzer and the sanitizers, and return the program.

    Parameters
    ----------
    target
        One of :data:`TARGETS`.
    folder
        Where it goes.
    sources
        Texts of sources of the driver that take the place of those in ``firmware/src``, by name.

    Raises
    ------
    FuzzError
        If there is no clang, or it cannot compile the target.
    """
    if shutil.which("clang") is None:
        raise FuzzError("clang is missing: type `apt install clang libclang-rt-dev` on Debian")
    folder.mkdir(parents=True, exist_ok=True)
    files = [FIRMWARE / "fuzz" / f"fuzz_{target}.c"]
    for path in sorted((FIRMWARE / "src").glob("siligrad*.c")):
        if text := (sources or {}).get(path.name):
            (folder / path.name).write_text(text, encoding="utf-8")
            files.append(folder / path.name)
        else:
            files.append(path)
    program = folder / f"fuzz_{target}"
    command = ["clang", *_FLAGS, _SANITIZERS, "-fno-sanitize-recover=all"]
    command += [f"-I{FIRMWARE / name}" for name in ("include", "src")]
    done = subprocess.run(
        [*command, "-o", str(program), *map(str, files)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise FuzzError(f"clang cannot compile fuzz_{target}.c:\n{done.stderr}")
    return program


def fuzz(program: Path, target: str, folder: Path, seconds: float, seed: int = 1) -> int:
    """Run a target for so many seconds, and return how many inputs it was given.

    Parameters
    ----------
    program
        What :func:`build` made of it.
    target
        Its name.
    folder
        Where the corpus grows, and findings are kept.
    seconds
        How long.
    seed
        Of what is tried.

    Raises
    ------
    FuzzError
        If it finds something; the message has the input's file and the command that shows it.
    """
    corpus, findings = folder / f"corpus_{target}", folder / f"finding_{target}_"
    corpus.mkdir(parents=True, exist_ok=True)
    seeds = image_seeds() if target == "image" else link_seeds()
    for number, content in enumerate(seeds):
        (corpus / f"seed{number:03}").write_bytes(content)
    command = [str(program), str(corpus), f"-max_total_time={max(round(seconds), 1)}"]
    command += [f"-seed={seed}", f"-max_len={_INPUT_MAX}", "-timeout=10", "-rss_limit_mb=1024"]
    command += [f"-artifact_prefix={findings}", "-print_final_stats=1", "-verbosity=0"]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    lines = done.stderr.splitlines()
    if done.returncode:
        said = next((line for line in lines if "ERROR" in line or "runtime error" in line), "")
        kept = next((line.rpartition(" ")[2] for line in lines if str(findings) in line), "no file")
        raise FuzzError(f"{target}: {said.strip()}; shown again by {program} {kept}")
    counts = [line for line in lines if line.startswith("stat::number_of_executed_units")]
    return int(counts[0].split()[-1])


def main(argv: Sequence[str] | None = None) -> int:
    """Fuzz until the time is over, and return 0; 1 after a finding, 130 after Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fuzz_c", description=__doc__)
    parser.add_argument("--seconds", type=float, default=3600.0, help="in all (3600)")
    parser.add_argument("--seed", type=int, default=1, help="of what is tried (1)")
    parser.add_argument("--only", choices=TARGETS, help="this target alone")
    parser.add_argument("--output", type=Path, default=Path("build/fuzz"), help="(build/fuzz)")
    options = parser.parse_args(argv)
    if not options.seconds > 0:
        parser.error(f"--seconds must be positive, not {options.seconds:g}")
    chosen = [options.only] if options.only else TARGETS
    try:
        for target in chosen:
            program = build(target, options.output)
            seconds = options.seconds / len(chosen)
            tried = fuzz(program, target, options.output, seconds, options.seed)
            print(f"{target}: {tried} inputs in {seconds:.0f} s, no finding")
    except SiligradError as error:
        print(f"benchmarks.fuzz_c: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
