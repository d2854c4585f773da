"""What is kept of a program on which a device differs: one folder, enough to see it again.

===================  =============================================================================
``image.sgp``        the program
``data.npz``         the words of the memories before it, the seed, the inputs of each run
``case.json``        what it is: a random case as data, or how a network was varied
``difference.json``  the first difference
``waves.vcd``        every signal of the run that differs, if the device can record them
``README.txt``       the same in words, and the command that runs it again
===================  =============================================================================
"""

from __future__ import annotations

import json
import os
import shutil
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from siligrad.device import DeviceError, device_class
from siligrad.errors import DataError
from siligrad.isa import Loop, Memory
from siligrad.program import Program
from siligrad_sim.campaign.differential import Mismatch, set_up
from siligrad_sim.campaign.trial import Trial
from siligrad_sim.rtl import RtlDevice

__all__ = ["load_failure", "mismatch_to_json", "save_failure"]

SIZE_MAX = 1 << 28
"""Largest ``data.npz`` that is read, in bytes, unpacked."""

WAVE_CYCLES = 20_000
"""Most cycles of a run that are recorded."""

WAVE_MARGIN = 100
"""Cycles that are recorded after the first wrong word was written."""


def save_failure(
    folder: Path, trial: Trial, mismatch: Mismatch, origin: Mapping[str, Any], *, waves: bool = True
) -> Path:
    """Write the folder, beside and renamed, and return it; one that is there is replaced.

    Parameters
    ----------
    folder
        Where it belongs; its name should tell it from others.
    trial, mismatch
        What was run, and what was found.
    origin
        What the trial is, for ``case.json``.
    waves
        Whether to run it once more and record.
    """
    beside = folder.with_name(f".{folder.name}.{os.getpid()}.new")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    try:
        trial.program.save(beside / "image.sgp")
        np.savez_compressed(beside / "data.npz", allow_pickle=False, **_arrays(trial))
        _write_json(beside / "case.json", dict(origin))
        _write_json(beside / "difference.json", mismatch_to_json(mismatch))
        recorded = _record(beside / "waves.vcd", trial, mismatch) if waves else "not recorded"
        text = _describe(folder, trial, mismatch, recorded)
        (beside / "README.txt").write_text(text, encoding="utf-8")
        shutil.rmtree(folder, ignore_errors=True)
        beside.rename(folder)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return folder


def load_failure(folder: Path) -> Trial:
    """Read the trial in a folder that :func:`save_failure` wrote.

    Raises
    ------
    siligrad.image.ImageError
        If the image cannot be read or is damaged.
    DataError
        If the data cannot be read, are damaged, or are not of that image.
    """
    program = Program.load(folder / "image.sgp")
    path = folder / "data.npz"
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(item.file_size for item in archive.infolist())
        if size > SIZE_MAX:
            raise DataError(f"{path}: {size} bytes unpacked; at most {SIZE_MAX} are read")
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    try:
        return _trial(program, arrays)
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise DataError(f"{path} is not of this image: {error}") from error


def mismatch_to_json(mismatch: Mismatch) -> dict[str, Any]:
    """Return a difference as what :mod:`json` writes."""
    found, at = mismatch.difference, mismatch.written
    result: dict[str, Any] = {
        "device": mismatch.device,
        "run": mismatch.run,
        "message": mismatch.message,
        "words_different": mismatch.words,
    }
    if found is not None:
        result |= {"where": found.where, "expected": found.expected, "got": found.got}
        if found.memory is not None:
            result |= {"memory": found.memory.name, "word": found.address, "bank": found.bank}
    if at is not None:
        result |= {"instruction": at.instruction, "step": at.step, "cycle": at.cycle}
    return result


def _write_json(path: Path, item: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(item, indent=1) + "\n", encoding="utf-8")


def _arrays(trial: Trial) -> dict[str, NDArray[Any]]:
    arrays: dict[str, NDArray[Any]] = {memory.name: trial.leftover[memory] for memory in Memory}
    arrays["seed"] = np.array(trial.seed, np.uint64)
    arrays["cut"] = np.array(trial.cut, np.int64)
    arrays["runs"] = np.array(len(trial.runs), np.int64)
    for run, leaves in enumerate(trial.runs):
        for leaf, values in enumerate(leaves):
            arrays[f"run{run}_{leaf}"] = values
    return arrays


def _trial(program: Program, arrays: Mapping[str, NDArray[Any]]) -> Trial:
    geometry = program.geometry
    limit = (1 << geometry.word_bits - 1) - 1
    leftover = {}
    for memory in Memory:
        words = arrays[memory.name]
        shape = (geometry.depth(memory), geometry.array)
        if words.shape != shape or words.dtype.kind != "i" or (abs(words) > limit).any():
            raise ValueError(f"memory {memory.name} must be codes of shape {shape}")
        leftover[memory] = words.astype(np.int32)
    leaves = sum(
        argument.structure.leaf_count for argument in program.arguments if not argument.resident
    )
    count = int(arrays["runs"])
    if not 1 <= count <= 1 << 16:
        raise ValueError(f"{count} runs")
    runs = tuple(
        tuple(np.asarray(arrays[f"run{run}_{leaf}"], np.float64) for leaf in range(leaves))
        for run in range(count)
    )
    cut = int(arrays["cut"])
    if not 0 <= cut <= 1 << 32:
        raise ValueError(f"a run that is cut off after {cut} cycles")
    return Trial(program, leftover, int(arrays["seed"]), runs, cut)


# The waveform.


def _record(path: Path, trial: Trial, mismatch: Mismatch) -> str:
    """Run the trial again, record the run that differs, and return what was recorded, in words."""
    try:
        machine = device_class(mismatch.device)(trial.program.geometry)
    except DeviceError as error:
        return f"not recorded: {error}"
    with machine:
        if not isinstance(machine, RtlDevice):
            return f"not recorded: device {machine.name} has no signals"
        last = min(trial.program.cycles + WAVE_MARGIN, WAVE_CYCLES)
        if mismatch.written is not None:
            last = min(mismatch.written.cycle + WAVE_MARGIN, WAVE_CYCLES)
        try:
            set_up(trial, machine)
            for run in range(mismatch.run):
                machine.run(*trial.inputs(run), check=False)
            _recorded_run(machine, path, last, trial.inputs(mismatch.run))
        except DeviceError as error:
            if not path.exists():
                return f"not recorded: {error}"
    return f"waves.vcd has the first {last} cycles of run {mismatch.run}"


def _recorded_run(machine: RtlDevice, path: Path, cycles: int, inputs: tuple[Any, ...]) -> None:
    """Run once; record from the start of the program on, without what the host does before."""
    execute = machine.execute

    def recorded(loop: Loop, limit: int) -> int:
        machine.trace(path, cycles)
        try:
            return execute(loop, limit)
        finally:
            machine.end_trace()

    machine.execute = recorded  # type: ignore[method-assign]
    machine.run(*inputs, check=False)


def _describe(folder: Path, trial: Trial, mismatch: Mismatch, recorded: str) -> str:
    program, found, at = trial.program, mismatch.difference, mismatch.written
    steps = program.loop.steps
    lines = [
        f"{mismatch.device} differs from the reference.",
        "",
        f"program   {program.name}: {len(program.instructions)} instructions, {steps} steps",
        f"cycles    {program.cycles}",
        f"machine   {program.geometry}",
        f"run       {mismatch.run} of {len(trial.runs)}, counted from 0",
        f"message   {mismatch.message}",
    ]
    if found is not None:
        lines += [
            f"where     {found.where}",
            f"expected  {found.expected}",
            f"got       {found.got}",
            f"words     {mismatch.words} of the memories differ",
        ]
        if found.memory is not None:
            lines.append(f"word      {found.address} of bank {found.bank} of {found.memory.name}")
    if at is not None:
        source = program.sources[at.instruction]
        lines.append(
            f"written   in cycle {at.cycle} of the run, step {at.step}, by instruction "
            f"{at.instruction} ({source})"
        )
    lines += [
        f"waveform  {recorded}",
        "",
        "Again, with the exit status 1 while it differs:",
        "",
        f"    siligrad verify --replay {folder} --devices {mismatch.device}",
        "",
    ]
    return "\n".join(lines)
