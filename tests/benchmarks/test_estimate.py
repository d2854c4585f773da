from __future__ import annotations

import json
import math
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from benchmarks import estimate
from benchmarks.estimate import (
    POINTS,
    Row,
    RowError,
    built_row,
    deviations,
    fit,
    main,
    not_negative,
    read_rows,
    routed_row,
    table,
)
from siligrad.isa import Geometry
from siligrad_hdl.boards import BOARDS, find_board
from siligrad_hdl.estimate import DATA, device_series, interpolated, parts

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    return read_rows()


def test_estimates_of_what_was_built_are_within_a_tenth_and_blocks_exact(rows: list[Row]) -> None:
    assert any(row.built for row in rows)
    assert deviations(rows) == []


@pytest.mark.parametrize("what", ["lut", "ff", "dsp", "bram", "clock_mhz"])
def test_a_build_that_was_other_than_estimated_is_noticed(rows: list[Row], what: str) -> None:
    built = next(row for row in rows if row.built and row.dsp)
    wrong = replace(built, **{what: getattr(built, what) * 1.25 + 1})
    (found,) = deviations([wrong])
    assert f"{what} is {getattr(wrong, what)}, estimated " in found


def test_sizes_of_every_family_were_measured(rows: list[Row]) -> None:
    families = {board.technology.name for board in BOARDS.values()}
    assert {find_board(row.board).technology.name for row in rows} == families


def test_what_is_measured_no_more_is_forgotten(
    rows: list[Row], monkeypatch: pytest.MonkeyPatch
) -> None:
    built = next(row for row in rows if row.built)
    packed = [row for row in rows if not row.built]
    stale = replace(packed[0], geometry=replace(packed[0].geometry, program_depth=99))
    kept = [built, stale, *packed]
    monkeypatch.setattr(estimate, "read_rows", lambda: list(kept))
    monkeypatch.setattr(estimate, "_write", lambda rows: kept.__setitem__(slice(None), rows))
    monkeypatch.setattr(
        estimate,
        "measure",
        lambda board, geometry: Row(board.name, geometry, lut=7, ff=1, dsp=0, bram=0),
    )
    name, geometry = POINTS[0]
    assert main(["measure", "--board", name, "--array", str(geometry.array)]) == 0
    assert built in kept
    assert stale not in kept
    sizes = {(row.board, row.geometry): row.lut for row in kept if not row.built}
    assert sizes.keys() == set(POINTS)
    assert sizes[POINTS[0]] == 7


def test_what_was_packed_grows_as_builds_tell(rows: list[Row]) -> None:
    packed = [row for row in rows if row.board == "tang-primer-20k" and not row.built]
    built = replace(packed[0], lut=packed[0].lut * 3 // 2, clock_mhz=100, clock_target_mhz=54)
    before, after = fit(packed), fit([*packed, built])
    assert after["ff"] == before["ff"]
    for row in packed:
        counted = parts(row.geometry, find_board(row.board).technology)
        sums = [
            sum(each * counted[name] for name, each in fitted["lut"]["Gowin"].items())
            for fitted in (before, after)
        ]
        assert sums[1] == pytest.approx(1.5 * sums[0], rel=0.01)


def test_builds_of_some_boards_are_forgotten(
    rows: list[Row], monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[Row] = []
    monkeypatch.setattr(estimate, "_write", kept.extend)
    assert main(["forget", "--board", "hx8k", "--board", "upduino"]) == 0
    gone = [row for row in rows if row not in kept]
    assert {row.board for row in gone} == {"hx8k", "upduino"}
    assert all(row.built for row in gone)


def test_what_was_fitted_is_what_the_rows_give(rows: list[Row]) -> None:
    fitted, kept = fit(rows), json.loads(DATA.read_text(encoding="utf-8"))["fitted"]
    assert fitted["clock_mhz"] == kept["clock_mhz"]
    assert fitted["slower_per_block"] == kept["slower_per_block"]
    for row in rows:
        technology = find_board(row.board).technology
        for what in ("lut", "ff"):
            # Sizes, not coefficients: other libraries of linear algebra may round otherwise.
            both = [coefficients[what][technology.name] for coefficients in (fitted, kept)]
            counted = parts(row.geometry, technology).items()
            new, old = (sum(c.get(name, 0) * size for name, size in counted) for c in both)
            assert new == pytest.approx(old, rel=1e-3), row


def test_the_documentation_shows_estimates_beside_what_was_measured(rows: list[Row]) -> None:
    text = (ROOT / "docs" / "boards.md").read_text(encoding="utf-8")
    assert "\n".join(table(rows)) in text


def test_coefficients_that_are_known_are_found() -> None:
    # Sizes made of coefficients of ours: an exact fit finds each of them again.
    board = find_board("ulx3s-85f")
    made = {"fixed": 900.0, "words": 11.5, "rotators": 2.25, "cells": 31.0, "sums": 3.5}
    geometries = [
        Geometry(array=n, operand_bits=o, word_bits=w, sum_bits=s)
        for n, o, w, s in product((2, 3, 4, 8), (8, 12), (12, 16), (32, 40))
    ]
    rows = []
    for geometry in geometries:
        counted = parts(geometry, board.technology)
        size = round(sum(made.get(name, 0) * count for name, count in counted.items()))
        rows.append(Row(board.name, geometry, size, 2 * size, 0, 0))
    fitted = fit(rows)
    for what, factor in (("lut", 1), ("ff", 2)):
        found = fitted[what]["ECP5"]
        for geometry in geometries:
            counted = parts(geometry, board.technology)
            size = sum(found.get(name, 0) * count for name, count in counted.items())
            right = factor * sum(made.get(name, 0) * count for name, count in counted.items())
            assert size == pytest.approx(right, rel=1e-3)
    assert fitted["clock_mhz"] == {}


@pytest.mark.parametrize("seed", range(8))
def test_least_squares_without_negative_coefficients(seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.standard_normal((12, 6)), rng.standard_normal(12)
    x = not_negative(a, b)
    # The conditions of Karush, Kuhn and Tucker, which hold at the least square and nowhere else.
    slope = a.T @ (b - a @ x)
    assert (x >= 0).all()
    assert (slope <= 1e-6).all()
    assert np.abs(slope[x > 0]).max(initial=0) < 1e-6
    assert (x == 0).any()


def test_what_a_block_ram_costs_is_found(rows: list[Row]) -> None:
    row = next(row for row in rows if row.board == "ulx3s-85f" and row.built)
    builds = [
        replace(row, bram=blocks, clock_mhz=200 / (1 + 0.004 * blocks)) for blocks in (10, 40, 90)
    ]
    fitted = fit(builds)
    assert fitted["slower_per_block"] == {"ECP5": 0.004}
    assert fitted["clock_mhz"]["ECP5"] == {str(row.geometry.array): 200.0}
    assert fit(builds[:1])["slower_per_block"] == {"ECP5": 0.0}  # one tells nothing


def test_clocks_between_those_that_were_reached() -> None:
    clocks = {2: 120.0, 8: 60.0}
    assert interpolated(clocks, 2) == 120
    assert interpolated(clocks, 8) == 60
    assert interpolated(clocks, 4) == pytest.approx(80)  # half the way: periods are 1, 1.5 and 2
    assert interpolated(clocks, 12) == 60
    assert interpolated({4: 90.0}, 2) == 90
    assert math.isclose(interpolated(clocks, 3), 1 / (1 / 120 + math.log2(1.5) / 2 / 120))


def test_devices_are_as_fast_as_their_series_and_grade() -> None:
    assert device_series(find_board("ulx3s-85f")) == device_series(find_board("ulx3s-12f"))
    assert device_series(find_board("ulx3s-85f")) != device_series(find_board("versa-ecp5"))
    assert device_series(find_board("hx8k")) != device_series(find_board("icebreaker"))


def test_a_build_is_read_with_its_geometry(tmp_path: Path) -> None:
    board = find_board("icebreaker")
    blocks = board.blocks_of(board.geometry)
    report = {
        "board": "icebreaker",
        "array": 2,
        "operand_bits": 8,
        "lut": 5000,
        "ff": 2700,
        "dsp": 4,
        "bram": blocks,
        "clock_target_mhz": 24.0,
        "clock_mhz": 31.5,
    }
    (tmp_path / "report.json").write_text(json.dumps(report), encoding="utf-8")
    row = built_row(tmp_path, None)
    assert row == Row("icebreaker", board.sized(2, 8), 5000, 2700, 4, blocks, 24, 31.5)
    (tmp_path / "report.json").write_text(json.dumps(report | {"bram": 30}), encoding="utf-8")
    with pytest.raises(RowError, match="it was built for a program, give it with --program"):
        built_row(tmp_path, None)


def test_a_table_takes_the_place_of_the_one_before(
    rows: list[Row], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.md"
    head = table(rows)[0]
    page.write_text(f"before\n\n{head}\n|---|\n| old |\n\nafter\n", encoding="utf-8")
    assert main(["table", "--into", str(page)]) == 0
    expected = ["before", "", *table(rows), "", "after"]
    assert page.read_text(encoding="utf-8").splitlines() == expected
    page.write_text("no table\n", encoding="utf-8")
    assert main(["table", "--into", str(page)]) == 1
    assert "has no table that begins with" in capsys.readouterr().err


def test_a_build_that_missed_its_clock_is_read_without_a_report(tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    used = {"TRELLIS_COMB": 9000, "TRELLIS_FF": 8000, "MULT18X18D": 16, "DP16KD": 77}
    report = {
        "utilization": {cell: {"used": count, "available": 10**5} for cell, count in used.items()},
        "fmax": {"clk": {"achieved": 123.456, "constraint": 160.0}},
        "critical_paths": [],
    }
    top = {"attributes": {"top": 1}, "cells": {}, "netnames": {}}
    (work / "routed.json").write_text(json.dumps(report), encoding="utf-8")
    (work / "top.json").write_text(json.dumps({"modules": {"top": top}}), encoding="utf-8")
    geometry = find_board("ulx3s-85f").geometry
    expected = Row("ulx3s-85f", geometry, 9000, 8000, 16, 77, 160, 123.46)
    assert routed_row(tmp_path, "ulx3s-85f", None) == expected
