from __future__ import annotations

import base64
import re
import struct
import xml.etree.ElementTree as ET
import zlib
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from siligrad import nn
from siligrad_cli.main import main
from siligrad_cli.report import write_report
from siligrad_cli.report.figure import gray_png
from siligrad_cli.report.findings import EPSILONS, Findings, examine
from siligrad_cli.train import load_data, load_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    arguments = ["--data", "optdigits", "--layers", "64-32-10", "--epochs", "8"]
    assert main(["train", *arguments, "--output", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def findings(run: Path) -> Findings:
    return examine(load_run(run))


@pytest.fixture(scope="module")
def page(run: Path) -> str:
    return write_report(run, run / "page.html").read_text(encoding="utf-8")


# --- what is found


def test_the_confusions_are_those_of_the_saved_parameters(run: Path, findings: Findings) -> None:
    with np.load(run / "params.npz", allow_pickle=False) as archive:
        params = [(archive[f"params[{k}][0]"], archive[f"params[{k}][1]"]) for k in range(2)]
    data = load_data("optdigits")
    taken = np.asarray(nn.predict(params, data.test_images)).argmax(axis=1)
    expected = np.zeros((10, 10), int)
    for actual, predicted in zip(data.test_labels, taken, strict=True):
        expected[actual, predicted] += 1
    assert np.array_equal(findings.confusion, expected)
    assert findings.test_accuracy == pytest.approx(np.trace(expected) / expected.sum())
    assert findings.class_accuracy == pytest.approx(np.diag(expected) / expected.sum(axis=1))


def test_the_worst_mistakes_are_mistakes_and_come_worst_first(findings: Findings) -> None:
    data = load_data("optdigits")
    margins = [mistake.margin for mistake in findings.mistakes]
    assert margins == sorted(margins, reverse=True)
    assert margins[-1] > 0
    for mistake in findings.mistakes:
        assert mistake.taken_for != mistake.actual == data.test_labels[mistake.number]
        assert np.array_equal(mistake.image, data.test_images[mistake.number])


def test_the_gradient_harms_more_than_chance_and_ever_more(findings: Findings) -> None:
    push = findings.perturbation
    assert push.epsilons == EPSILONS
    assert push.gradient[0] == push.random[0] == findings.test_accuracy
    assert all(a < b for a, b in zip(push.gradient[1:], push.random[1:], strict=True))
    lost, lost_by_chance = 1 - np.array(push.gradient), 1 - np.array(push.random)
    assert np.all(lost[4:] > 3 * lost_by_chance[4:])
    assert all(a >= b for a, b in zip(push.gradient, push.gradient[1:], strict=False))


def test_examples_move_by_epsilon_and_stay_in_the_range(findings: Findings) -> None:
    for example in findings.perturbation.examples:
        assert example.images.min() >= 0
        assert example.images.max() <= 1
        assert example.taken_for[0] == example.actual
        moved = np.abs(example.images[2] - example.images[0]).max()
        assert moved == pytest.approx(0.1)


def test_fitting_the_scale_calibrates(findings: Findings) -> None:
    assert findings.calibration.error < findings.unscaled_error
    assert findings.scale > 1
    assert findings.calibration.count.sum() == findings.test_images


def test_units_that_do_nothing_are_found(run: Path, tmp_path: Path) -> None:
    found = load_run(run)
    W, b = found.params[0]
    b[[3, 5]] = -1000.0
    dead = examine(found)
    assert dead.layers[0].dead == 2
    assert dead.layers[1].dead is None
    W[:], b[:] = 0, 1
    assert examine(found).layers[0].always == 32


# --- the page


class Elements(HTMLParser):
    """Collects elements, and checks that they are closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.all: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.all.append((tag, dict(attrs)))
        if tag not in {"meta", "img", "br"}:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.all.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_well_formed_and_loads_nothing(page: str) -> None:
    elements = Elements(page)
    assert not elements.open
    assert not {"script", "link", "iframe", "object"} & {tag for tag, _ in elements.all}
    assert "http" not in page
    assert "url(" not in page
    assert "@import" not in page
    for tag, attributes in elements.all:
        for name in ("src", "href"):
            if name in attributes:
                assert (attributes[name] or "").startswith("data:image/png;base64,"), tag
        assert not [name for name in attributes if name.startswith("on")]


def test_the_page_has_every_part(page: str, findings: Findings) -> None:
    headings = re.findall(r"<h2>(.*?)</h2>", page)
    assert headings == [
        "What to look at",
        "Training",
        "Confusions",
        "Calibration",
        "Worst mistakes",
        "A small push in the worst direction",
        "Inside",
    ]
    assert page.count("<svg ") == 5
    assert page.count("taken for <b>") == len(findings.mistakes)
    assert f"{findings.test_accuracy:.2%}" in page
    assert "prefers-color-scheme: dark" in page


def test_every_drawing_is_xml_inside_its_frame(page: str) -> None:
    for text in re.findall(r"<svg .*?</svg>", page, re.DOTALL):
        svg = ET.fromstring(text)
        _, _, width, height = map(float, svg.attrib["viewBox"].split())
        assert svg.attrib["aria-label"]
        for element in svg.iter():
            for name, limit in (("x", width), ("cx", width), ("y", height), ("cy", height)):
                if name in element.attrib:
                    assert 0 <= float(element.attrib[name]) <= limit


def test_the_same_run_gives_the_same_bytes(run: Path, page: str, tmp_path: Path) -> None:
    again = tmp_path / "again.html"
    assert main(["report", str(run), "-o", str(again)]) == 0
    assert again.read_text(encoding="utf-8") == page


def test_the_page_lies_in_the_folder_of_the_run_by_default(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", str(run)]) == 0
    assert capsys.readouterr().out == f"report  {run / 'report.html'}\n"
    assert (run / "report.html").is_file()


def test_a_run_of_one_epoch_that_was_interrupted_is_reported(run: Path, tmp_path: Path) -> None:
    arguments = ["--data", "optdigits", "--epochs", "1", "--loss", "cross_entropy"]
    assert main(["train", *arguments, "--output", str(tmp_path)]) == 0
    for name in ("params.npz", "result.json"):
        (tmp_path / name).unlink()
    text = write_report(tmp_path, tmp_path / "page.html").read_text(encoding="utf-8")
    assert "1 of 1 epochs" in text
    assert "trains no probabilities" not in text
    assert not Elements(text).open


def test_a_network_that_learned_nothing_is_called_that(run: Path) -> None:
    from siligrad_cli.report.page import render

    found = load_run(run)
    for W, b in found.params:
        W[:], b[:] = 0, 0
    text = render(examine(found))
    assert "little better than guessing" in text
    assert "No test image was taken for class 1, 2, 3" in text
    assert "32 of the 32 units of layer 1 are never above zero" in text
    assert not Elements(text).open


def test_names_are_escaped(run: Path, tmp_path: Path) -> None:
    images = np.random.default_rng(0).random((90, 5))
    labels = (images[:, 0] > 0.5).astype(int)
    path = tmp_path / "<b>&.npz"
    np.savez(path, train_images=images, train_labels=labels, test_images=images, test_labels=labels)
    folder = tmp_path / "run"
    arguments = ["--epochs", "2", "--layers", "5-4-2", "--validation", "0.2", "--batch", "8"]
    assert main(["train", "--data", str(path), *arguments, "--output", str(folder)]) == 0
    text = write_report(folder, folder / "page.html").read_text(encoding="utf-8")
    assert "&lt;b&gt;&amp;, 5-4-2" in text
    assert not Elements(text).open


def test_what_is_no_run_is_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", str(tmp_path / "nothing")]) == 1
    assert "holds no run: there is no run.json" in capsys.readouterr().err
    arguments = ["--data", "optdigits", "--epochs", "1", "--output", str(tmp_path)]
    assert main(["train", *arguments]) == 0
    for name in ("params.npz", "checkpoint.npz"):
        (tmp_path / name).unlink()
    capsys.readouterr()
    assert main(["report", str(tmp_path)]) == 1
    assert "has finished no epoch" in capsys.readouterr().err


def test_data_that_moved_are_found_where_one_says(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = np.random.default_rng(0).random((90, 5))
    labels = (images[:, 0] > 0.5).astype(int)
    old, new, folder = tmp_path / "old.npz", tmp_path / "new.npz", tmp_path / "run"
    np.savez(old, train_images=images, train_labels=labels, test_images=images, test_labels=labels)
    arguments = ["--epochs", "1", "--layers", "5-4-2", "--validation", "0.2", "--batch", "8"]
    assert main(["train", "--data", str(old), *arguments, "--output", str(folder)]) == 0
    old.rename(new)
    assert main(["report", str(folder)]) == 1
    assert f"{old} does not exist" in capsys.readouterr().err
    assert main(["report", str(folder), "--data", str(new)]) == 0
    assert main(["report", str(folder), "--data", "optdigits"]) == 1
    assert "has 64 inputs and 10 classes, but the run" in capsys.readouterr().err


def test_pictures_are_png_that_says_what_the_image_says() -> None:
    image = np.array([[0.0, 1.0, 0.5], [1.0, 0.0, 0.0]])
    data = base64.b64decode(gray_png(image, (0.0, 1.0)).partition(",")[2])
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    at, chunks = 8, {}
    while at < len(data):
        (length,) = struct.unpack(">I", data[at : at + 4])
        kind, body = data[at + 4 : at + 8], data[at + 8 : at + 8 + length]
        (checksum,) = struct.unpack(">I", data[at + 8 + length : at + 12 + length])
        assert checksum == zlib.crc32(kind + body)
        chunks[kind] = body
        at += 12 + length
    assert list(chunks) == [b"IHDR", b"IDAT", b"IEND"]
    assert struct.unpack(">IIBBBBB", chunks[b"IHDR"]) == (3, 2, 8, 0, 0, 0, 0)
    assert zlib.decompress(chunks[b"IDAT"]) == bytes([0, 255, 0, 128, 0, 0, 255, 255])
