"""The page of ``siligrad verify``: what was compared, as one HTML file that needs nothing else."""

from __future__ import annotations

import html

from siligrad_cli.report.page import STYLE
from siligrad_cli.verify.findings import Findings

__all__ = ["render"]


def render(findings: Findings) -> str:
    """Return the page. It loads nothing and runs nothing."""
    f = findings
    title = f.network or "Random programs"
    verdict = (
        '<span class="yes">no difference</span>'
        if f.passed
        else f'<span class="no">{len(f.failures)} differ</span>'
    )
    body = "".join([
        f"<h1>{html.escape(title)}</h1>",
        (
            f'<p class="soft">{html.escape(f.program)}; seed {f.seed}. The reference beside '
            f"{html.escape(', '.join(f.devices))}: every word of X, W and E, every shift register, "
            "saturation counter and cycle, after every run.</p>"
        ),
        '<div class="tiles">',
        _tile(verdict, "in all that was compared"),
        _tile(_number(f.words), "words compared"),
        _tile(_number(f.cycles), "cycles compared"),
        _tile(_number(sum(row.runs for row in f.rows)), "runs"),
        _tile(_number(f.saturations), "elements saturated"),
        _tile(_number(f.programs), "random programs"),
        "</div>",
        _failures(f),
        *(_device(f, device) for device in dict.fromkeys(row.device for row in f.rows)),
        _random(f),
        _skipped(f),
    ])
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}: verified</title>\n<style>{STYLE}</style>\n</head>\n"
        f"<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def _number(value: int) -> str:
    return f"{value:,}".replace(",", " ")


def _tile(value: str, name: str) -> str:
    return f'<div class="tile"><b>{value}</b><span>{html.escape(name)}</span></div>'


def _section(title: str, content: str) -> str:
    return f"\n<section>\n<h2>{html.escape(title)}</h2>\n{content}\n</section>"


def _failures(f: Findings) -> str:
    if f.passed:
        return ""
    items = "".join(
        f"<li><b>{html.escape(each.check)}</b>: {html.escape(each.message)}<br>"
        f'<span class="soft">siligrad verify --replay {html.escape(each.folder)}</span></li>'
        for each in f.failures
    )
    return _section("What differs", f"<ul>{items}</ul>")


def _device(f: Findings, device: str) -> str:
    rows = "".join(
        "<tr>"
        + "".join(
            f"<td>{cell}</td>"
            for cell in (
                html.escape(row.check),
                _number(row.runs),
                _number(row.words),
                _number(row.cycles),
                _number(row.saturations),
                f"{row.seconds:.1f}",
                '<span class="yes">equal</span>'
                if row.passed
                else '<span class="no">differs</span>',
            )
        )
        + "</tr>"
        for row in f.rows
        if row.device == device
    )
    names = ("what was run", "runs", "words", "cycles", "saturated", "seconds", "")
    head = "".join(f"<th>{name}</th>" for name in names)
    return _section(device, f'<div class="scroll"><table><tr>{head}</tr>{rows}</table></div>')


def _random(f: Findings) -> str:
    if not f.programs:
        return ""
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(f.by_kind.items()))
    refused = ", ".join(f"{count} {name}" for name, count in sorted(f.discarded.items())) or "none"
    text = (
        f"{f.programs} programs drawn at random: {kinds}. A network goes through autodiff and "
        "compiler as yours does; bare instructions reach what no compiler emits. Cases without a "
        f"program, which the compiler refuses: {refused}."
    )
    return _section("Random programs", f'<p class="soft">{html.escape(text)}</p>')


def _skipped(f: Findings) -> str:
    if not f.skipped:
        return ""
    items = "".join(f"<li>{html.escape(reason)}</li>" for reason in f.skipped)
    return _section("Not run", f"<ul>{items}</ul>")
