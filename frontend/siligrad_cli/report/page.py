"""The page: what was found, in words and pictures, as one HTML file that needs nothing else."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from siligrad_cli.report.figure import (
    Axis,
    Curve,
    confusion,
    gray_png,
    line_chart,
    reliability,
    signed_png,
)
from siligrad_cli.report.findings import SHOWN_EPSILONS, Findings

__all__ = ["render"]

BLUE, ORANGE = (42, 120, 214), (226, 92, 40)

STYLE = """
:root {
  color-scheme: light dark;
  --paper: #fbfbf9; --card: #ffffff; --edge: #e4e3de; --grid: #ecebe6; --axis: #b9b8b2;
  --ink: #1d1c1a; --soft: #5d5b56; --first: #2a78d6; --second: #d9541e; --own: #eeede8;
  --on: #ffffff; --good: #1a7a3a; --bad: #b3261e;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #161615; --card: #1f1f1d; --edge: #343431; --grid: #2c2c2a; --axis: #63625d;
    --ink: #f1f0ec; --soft: #b0aea7; --first: #5a9ff0; --second: #f08050; --own: #2d2d2a;
    --on: #1a1512; --good: #6cc98a; --bad: #ff8a80;
  }
  img.gray { filter: invert(1); }
}
* { box-sizing: border-box; }
body {
  margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif;
}
main { max-width: 1080px; margin: 0 auto; padding: 40px 24px 64px; }
h1 { font-size: 30px; line-height: 1.2; margin: 0 0 4px; letter-spacing: -0.01em; }
h2 { font-size: 20px; margin: 0 0 4px; }
p { margin: 0 0 12px; max-width: 75ch; }
.soft { color: var(--soft); }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 12px; }
.tile, section {
  background: var(--card); border: 1px solid var(--edge); border-radius: 10px;
}
.tile { padding: 14px 16px; }
.tile b { display: block; font-size: 26px; font-weight: 600; line-height: 1.25; }
.tile span { color: var(--soft); font-size: 13px; }
section { padding: 22px 24px; margin-top: 16px; }
.pair {
  display: grid; grid-template-columns: repeat(auto-fit, minmax(min(400px, 100%), 1fr)); gap: 24px;
}
.pair > div { min-width: 0; }
svg {
  display: block; width: 100%; height: auto; margin: 8px auto 0; font: 12px system-ui, sans-serif;
}
.grid { stroke: var(--grid); } .axis { stroke: var(--axis); }
.stem { stroke: var(--first); stroke-opacity: 0.35; stroke-width: 2; }
.ideal { stroke: var(--axis); stroke-dasharray: 4 4; }
.tick { fill: var(--soft); font-variant-numeric: tabular-nums; } .strong { fill: var(--ink); }
.name { fill: var(--soft); font-weight: 600; } .mark { fill: var(--ink); }
.line { fill: none; stroke-width: 2; stroke-linejoin: round; }
.line.first, .ring.first { stroke: var(--first); } .line.second { stroke: var(--second); }
.point { stroke: var(--card); stroke-width: 1; }
.point.first, .bar.first { fill: var(--first); } .point.second { fill: var(--second); }
.ring { fill: none; stroke-width: 1.5; } .touch { fill: transparent; }
.wrong { fill: var(--second); } .right { fill: var(--own); }
.none { fill: var(--grid); fill-opacity: 0.45 !important; }
.cell { fill: var(--ink); font-variant-numeric: tabular-nums; } .cell.on { fill: var(--on); }
.cell.own { fill: var(--soft); }
ul { margin: 4px 0 0; padding-left: 20px; } li { margin: 2px 0; }
.images {
  display: grid; grid-template-columns: repeat(auto-fill, minmax(112px, 1fr)); gap: 16px 12px;
  margin-top: 12px;
}
figure { margin: 0; text-align: center; }
img {
  display: block; width: 100%; border: 1px solid var(--edge); border-radius: 4px;
  image-rendering: pixelated;
}
img.gray { border-color: #888; }
figcaption { font-size: 13px; margin-top: 4px; line-height: 1.35; }
figcaption .soft { font-size: 12px; white-space: nowrap; }
table { border-collapse: collapse; font-size: 14px; font-variant-numeric: tabular-nums; }
th, td { padding: 5px 14px 5px 0; text-align: right; border-bottom: 1px solid var(--grid); }
th { color: var(--soft); font-weight: 600; } th:first-child, td:first-child { text-align: left; }
.scroll { overflow-x: auto; } .scroll > svg { min-width: 560px; }
table.steps { width: 100%; min-width: 400px; table-layout: fixed; }
table.steps td, table.steps th { text-align: center; padding: 4px 6px; border: 0; }
.yes { color: var(--good); } .no { color: var(--bad); font-weight: 600; }
@media print { body { background: #fff; } section, .tile { break-inside: avoid; } }
"""


def render(findings: Findings) -> str:
    """Return the page. It loads nothing and runs nothing; the same findings give the same text."""
    f = findings
    title = f"{f.name}, {'-'.join(map(str, f.settings.layers))}"
    body = "".join([
        f"<h1>{html.escape(title)}</h1>",
        f'<p class="soft">{html.escape(_settings(f))}</p>',
        _tiles(f),
        _section("What to look at", "", _list(_remarks(f))),
        _section("Training", _training_text(f), _training(f)),
        _section(
            "Confusions",
            "Rows are what the test images show, columns what they were taken for. The stronger "
            "the colour, the more often; what was recognised is gray. On the right, how much of "
            "each class was.",
            f'<div class="scroll">{confusion(f.confusion, f.class_accuracy)}</div>',
        ),
        _section(
            "Calibration",
            _calibration_text(f),
            reliability(f.calibration.confidence, f.calibration.accuracy, f.calibration.count),
        ),
        _section(
            "Worst mistakes",
            "The test images that were taken for another class by the greatest margin, which is "
            "the score of that class minus the score of their own.",
            _mistakes(f),
        ),
        _section("A small push in the worst direction", _perturbation_text(f), _perturbation(f)),
        _section(
            "Inside",
            "A unit is active when it is above zero. One that is active for no test image does "
            "nothing; one that is for every image is only linear. The pictures show what the "
            "units of the first layer with the largest weights look for: blue speaks for, orange "
            "against.",
            _layers(f) + _detectors(f),
        ),
    ])
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n"
        f"<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def _section(title: str, text: str, content: str) -> str:
    words = f'<p class="soft">{html.escape(text)}</p>' if text else ""
    return f"\n<section>\n<h2>{html.escape(title)}</h2>\n{words}\n{content}\n</section>"


def _list(items: Iterable[str]) -> str:
    return "<ul>" + "".join(f"<li>{html.escape(item)}</li>" for item in items) + "</ul>"


def _percent(value: float) -> str:
    return f"{value:.2%}"


def _settings(f: Findings) -> str:
    s = f.settings
    halved = f", halved every {s.halve} epochs" if s.halve else ""
    return (
        f"{s.loss.replace('_', ' ')}, {s.optimizer} at {s.rate:g}{halved}, batch {s.batch}, "
        f"seed {s.seed}; {len(f.history)} of {s.epochs} epochs"
    )


def _tiles(f: Findings) -> str:
    wrong = f.test_images - int(np.trace(f.confusion))
    pushed = f.perturbation.gradient[f.perturbation.epsilons.index(0.1)]
    tiles = [
        (_percent(f.test_accuracy), f"of {f.test_images} test images right"),
        (f"{wrong}", "test images wrong"),
        (_percent(f.train_accuracy), f"of {f.train_images} training images right"),
        (_percent(pushed), "right after a push of 0.1"),
        (_percent(f.calibration.error), "calibration error"),
        (f"{f.parameters:,}".replace(",", " "), "parameters"),
    ]
    return (
        '<div class="tiles">'
        + "".join(
            f'<div class="tile"><b>{value}</b><span>{html.escape(name)}</span></div>'
            for value, name in tiles
        )
        + "</div>"
    )


def _remarks(f: Findings) -> list[str]:
    """Return in words what is easily overlooked, worst first."""
    remarks = []
    if f.test_accuracy < 2 / len(f.confusion):
        remarks.append("The network does little better than guessing.")
    never = np.flatnonzero(f.confusion.sum(axis=0) == 0)
    if len(never):
        remarks.append(f"No test image was taken for class {_join(never)}.")
    if len(f.history) > 1 and f.history[-1].loss > f.history[0].loss:
        remarks.append("The loss is higher than it was in the first epoch: try a smaller rate.")
    for number, layer in enumerate(f.layers, start=1):
        if layer.dead:
            remarks.append(
                f"{layer.dead} of the {layer.units} units of layer {number} are never above zero: "
                "they do nothing."
            )
    gap = f.train_accuracy - f.test_accuracy
    if gap > 0.02:
        remarks.append(
            f"The training images are recognised {100 * gap:.1f} points better than the test "
            "images: the network remembers more than it understands."
        )
    best = max(f.history, key=lambda epoch: epoch.score or 0.0)
    highest, last = best.score or 0.0, f.history[-1].score or 0.0
    noise = (highest * (1 - highest) / f.validation_images) ** 0.5  # of a binomial distribution
    if highest - last > 2 * noise + 1 / f.validation_images and not f.settings.patience:
        remarks.append(
            f"Validation was better after epoch {best.number}, {_percent(highest)}, than after the "
            f"last, {_percent(last)}: try --patience or a smaller rate."
        )
    known = np.where(np.isnan(f.class_accuracy), 2.0, f.class_accuracy)
    worst = int(known.argmin())
    remarks.append(f"Class {worst} is recognised least, {_percent(float(known[worst]))} of it.")
    wrong = f.confusion - np.diag(np.diag(f.confusion))
    if wrong.max() > 0:
        row, column = np.unravel_index(int(wrong.argmax()), wrong.shape)
        remarks.append(f"Most often, {wrong.max()} times, {row} is taken for {column}.")
    return remarks


def _join(numbers: Sequence[Any] | NDArray[Any]) -> str:
    return ", ".join(str(number) for number in numbers)


def _training_text(f: Findings) -> str:
    return (
        f"Trained on {f.train_images} images, validated after each epoch with "
        f"{f.validation_images} others. The loss is the mean over the steps of an epoch, each "
        "before its update."
    )


def _training(f: Findings) -> str:
    numbers = [float(epoch.number) for epoch in f.history]
    rates = [f"epoch {epoch.number}, rate {epoch.rate:g}" for epoch in f.history]
    epochs = Axis("epoch", lambda v: f"{v:.0f}", numbers[0], numbers[-1], whole=True)
    loss = Curve(
        *("loss", "first", numbers, [epoch.loss for epoch in f.history]),
        tips=[f"{rate}: loss {e.loss:.4f}" for rate, e in zip(rates, f.history, strict=True)],
    )
    scores = [100 * (epoch.score or 0.0) for epoch in f.history]
    best = int(np.argmax(scores))
    accuracy = Curve(
        *("accuracy", "first", numbers, scores),
        tips=[f"{rate}: {score:.2f}%" for rate, score in zip(rates, scores, strict=True)],
        mark=best,
        marked=f"best: {scores[best]:.2f}%",
    )
    high = 100.0 if max(scores) > 90 else None
    return (
        '<div class="pair"><div>'
        + line_chart(
            [loss],
            epochs,
            Axis(f"training loss, {f.settings.loss.replace('_', ' ')}", lambda v: f"{v:g}", 0.0),
            label="training loss by epoch",
        )
        + "</div><div>"
        + line_chart(
            [accuracy],
            epochs,
            Axis("validation accuracy", lambda v: f"{v:g}%", None, high),
            label="validation accuracy by epoch",
        )
        + "</div></div>"
    )


def _calibration_text(f: Findings) -> str:
    text = (
        "Of the images for which the network is 90% sure, nine in ten should be right: then the "
        "curve follows the dashed line. The "
        "expected calibration error, the mean distance from the dashed line weighted by the "
        f"number of images, is {_percent(f.calibration.error)}. "
    )
    if f.settings.loss == "cross_entropy":
        return text + "How sure it is, is the largest softmax of the scores."
    return text + (
        f"{f.settings.loss.replace('_', ' ').capitalize()} trains no probabilities: how sure the "
        f"network is, is the largest softmax of {f.scale:.2f} times the scores, a factor fitted to "
        f"the validation images. Without it, the error would be {_percent(f.unscaled_error)}."
    )


def _image(f: Findings, image: NDArray[Any], alt: str) -> str:
    address = gray_png(np.asarray(image).reshape(f.image_shape), f.limits)
    return f'<img class="gray" src="{address}" alt="{html.escape(alt, quote=True)}"{_size(f)}>'


def _size(f: Findings) -> str:
    rows, columns = f.image_shape
    return ' style="aspect-ratio:1;object-fit:fill"' if rows == 1 < columns else ""


def _mistakes(f: Findings) -> str:
    if not f.mistakes:
        return "<p>There are none: every test image was recognised.</p>"
    return (
        '<div class="images">'
        + "".join(
            f"<figure>{_image(f, m.image, f'test image {m.number}')}<figcaption>"
            f'<b>{m.actual}</b> taken for <b>{m.taken_for}</b><br><span class="soft">by '
            f"{m.margin:.2f}, no. {m.number}</span></figcaption></figure>"
            for m in f.mistakes
        )
        + "</div>"
    )


def _perturbation_text(f: Findings) -> str:
    low, high = f.limits
    return (
        "Every input moves by ε, up or down, as the sign of the gradient of the loss with respect "
        f"to the image says, and stays in {low:g} .. {high:g}: the fast gradient sign method. ε is "
        "in parts of that range. Beside it, the same push with signs drawn at random. The gradient "
        "is that of softmax cross-entropy in float64, which, unlike a hinge, never vanishes."
    )


def _perturbation(f: Findings) -> str:
    p = f.perturbation
    curves = [
        Curve(
            *(name, kind, p.epsilons, [100 * value for value in values]),
            tips=[
                f"ε = {epsilon:g}: {value:.2%}"
                for epsilon, value in zip(p.epsilons, values, strict=True)
            ],
        )
        for name, kind, values in (
            ("random signs", "first", p.random),
            ("along the\ngradient", "second", p.gradient),
        )
    ]
    chart = line_chart(
        curves,
        Axis("ε", lambda v: f"{v:g}", 0.0, max(p.epsilons)),
        Axis("test accuracy", lambda v: f"{v:g}%", 0.0, 100.0),
        label="test accuracy over the size of the perturbation",
    )
    head = "".join(
        f"<th>{'ε = ' if k == 0 else ''}{e:g}</th>" for k, e in enumerate(SHOWN_EPSILONS)
    )
    rows = "".join(
        "<tr>"
        + "".join(
            f"<td>{_image(f, image, f'class {example.actual}, moved by {epsilon:g}')}"
            f"{_verdict(taken, example.actual)}</td>"
            for image, epsilon, taken in zip(
                example.images, SHOWN_EPSILONS, example.taken_for, strict=True
            )
        )
        + "</tr>"
        for example in p.examples
    )
    table = f'<div class="scroll"><table class="steps"><tr>{head}</tr>{rows}</table></div>'
    return f'<div class="pair"><div>{chart}</div><div>{table if rows else ""}</div></div>'


def _verdict(taken: int, actual: int) -> str:
    return (
        f'<span class="yes">{taken} ✓</span>'
        if taken == actual
        else f'<span class="no">{taken} ✗</span>'
    )


def _layers(f: Findings) -> str:
    rows = ""
    for number, layer in enumerate(f.layers, start=1):
        cells = [f"{number}", f"{layer.inputs}", f"{layer.units}", f"{layer.weight:.4f}"]
        if layer.active is None:
            cells += ["–"] * 3
        else:
            cells += [f"{layer.dead}", f"{layer.always}", f"{layer.active:.1%}"]
        rows += "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"
    activity = ("never active", "always active", "active on average")
    names = ("layer", "inputs", "units", "weights, rms", *activity)
    head = "".join(f"<th>{name}</th>" for name in names)
    return f'<div class="scroll"><table><tr>{head}</tr>{rows}</table></div>'


def _detectors(f: Findings) -> str:
    pictures = "".join(
        f'<img src="{signed_png(weights.reshape(f.image_shape), BLUE, ORANGE)}" '
        f'alt="weights of a unit"{_size(f)}>'
        for weights in f.detectors
    )
    return f'<div class="images">{pictures}</div>'
