"""Chunks and campaigns: what they leave on disk, what is kept of a failure, who may die."""

from __future__ import annotations

import json
import os
import signal
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy
import pytest

from siligrad.device import Device, device_class
from siligrad.errors import DataError, SiligradError
from siligrad.isa import Loop, Memory
from siligrad_sim.campaign import campaign, differential, failure
from siligrad_sim.campaign.campaign import CampaignError, finished_chunks, run_campaign
from siligrad_sim.campaign.case import BareCase, from_json
from siligrad_sim.campaign.chunk import Plan, run_chunk
from siligrad_sim.campaign.differential import Machines, compare
from siligrad_sim.campaign.drawing import campaign_geometry
from siligrad_sim.campaign.failure import load_failure, save_failure
from siligrad_sim.campaign.trial import trial_of
from siligrad_sim.reference import ReferenceDevice

TINY = campaign_geometry(2)
# The reference beside itself: what is tested here is who runs what, and what is kept.
PLAN = Plan(seed=7, programs=22, chunk=5, devices=("reference",), geometries=(TINY,))
BARE = BareCase(TINY, 2, (True, True), steps=1, runs=2, contents="random", seed=1)


class Broken(ReferenceDevice):
    """Stores one more than it should in a bank of W, whenever it writes there."""

    name = "broken"

    def execute(self, loop: Loop, limit: int) -> int:
        before = self.read_words(Memory.W, 0, self.geometry.w_depth)
        cycles = super().execute(loop, limit)
        words = self.read_words(Memory.W, 0, self.geometry.w_depth)
        changed = words[:, 1] != before[:, 1]
        words[changed, 1] ^= 1
        self.write_words(Memory.W, 0, words)
        return cycles


@pytest.fixture
def broken_device(monkeypatch: pytest.MonkeyPatch) -> str:
    known = device_class

    def find(name: str) -> type[Device]:
        return Broken if name == "broken" else known(name)

    monkeypatch.setattr(differential, "device_class", find)
    monkeypatch.setattr(failure, "device_class", find)
    return "broken"


def without_times(record: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in record.items() if name != "seconds"}


# Chunks.


def test_a_chunk_follows_from_its_number_and_its_programs_are_numbered() -> None:
    first, again, other = run_chunk(PLAN, 1), run_chunk(PLAN, 1), run_chunk(PLAN, 2)
    assert without_times(first) == without_times(again)
    assert [each["id"] for each in first["programs"]] == [f"1.{index}" for index in range(5)]
    digests = {each["case"] for each in first["programs"]}
    assert digests.isdisjoint(each["case"] for each in other["programs"])
    assert all(each["words"] > 0 and each["cycles"] > 0 for each in first["programs"])
    assert {"network", "bare"} >= {each["kind"] for each in first["programs"]}


def test_a_failure_is_shrunk_and_ends_its_chunk(broken_device: str) -> None:
    plan = replace(PLAN, devices=(broken_device,), programs=60, chunk=60)
    record = run_chunk(plan, 0)
    assert record["failure"] is not None
    assert len(record["programs"]) < 60
    case = from_json(record["failure"]["case"])
    # As small as it can be: one run, one step, a few things of which one is written to W.
    assert (case.runs, case.steps) == (1, 1)
    if isinstance(case, BareCase):
        assert sum(case.kept) == 1
    else:
        assert max(case.widths) <= 4
        assert case.batch <= 2
        assert (case.times, case.leftover, case.inputs) == (1, "zeros", "zeros")
    assert "(memory W, word " in record["failure"]["difference"]["message"]


# What is kept of a failure.


def test_a_failure_is_kept_as_a_folder_that_can_be_run_again(
    broken_device: str, tmp_path: Path
) -> None:
    trial = trial_of(replace(BARE, instructions=8, kept=(True,) * 8, seed=3))
    mismatch = compare(trial, Broken(TINY)).mismatch
    assert mismatch is not None
    folder = save_failure(tmp_path / "failure", trial, mismatch, {"what": "a test"})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["failure"]
    assert sorted(path.name for path in folder.iterdir()) == [
        "README.txt",
        "case.json",
        "data.npz",
        "difference.json",
        "image.sgp",
    ]
    told = json.loads((folder / "difference.json").read_text())
    assert mismatch.difference is not None
    assert mismatch.written is not None
    assert told["memory"] == "W"
    assert (told["word"], told["bank"]) == (mismatch.difference.address, 1)
    assert told["got"] == told["expected"] ^ 1
    assert told["cycle"] == mismatch.written.cycle
    readme = (folder / "README.txt").read_text()
    assert f"siligrad verify --replay {folder} --devices broken" in readme
    assert "not recorded: device broken has no signals" in readme
    again = load_failure(folder)
    assert again.program.to_bytes() == trial.program.to_bytes()
    assert str(compare(again, Broken(TINY)).mismatch) == str(mismatch)
    assert compare(again, ReferenceDevice(TINY)).mismatch is None
    save_failure(folder, trial, mismatch, {"what": "another"})  # takes its place
    assert json.loads((folder / "case.json").read_text()) == {"what": "another"}


def test_the_run_that_differs_is_recorded(tmp_path: Path) -> None:
    trial = trial_of(replace(BARE, runs=1))
    mismatch = replace(EXAMPLE, run=0)
    folder = save_failure(tmp_path / "failure", trial, mismatch, {})
    waves = (folder / "waves.vcd").read_text()
    assert "$enddefinitions" in waves
    last = max(int(line[1:]) for line in waves.splitlines() if line.startswith("#"))
    assert last > trial.program.cycles  # 1 µs a cycle in this simulator, in steps of it
    assert "waves.vcd has the first" in (folder / "README.txt").read_text()


EXAMPLE = differential.Mismatch("pysim", 0, "an example")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            lambda folder: (folder / "data.npz").write_bytes(b"no archive"),
            "data.npz cannot be read",
        ),
        (lambda folder: (folder / "data.npz").unlink(), "data.npz cannot be read"),
        (lambda folder: numpy.savez(folder / "data.npz", X=numpy.zeros(3)), "is not of this image"),
        (lambda folder: (folder / "image.sgp").write_bytes(b"SILIGRAD"), "image.sgp"),
        (
            lambda folder: numpy.savez(folder / "data.npz", X=numpy.array([{}], dtype=object)),
            "data.npz cannot be read",
        ),
    ],
)
def test_a_damaged_folder_is_refused(tmp_path: Path, spoil: Any, message: str) -> None:
    folder = save_failure(tmp_path / "failure", trial_of(BARE), EXAMPLE, {}, waves=False)
    spoil(folder)
    with pytest.raises(SiligradError, match=message):
        load_failure(folder)


# Campaigns.


def ids(folder: Path) -> list[str]:
    """The numbers of the programs on disk, in order."""
    records = [json.loads(path.read_text()) for path in sorted(folder.glob("chunk-*.json"))]
    return [program["id"] for record in records for program in record["programs"]]


def every_id(plan: Plan) -> list[str]:
    return [
        f"{chunk}.{index}"
        for chunk in range(plan.chunks)
        for index in range(plan.programs_of(chunk))
    ]


def test_a_campaign_that_was_stopped_goes_on_with_what_is_not_on_disk(tmp_path: Path) -> None:
    run: list[int] = []

    def stopped() -> bool:
        return len(run) >= 12

    first = run_campaign(
        PLAN, tmp_path, stopped=stopped, advance=lambda steps, _: run.extend([0] * steps)
    )
    assert first.missing == [2, 3, 4]  # ten programs are done, two are begun again
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("chunk-*.json")}
    summary = run_campaign(PLAN, tmp_path)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert ids(tmp_path) == every_id(PLAN)
    assert (summary.programs, summary.missing, summary.failures) == (22, [], [])
    assert sum(summary.by_kind.values()) == summary.by_array[2] == 22
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize(
    "other", [{"seed": 8}, {"devices": ("pysim",)}, {"chunk": 6}, {"programs": 23}]
)
def test_a_folder_of_another_campaign_is_refused(tmp_path: Path, other: dict[str, Any]) -> None:
    run_campaign(replace(PLAN, programs=0), tmp_path)
    with pytest.raises(CampaignError, match="holds another campaign"):
        run_campaign(replace(PLAN, programs=0) if not other else replace(PLAN, **other), tmp_path)


@pytest.mark.parametrize(
    "text",
    ["{", "[]", '{"chunk": 0}', '{"chunk": 0, "programs": [], "failure": null}'],
)
def test_a_damaged_record_is_refused_by_name(tmp_path: Path, text: str) -> None:
    (tmp_path / "chunk-00000.json").write_text(text)
    with pytest.raises(CampaignError, match=r"chunk-00000\.json"):
        finished_chunks(PLAN, tmp_path)


def test_a_campaign_keeps_its_failures(broken_device: str, tmp_path: Path) -> None:
    plan = replace(PLAN, devices=(broken_device,), programs=60, chunk=30)
    summary = run_campaign(plan, tmp_path)
    assert len(summary.failures) >= 1
    folder, message = summary.failures[0]
    assert "memory W" in message
    with Machines() as machines:
        assert machines.compare(load_failure(folder), broken_device).mismatch is not None
    assert json.loads((folder / "case.json").read_text())["what"].startswith("program ")
    assert run_campaign(plan, tmp_path).failures == summary.failures


def test_two_workers_of_which_one_dies_run_every_program_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = replace(PLAN, programs=330, chunk=15)
    killed: list[int] = []
    written: list[int] = []
    keep = campaign._keep

    def count(record: dict[str, Any], folder: Path) -> None:
        keep(record, folder)
        written.append(record["chunk"])
        if len(written) == 4:
            killed.extend(kill_a_worker())

    monkeypatch.setattr(campaign, "_keep", count)
    summary = run_campaign(plan, tmp_path, workers=2)
    assert len(killed) == 1
    assert sorted(written) == list(range(plan.chunks))
    assert ids(tmp_path) == every_id(plan)
    assert (summary.programs, summary.missing) == (330, [])
    # The same as without workers, whoever ran it.
    record = json.loads((tmp_path / "chunk-00003.json").read_text())
    assert without_times(record) == without_times(run_chunk(plan, 3))


def kill_a_worker() -> list[int]:
    """Kill one of the worker processes at this moment, and return its number."""
    from distributed import get_client

    workers = get_client().run(os.getpid)
    victim = next(iter(workers.values()))
    os.kill(victim, signal.SIGKILL)
    return [victim]


def test_an_address_where_no_scheduler_is_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(campaign, "CONNECTING_SECONDS", 1)
    with pytest.raises(CampaignError, match=r"no Dask scheduler answers at tcp://127.0.0.1:9"):
        run_campaign(PLAN, tmp_path, scheduler="tcp://127.0.0.1:9")


def test_ctrl_c_in_mid_chunk_leaves_no_file(tmp_path: Path) -> None:
    event = threading.Event()
    timer = threading.Timer(0.05, event.set)
    timer.start()
    summary = run_campaign(replace(PLAN, programs=5000, chunk=5000), tmp_path, stopped=event.is_set)
    timer.join()
    assert summary.missing == [0]
    assert [path.name for path in tmp_path.iterdir()] == ["campaign.json"]


def test_what_is_no_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises((CampaignError, DataError), match="cannot be"):
        run_campaign(PLAN, tmp_path / "file" / "folder")
