"""From trained parameters to a program of few bits, and training that knows of these bits.

:func:`post_training` compiles a network as it is. Where too few bits are left for that,
:func:`aware` gives a function that computes in floating point what the program would compute in
integers; it is trained further, and compiled again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from siligrad import compiler, tree
from siligrad.autodiff import Graph, trace
from siligrad.autodiff.tracer import primitives
from siligrad.compiler.target import Target
from siligrad.errors import ShapeError
from siligrad.fixed import QFormat
from siligrad.program import Program, Tensor
from siligrad.quantize.fake import fake_quantize, see_through
from siligrad.quantize.tensors import correspond

__all__ = ["aware", "post_training"]


def post_training(
    predict: Callable[..., Any],
    params: Any,
    inputs: NDArray[Any],
    *,
    batch: int = 64,
    target: Target | None = None,
    method: str = "mse",
    percentile: float = 99.99,
) -> Program:
    """Compile inference with trained parameters, formats chosen from what it meets.

    Nothing is kept free above the ranges found: parameters do not change any more.

    Parameters
    ----------
    predict
        ``(params, x)`` to scores, examples as rows.
    params
        Trained; they stay in the device.
    inputs
        Examples of what will come, along the first axis; no larger magnitude may come later. Those
        that fill no batch are left out.
    batch
        Rows of a run.
    target, method, percentile
        As for :func:`siligrad.compile`.

    Raises
    ------
    ShapeError
        If there are fewer examples than a batch.
    LoweringError, CapacityError
        As :func:`siligrad.compile` does.
    """
    if len(inputs) < batch:
        raise ShapeError(
            f"{len(inputs)} examples fill no batch of {batch}; give more, or a smaller batch"
        )
    parts = [inputs[at : at + batch] for at in range(0, len(inputs) - batch + 1, batch)]
    return compiler.compile(
        predict,
        params,
        parts[0],
        target=target,
        resident=0,
        calibration=[(params, part) for part in parts[1:]],
        method=method,
        percentile=percentile,
        headroom=0,
    )


def aware(program: Program, function: Callable[..., Any], *args: Any) -> Callable[..., Any]:
    """Return `function` with every array rounded and clipped as `program` would hold it.

    An array that is multiplied has the bits of an operand, any other those of a word; so the result
    is that of the device, up to ties where operands are narrower than words. It takes any number of
    rows, and can be differentiated (straight through), traced, trained with
    :func:`siligrad.train.fit`, and compiled: the same formats come out.

    Parameters
    ----------
    program
        `function`, compiled.
    function, args
        What :func:`siligrad.compile` was given.

    Raises
    ------
    DataError
        If the program is of another function, or of other shapes.

    The function that is returned raises ShapeError if `function` computes something else for the
    shapes that it is called with.
    """
    found = correspond(program, function, *args)
    numbers = {node: number for number, node in enumerate(found.graph.nodes)}
    dropped = program.geometry.dropped_bits
    formats: dict[int, tuple[QFormat, float]] = {}
    for tensor, node, multiplied in zip(
        program.tensors, found.nodes, found.multiplied, strict=True
    ):
        if node is not None:
            formats[numbers[node]] = _held(tensor, dropped if multiplied else 0)
    kinds = [node.primitive for node in found.graph.nodes]
    graphs: dict[Any, Graph] = {}

    def quantized(*values: Any) -> Any:
        leaves, structure = tree.flatten(values)
        key = structure, tuple((np.shape(leaf), str(_type_of(leaf))) for leaf in leaves)
        if key not in graphs:
            shapes = tree.map(lambda leaf: np.zeros(np.shape(leaf), _type_of(leaf)), values)
            graph, _ = see_through(trace(function, *shapes))
            if [node.primitive for node in graph.nodes] != kinds:
                raise ShapeError(
                    f"{graph.name} computes something else for arguments of the shapes "
                    f"{[np.shape(leaf) for leaf in leaves]} than for those that it was compiled "
                    "with; quantize it for these"
                )
            graphs[key] = graph
        return _evaluate(graphs[key], graphs[key].flatten(*values), formats)

    quantized.__name__ = f"{found.graph.name}_quantized"
    return quantized


def _held(tensor: Tensor, dropped: int) -> tuple[QFormat, float]:
    """Return the format that the top bits of a tensor's words have, and its scale."""
    return QFormat(tensor.format.bits - dropped, tensor.format.frac - dropped), abs(tensor.scale)


def _type_of(leaf: Any) -> np.dtype[Any]:
    return np.dtype(leaf.dtype) if hasattr(leaf, "dtype") else np.asarray(leaf).dtype


def _evaluate(graph: Graph, leaves: list[Any], formats: dict[int, tuple[QFormat, float]]) -> Any:
    """Compute a graph by its primitives, so that a transformation sees them, and quantize."""
    values: dict[Any, Any] = {}
    inputs = dict(zip(graph.inputs, leaves, strict=True))
    for number, node in enumerate(graph.nodes):
        if node.primitive == "input":
            value = inputs[node]
        elif node.primitive == "constant":
            value = node.value
        else:
            operands = [values[operand] for operand in node.inputs]
            value = primitives[node.primitive](*operands, **node.params)
        if number in formats:
            held, scale = formats[number]
            value = (
                fake_quantize(value, held)
                if scale == 1
                else scale * fake_quantize(value / scale, held)
            )
        values[node] = value
    return tree.unflatten(graph.out_tree, [values[node] for node in graph.outputs])
