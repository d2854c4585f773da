"""Changes of the Python that nothing can tell from the original, each with the reason why.

Nobody proves these by machine, so the rules are strict. An entry names one change by the text that
is replaced, which must be in its file exactly once, and the text in its place; it must be a change
that is drawn there (:func:`claimed`), so an entry that the code has left behind is an error. And
a change that is said to be equivalent is judged like any other: if a test fails with it, the claim
is wrong, which is an error too (:func:`benchmarks.mutants.python.run`).

What says something else in the text of an error is not equivalent. What is only slower is, and
what could only be told by a value that nobody makes.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from benchmarks.mutants.outcome import MutantsError

__all__ = ["EQUIVALENTS", "Equivalent", "claimed", "tree_of"]

_COMPILER = "frontend/siligrad/compiler"


@dataclass(frozen=True, slots=True)
class Equivalent:
    """A change that alters nothing that a program computes.

    Parameters
    ----------
    path
        The file, from the root of the checkout.
    before
        What stands there: a part of a line, or some lines, found in the file once.
    after
        What the change makes of it.
    reason
        Why nothing can tell.
    """

    path: str
    before: str
    after: str
    reason: str


_SIGNS = (
    ("algebra.py", "and mask.sign > 0", (">= 0", "> -1")),
    ("algebra.py", "and other.sign > 0", (">= 0", "> -1")),
    ("emit.py", "if core.sign > 0", (">= 0", "> -1")),
    ("emit.py", "if core.sign < 0", ("<= 0", "< 1")),
)
"""Where a sign is compared with zero, and what says the same of 1 and of -1."""

_SAME = (
    ("algebra.py", "left.core is right.core"),
    ("algebra.py", "other.inner is mask.inner.inner"),
    ("emit.py", "other.inner is core.inner.inner"),
    ("emit.py", "candidate.inner is core.mask.inner"),
)
"""Where two cores are compared."""

_AS_LONG = (
    ("driver.py", "zip(kernel.results, graph.outputs, strict="),
    ("driver.py", "zip(graph.arguments, example, strict="),
    ("driver.py", "zip(kernel.arguments, _leaves(graph, example), strict="),
    ("driver.py", "zip(graph.arguments, args, strict="),
    ("driver.py", "zip(inside, tree.flatten(value)[0], strict="),
    ("schedule.py", "zip(instructions, delays, strict="),
)
"""Where sequences go side by side of which one was made from the other, or from the same."""

EQUIVALENTS = (
    *(
        Equivalent(
            f"{_COMPILER}/{name}",
            before,
            before.replace(" is ", " == "),
            "a core is equal to no other (eq=False)",
        )
        for name, before in _SAME
    ),
    *(
        Equivalent(
            f"{_COMPILER}/{name}", f"{before}True", f"{before}False", "both are equally long"
        )
        for name, before in _AS_LONG
    ),
    *(
        Equivalent(f"{_COMPILER}/{name}", before, before[:-3] + after, "a sign is 1 or -1")
        for name, before, others in _SIGNS
        for after in others
    ),
    *(
        Equivalent(
            f"{_COMPILER}/driver.py",
            "full = QFormat(target.word_bits, 0).limit",
            f"full = QFormat(target.word_bits, {fraction}).limit",
            "the largest code does not depend on the fraction bits",
        )
        for fraction in (-1, 1)
    ),
    Equivalent(
        f"{_COMPILER}/lower.py",
        "float(array.flat[0])",
        "float(array.flat[-1])",
        "its elements have just been found to be equal",
    ),
    Equivalent(
        f"{_COMPILER}/memories.py",
        "(len(order) + 1)",
        "(len(order) + 2)",
        "the search looks at no entry beyond that of the matrix after the last",
    ),
    *(
        Equivalent(
            f"{_COMPILER}/schedule.py",
            "best, start = None, 0",
            f"best, start = None, {cycle}",
            "the start is not looked at before there is a best, and then it has another",
        )
        for cycle in (-1, 1)
    ),
    Equivalent(
        f"{_COMPILER}/schedule.py",
        "range(min(loop.steps, 2))",
        "range(min(loop.steps, 3))",
        "what the second step needs is enough for the third: all steps from it on are alike",
    ),
)
"""All that are claimed."""


def claimed(
    sources: Mapping[str, str], equivalents: Iterable[Equivalent]
) -> dict[tuple[str, int], dict[str, Equivalent]]:
    """Return the claims by path and line, and then by the syntax tree of the changed file.

    Parameters
    ----------
    sources
        The text of each file.
    equivalents
        What is claimed.

    Raises
    ------
    MutantsError
        If an entry does not fit its file any more.
    """
    found: dict[tuple[str, int], dict[str, Equivalent]] = defaultdict(dict)
    for each in equivalents:
        source = sources.get(each.path, "")
        count = source.count(each.before)
        if count != 1:
            raise MutantsError(
                f"{each.path}: {each.before!r}, of which a change is said to be equivalent, is "
                f"there {count} times, not once: mend or remove the entry in "
                "benchmarks/mutants/equivalents.py"
            )
        line = source[: source.index(each.before)].count("\n") + 1
        tree = tree_of(source.replace(each.before, each.after))
        for number in range(line, line + each.before.count("\n") + 1):
            found[each.path, number][tree] = each
    return found


def tree_of(source: str) -> str:
    """Return the syntax tree of a text, by which changes are compared: blanks do not count."""
    return ast.dump(ast.parse(source))
