"""What the compiler's passes hand to each other: what is counted of it, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from siligrad.compiler.ir import Kernel, Matrix, Term, View
from siligrad.isa import AuxMode
from siligrad.program import Role
from tests.frontend.kernels import kernel, matrix, operation, product, row

X = matrix("x", 2, 3, Role.INPUT)
W = matrix("w", 3, 4, Role.RESIDENT)
B = matrix("b", 1, 4, Role.RESIDENT)
H = matrix("h", 2, 4)
EYE = matrix("eye", 4, 4, Role.CONSTANT, identity=True)


def test_a_view_has_the_shape_that_is_seen() -> None:
    as_is, turned = View(X), View(X).T
    assert (as_is.rows, as_is.columns) == (2, 3)
    assert (turned.rows, turned.columns) == (3, 2)
    assert turned.T == as_is != turned
    assert turned.matrix is X


def test_what_is_only_added_is_known() -> None:
    assert product(X, W).copied is None
    assert row(B).copied is B
    assert product(H, EYE).copied is H


def test_an_operation_knows_what_it_multiplies_and_what_it_reads() -> None:
    op = operation(H, product(X, W), row(B), aux=H)
    assert list(op.operands) == [X, W, B]
    assert list(op.reads) == [X, W, B, H]
    assert list(replace(op, aux=None).reads) == [X, W, B]


def test_only_products_are_counted_as_work() -> None:
    assert operation(H, product(X, W)).macs == 2 * 3 * 4
    both = operation(H, product(X, W), row(B), product(H, EYE), product(X, W))
    assert both.macs == 2 * (2 * 3 * 4)


def test_the_values_of_a_constant_are_not_in_its_text() -> None:
    table = Matrix("table", Role.CONSTANT, 1, 2, (2,), None, initial=np.array([1.25, 2.5]))
    assert "table" in repr(table)
    assert "1.25" not in repr(table)


def test_what_is_streamed_is_what_the_host_sees_of_each_run() -> None:
    out, result = matrix("out", 2, 4, Role.OUTPUT), matrix("result", 2, 4)
    net = kernel(
        *(operation(made, product(X, W)) for made in (H, out, result)),
        operation(W, product(X, result), update=True),
        results=[result, out, W],
    )
    assert net.streamed == {X, out, result}


H_BEFORE = matrix("before", 2, 4, Role.INPUT)


def sound() -> Kernel:
    """Return a forward product and an update, all of which is right."""
    turned = Term(-1.0, View(X).T, View(H))
    return kernel(
        operation(H, product(X, W), row(B), aux=H_BEFORE),
        operation(W, turned, aux=W, aux_mode=AuxMode.ADD, update=True),
        results=[H, W],
    )


def test_a_kernel_in_which_all_is_right_is_accepted() -> None:
    sound().check()


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (kernel(operation(H, product(H, EYE))), "h is read before it is written"),
        (kernel(operation(matrix("d"), product(H, EYE))), "h is read before it is written"),
        (
            kernel(operation(matrix("d", 2, 4, Role.OUTPUT), product(X, W), aux=H)),
            "h is read before it is written",
        ),
        (
            kernel(
                operation(W, row(B), aux=W, aux_mode=AuxMode.ADD, update=True),
                operation(H, product(X, W)),
            ),
            "w is read after it was replaced",
        ),
        (kernel(operation(matrix("d", 2, 5), product(X, W))), "d: term of 4 columns"),
        (kernel(operation(matrix("d", 2, 3), product(X, W))), "d: term of 4 columns"),
        (kernel(operation(matrix("d", 2, 5), row(B))), "d: term of 4 columns"),
        (kernel(operation(matrix("d", 3, 4), product(X, W))), "^d"),
        (kernel(operation(matrix("d", 1, 4), product(X, W))), "^d"),
        (kernel(operation(matrix("d", 2, 3), product(X, X))), "^d"),
        (kernel(operation(H, product(X, W), product(X, W, -1.0))), "^h"),
        (kernel(operation(H, product(X, W, -1.0), product(X, W))), "^h"),
        (kernel(operation(H, product(X, W), aux=B)), "^h"),
        (kernel(operation(H, product(X, W), aux=X)), "^h"),
        (kernel(operation(H)), "h is the sum of nothing"),
        (replace(sound(), matrices=(X, W, B, H_BEFORE)), "^h"),
    ],
)
def test_a_kernel_in_which_something_is_wrong_is_not(broken: Kernel, message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        broken.check()


def test_every_result_is_made() -> None:
    with pytest.raises(AssertionError):
        kernel(operation(H, product(X, W)), results=[H, matrix("never")]).check()
    kernel(operation(H, product(X, W)), results=[H]).check()
