"""Nested containers as flat lists of leaves, and back.

A *tree* is any nesting of tuples, named tuples, lists, dicts, dataclasses and ``None`` (a tree
without leaves); everything else is a leaf. Networks keep their parameters in trees,
transformations work on leaves.

>>> leaves, structure = flatten({"W": [1, 2], "b": 3})
>>> leaves
[1, 2, 3]
>>> unflatten(structure, [10, 20, 30])
{'W': [10, 20], 'b': 30}
>>> paths(structure, "params")
["params['W'][0]", "params['W'][1]", "params['b']"]
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from siligrad.errors import ShapeError

__all__ = ["LEAF", "Structure", "flatten", "flatten_like", "map", "paths", "unflatten"]


@dataclass(frozen=True, slots=True)
class Structure:
    """What is left of a tree when its leaves are taken out.

    Parameters
    ----------
    kind : :class:`type` or None
        The container's class; None for a leaf.
    keys : :class:`tuple`
        How each child is reached: positions, dict keys or field names.
    children : :class:`tuple` of :class:`Structure`
        One for each key.
    static : :class:`tuple`
        ``(name, value)`` of the dataclass fields that are not part of the tree: those declared with
        ``field(metadata={"static": True})``.
    """

    kind: type | None
    keys: tuple[Any, ...] = ()
    children: tuple[Structure, ...] = ()
    static: tuple[tuple[str, Any], ...] = ()

    @property
    def leaf_count(self) -> int:
        """Number of leaves."""
        return 1 if self.kind is None else sum(child.leaf_count for child in self.children)

    def __str__(self) -> str:
        if self.kind is None:
            return "*"
        if self.kind is type(None):
            return "None"
        inside = [str(child) for child in self.children]
        if self.kind is list:
            return f"[{', '.join(inside)}]"
        if self.kind is tuple:
            return f"({', '.join(inside)}{',' if len(inside) == 1 else ''})"
        named = list(zip(self.keys, inside, strict=True))
        if issubclass(self.kind, dict):
            return f"{{{', '.join(f'{key!r}: {child}' for key, child in named)}}}"
        return f"{self.kind.__name__}({', '.join(f'{key}={child}' for key, child in named)})"


LEAF = Structure(None)
"""The structure of a tree that is one leaf."""


def flatten(tree: Any) -> tuple[list[Any], Structure]:
    """Take ``tree`` apart into its leaves, in order, and its structure.

    A dict is taken in the order in which its keys were inserted.
    """
    leaves: list[Any] = []
    return leaves, _take_apart(tree, leaves)


def _take_apart(tree: Any, leaves: list[Any]) -> Structure:
    kind = type(tree)
    if kind is list or kind is tuple:
        children = tuple([_take_apart(child, leaves) for child in tree])
        return Structure(kind, tuple(range(len(children))), children)
    if isinstance(tree, dict):
        children = tuple([_take_apart(child, leaves) for child in tree.values()])
        return Structure(kind, tuple(tree), children)
    if tree is None:
        return Structure(kind)
    if isinstance(tree, tuple) and hasattr(tree, "_fields"):
        children = tuple([_take_apart(child, leaves) for child in tree])
        return Structure(kind, tuple(tree._fields), children)
    if dataclasses.is_dataclass(kind):
        fields = dataclasses.fields(kind)
        keys = tuple(field.name for field in fields if not field.metadata.get("static"))
        static = tuple(
            (field.name, getattr(tree, field.name))
            for field in fields
            if field.metadata.get("static")
        )
        children = tuple([_take_apart(getattr(tree, key), leaves) for key in keys])
        return Structure(kind, keys, children, static)
    leaves.append(tree)
    return LEAF


def unflatten(structure: Structure, leaves: Iterable[Any]) -> Any:
    """Build the tree of this structure from its leaves.

    Raises
    ------
    ShapeError
        If there are too few or too many leaves.
    """
    source = iter(leaves)
    try:
        tree = _build(structure, source)
    except StopIteration:
        raise ShapeError(
            f"too few leaves for {structure}: it needs {structure.leaf_count}"
        ) from None
    if next(source, source) is not source:
        raise ShapeError(f"too many leaves for {structure}: it needs {structure.leaf_count}")
    return tree


def _build(structure: Structure, leaves: Iterator[Any]) -> Any:
    kind = structure.kind
    if kind is None:
        return next(leaves)
    if kind is list:
        return [_build(child, leaves) for child in structure.children]
    if kind is tuple:
        return tuple([_build(child, leaves) for child in structure.children])
    if kind is type(None):
        return None
    children = [_build(child, leaves) for child in structure.children]
    if issubclass(kind, tuple):
        return kind(*children)
    if issubclass(kind, dict):
        tree = kind() if kind is dict else kind.__new__(kind)
        tree.update(zip(structure.keys, children, strict=True))
        return tree
    # Past __init__: a leaf on its way through a transformation need not satisfy what it validates.
    record = object.__new__(kind)
    for key, child in zip(structure.keys, children, strict=True):
        object.__setattr__(record, key, child)
    for key, value in structure.static:
        object.__setattr__(record, key, value)
    return record


def flatten_like(structure: Structure, tree: Any, name: str = "tree") -> list[Any]:
    """Return the leaves of ``tree`` in the order of ``structure``, dict entries looked up by key.

    Raises
    ------
    ShapeError
        If ``tree`` is built differently; the message says where, starting from ``name``.
    """
    leaves: list[Any] = []
    _collect(structure, tree, name, leaves)
    return leaves


def _collect(structure: Structure, tree: Any, path: str, leaves: list[Any]) -> None:
    kind = structure.kind
    if kind is None:
        if type(tree) in {list, tuple, dict, type(None)}:
            raise ShapeError(f"{path} must be an array, not a {type(tree).__name__}")
        leaves.append(tree)
        return
    if type(tree) is not kind:
        raise ShapeError(f"{path} must be a {kind.__name__}, not a {type(tree).__name__}")
    for key, child, below in zip(
        structure.keys, structure.children, _children(structure, tree, path), strict=True
    ):
        _collect(child, below, path + _step(structure, key), leaves)


def _children(structure: Structure, tree: Any, path: str) -> list[Any]:
    """Return the children of ``tree``, a container like the outermost one of ``structure``."""
    if isinstance(tree, (list, tuple)):
        if len(tree) != len(structure.children):
            raise ShapeError(
                f"{path} must have {len(structure.children)} elements, not {len(tree)}"
            )
        return list(tree)
    if isinstance(tree, dict):
        if set(tree) != set(structure.keys):
            raise ShapeError(f"{path} must have the keys {structure.keys}, not {tuple(tree)}")
        return [tree[key] for key in structure.keys]
    return [getattr(tree, key) for key in structure.keys]


def map(  # noqa: A001  # what everybody calls it
    function: Callable[..., Any], tree: Any, *others: Any
) -> Any:
    """Apply ``function`` to the leaves of ``tree`` (and to those of ``others`` in the same places).

    Raises
    ------
    ShapeError
        If one of ``others`` is built differently.

    >>> map(lambda w, g: w - g, [5, (7,)], [1, (2,)])
    [4, (5,)]
    """
    leaves, structure = flatten(tree)
    rest = [flatten_like(structure, other) for other in others]
    return unflatten(structure, [function(*each) for each in zip(leaves, *rest, strict=True)])


def paths(structure: Structure, prefix: str = "") -> list[str]:
    """Say for each leaf how Python reaches it from ``prefix``."""
    return [prefix + path for path in _paths(structure)]


def _paths(structure: Structure) -> Sequence[str]:
    if structure.kind is None:
        return [""]
    return [
        _step(structure, key) + rest
        for key, child in zip(structure.keys, structure.children, strict=True)
        for rest in _paths(child)
    ]


def _step(structure: Structure, key: Any) -> str:
    assert structure.kind is not None
    if structure.kind in (list, tuple) or issubclass(structure.kind, dict):
        return f"[{key!r}]"
    return f".{key}"
