from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from siligrad import tree
from siligrad.errors import ShapeError


class Layer(NamedTuple):
    W: Any
    b: Any


@dataclass(frozen=True, slots=True)
class Model:
    layers: Any
    scale: Any
    activation: str = field(default="relu", metadata={"static": True})


leaves = st.integers()
trees = st.recursive(
    leaves | st.none(),
    lambda child: (
        st.lists(child, max_size=3)
        | st.lists(child, max_size=3).map(tuple)
        | st.dictionaries(st.text("abc", max_size=2) | st.integers(0, 3), child, max_size=3)
        | st.builds(Layer, child, child)
        | st.builds(Model, child, child, st.sampled_from(["relu", "tanh"]))
    ),
    max_leaves=12,
)


@given(trees)
def test_unflatten_undoes_flatten(value: Any) -> None:
    flat, structure = tree.flatten(value)
    assert tree.unflatten(structure, flat) == value
    assert structure.leaf_count == len(flat)
    assert tree.flatten_like(structure, value) == flat


@given(trees)
def test_structures_of_equal_trees_are_equal_and_hashable(value: Any) -> None:
    first, second = tree.flatten(value)[1], tree.flatten(value)[1]
    assert first == second
    assert hash(first) == hash(second)


@given(trees)
def test_paths_are_python(value: Any) -> None:
    flat, structure = tree.flatten(value)
    for path, leaf in zip(tree.paths(structure, "value"), flat, strict=True):
        assert eval(path, {"value": value}) == leaf


def test_map_follows_keys_not_their_order() -> None:
    assert tree.map(lambda a, b: a - b, {"x": 5, "y": 7}, {"y": 1, "x": 2}) == {"x": 3, "y": 6}


def test_an_ordered_dict_stays_one() -> None:
    value = OrderedDict([("b", 1), ("a", 2)])
    mapped = tree.map(lambda x: x + 1, value)
    assert type(mapped) is OrderedDict
    assert list(mapped.items()) == [("b", 2), ("a", 3)]


def test_a_static_field_is_no_leaf_and_is_kept() -> None:
    mapped = tree.map(lambda x: x + 1, Model([1, 2], 3, "tanh"))
    assert mapped == Model([2, 3], 4, "tanh")


def test_a_leaf_alone_is_a_tree() -> None:
    assert tree.flatten(5) == ([5], tree.LEAF)
    assert tree.paths(tree.LEAF, "x") == ["x"]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1, "*"),
        ([1, (2,)], "[*, (*,)]"),
        ({"a": 1, "b": None}, "{'a': *, 'b': None}"),
        (Layer(1, 2), "Layer(W=*, b=*)"),
    ],
)
def test_a_structure_reads_like_the_tree(value: Any, text: str) -> None:
    assert str(tree.flatten(value)[1]) == text


@pytest.mark.parametrize(
    ("like", "value", "message"),
    [
        ([1, 2], [1], r"grads must have 2 elements, not 1"),
        ([1, 2], (1, 2), r"grads must be a list, not a tuple"),
        ({"a": 1}, {"b": 1}, r"grads must have the keys \('a',\), not \('b',\)"),
        ([{"a": [1]}], [{"a": 1}], r"grads\[0\]\['a'\] must be a list, not a int"),
        ([1], [[1]], r"grads\[0\] must be an array, not a list"),
    ],
)
def test_a_tree_of_another_structure_is_refused(like: Any, value: Any, message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        tree.flatten_like(tree.flatten(like)[1], value, "grads")


def test_unflatten_counts_the_leaves() -> None:
    structure = tree.flatten([1, 2])[1]
    with pytest.raises(ShapeError, match=r"too few leaves for \[\*, \*\]: it needs 2"):
        tree.unflatten(structure, [1])
    with pytest.raises(ShapeError, match="too many leaves"):
        tree.unflatten(structure, [1, 2, 3])
