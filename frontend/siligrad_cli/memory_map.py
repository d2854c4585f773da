"""The three memories drawn: every word with its owner, from instruction to instruction."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from siligrad.explain import Explanation, Lifetime, short_name
from siligrad.isa import Memory
from siligrad.program import Program, Role
from siligrad_cli.plotting import plotting, save_figure

__all__ = ["draw_memory_map"]

COLOURS = {
    Role.INPUT: "#9ecae1",
    Role.RESIDENT: "#a1d99b",
    Role.CONSTANT: "#d9d9d9",
    Role.TEMPORARY: "#fdd0a2",
    Role.OUTPUT: "#dab6e8",
}
HEIGHT = 6.0
"""Of the picture, in inches."""

_LABEL_SIZE = 7.0
_CHARACTER = 0.6 * _LABEL_SIZE / 72
_LINE = 1.3 * _LABEL_SIZE / 72
"""Width and height of a label's character in inches, on average."""


def draw_memory_map(explanation: Explanation, path: Path) -> Path:
    """Draw which tensor owns which words when, to an SVG or PNG file.

    Instructions go to the right, words down. The same program gives the same bytes.

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    """
    program = explanation.program
    count = len(program.instructions)
    width = min(max(11.0, 0.1 * count * len(Memory) + 5), 15.0)
    with plotting(9) as pyplot:
        figure, all_axes = pyplot.subplots(
            1, len(Memory), figsize=(width, HEIGHT), layout="constrained", squeeze=False
        )
        for memory, axes in zip(Memory, all_axes[0], strict=True):
            lives = [
                life
                for life in explanation.lifetimes
                if program.tensors[life.tensor].memory == memory
            ]
            _draw_memory(axes, program, memory, lives, (width / len(Memory) - 0.8, HEIGHT - 1.4))
        all_axes[0, 0].set_ylabel(f"word in each of {program.geometry.array} banks")
        figure.suptitle(f"{program.name}: who owns which words, by instruction", ha="left", x=0.01)
        roles = [role for role in Role if any(t.role == role for t in program.tensors)]
        figure.legend(
            [pyplot.Rectangle((0, 0), 1, 1, facecolor=COLOURS[role]) for role in roles],
            [role.name.lower() for role in roles],
            loc="outside lower center",
            ncols=len(roles),
            frameon=False,
        )
        return save_figure(figure, path)


def _draw_memory(
    axes: Any,
    program: Program,
    memory: Memory,
    lives: Sequence[Lifetime],
    inches: tuple[float, float],
) -> None:
    n = program.geometry.array
    depth, used = program.geometry.depth(memory), program.words_used(memory)
    count = len(program.instructions)
    top = max(used, n)
    for life in lives:
        tensor = program.tensors[life.tensor]
        left, right = max(life.first, 0), min(life.last + 1, count)
        words = tensor.words(n)
        axes.add_patch(
            _rectangle((left, tensor.base), right - left, words, facecolor=COLOURS[tensor.role])
        )
        room = (right - left) / count * inches[0], words / top * inches[1]
        name = short_name(tensor.name)
        size = f"{tensor.rows} x {tensor.columns}"
        label = next(
            (
                text
                for text in (f"{name}  {size}", name)
                if len(text) * _CHARACTER < room[0] and room[1] > _LINE
            ),
            "",
        )
        axes.text(
            (left + right) / 2,
            tensor.base + words / 2,
            label,
            ha="center",
            va="center",
            fontsize=_LABEL_SIZE,
        )
    moving = [tensor for tensor in program.tensors if tensor.moves and tensor.memory == memory]
    if moving:  # the data of the other steps, one window after the other
        low = min(tensor.base for tensor in moving) + program.loop.stride(memory)
        high = max(program.end(tensor) for tensor in moving)
        axes.add_patch(
            _rectangle((0, low), count, high - low, facecolor=COLOURS[Role.INPUT], alpha=0.4)
        )
        text = f"the same for {program.loop.steps - 1} more steps"
        axes.text(count / 2, (low + high) / 2, text, ha="center", va="center", fontsize=_LABEL_SIZE)
    axes.set_xlim(0, count)
    axes.set_ylim(top, 0)
    axes.set_yticks(range(0, top + 1, max(n, 1 << (top // 6).bit_length())))
    every = -(-count // 16)
    axes.set_xticks([at + 0.5 for at in range(0, count, every)], range(0, count, every))
    axes.tick_params(axis="x", length=0)
    axes.set_xlabel("instruction")
    axes.set_title(f"{memory.name}: {used} of {depth} words ({used / depth:.0%})", loc="left")
    axes.spines[["top", "right"]].set_visible(False)


def _rectangle(corner: tuple[float, float], width: float, height: float, **style: Any) -> Any:
    from matplotlib.patches import Rectangle  # noqa: PLC0415  optional

    return Rectangle(corner, width, height, edgecolor="#555555", linewidth=0.5, **style)
