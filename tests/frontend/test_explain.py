from __future__ import annotations

import json
import math
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

import siligrad as sg
import siligrad.numpy as np
from siligrad.explain import Explanation, Phase, Use, explain
from siligrad.isa import Memory
from siligrad.program import Program, Role

RATE = 2.0**-4


def predict(params: Any, x: Any) -> Any:
    for W, b in params[:-1]:
        x = np.maximum(x @ W + b, 0)
    W, b = params[-1]
    return x @ W + b


def loss(params: Any, x: Any, y: Any) -> Any:
    margin = np.maximum(1 - y * predict(params, x), 0)
    return np.mean(np.sum(margin**2, axis=1))


def step(params: Any, x: Any, y: Any) -> Any:
    grads = sg.grad(loss)(params, x, y)
    return [(W - RATE * dW, b - RATE * db) for (W, b), (dW, db) in zip(params, grads, strict=True)]


def perceptron_step(*sizes: int, rows: int = 16, array: int = 8, steps: int = 1) -> Program:
    rng = numpy.random.default_rng(0)
    params = [
        (rng.standard_normal((i, o)) * math.sqrt(2 / i), numpy.zeros(o)) for i, o in pairwise(sizes)
    ]
    y = numpy.where(rng.random((rows, sizes[-1])) < 0.5, 1.0, -1.0)
    target = sg.Target(array=array)
    x = rng.random((rows, sizes[0]))
    return sg.compile(step, params, x, y, donate=0, target=target, steps=steps)


def residual(W: Any, x: Any) -> Any:
    h = np.maximum(x @ W, 0)
    return np.maximum(h @ W + h, 0) @ W


def two_results(W: Any, x: Any) -> Any:
    h = np.maximum(x @ W, 0)
    return h, h @ W


def accounted(program: Program) -> Explanation:
    """Explain `program` and check what must hold of every account."""
    found = explain(program)
    n = program.geometry.array
    assert sum(found.account.values()) == n * n * program.cycles
    assert min(found.account.values()) >= 0
    assert found.account[Use.PRODUCTS] == sum(program.macs) * program.loop.steps
    return found


def test_every_cycle_of_the_demos_step_is_accounted_for() -> None:
    # By hand from docs/spec/isa.md, N = 8, batch 16: tiles and terms of 64-32-10, forward, error,
    # two updates of each layer; write = 6 + 2 + 7 + 5 + 6 + 7 + 2 = 33 less what N = 8 overlaps.
    program = perceptron_step(64, 32, 10)
    account = {use: spent / 64 for use, spent in accounted(program).account.items()}
    products = 16 * (64 * 32 * 2 + 32 * 10 * 3) / 64
    assert account[Use.PRODUCTS] == products == 1264
    # ones: a term for each of 8 + 4 tiles of biases, 16 for each of 2 + 4 tiles of their slopes
    assert account[Use.SUMS] == 12 + 16 * 6
    # and the same number of idle cycles, since a segment takes two
    assert account[Use.PADDING] == 12
    # 10 columns fill 16: 32 terms in 4 tiles, 16 terms in 8 tiles; 10 terms in 8 tiles fill all
    assert account[Use.FILLING] == 32 * 4 - 80 + 16 * 8 - 80
    assert account[Use.SEQUENCER] == 2 * (6 - 2)  # after each of the two biases
    assert account[Use.START] == 6
    # rotate 2, read 6, drain 6 + 7 + 5 = 18, write 18 + 6 + 7 + 2 = 33: 33 + 7 + 1 more cycles
    assert account[Use.DRAIN] == 41
    assert account[Use.PORT] == 1550 - 1264 - 108 - 12 - 96 - 8 - 6 - 41


@given(
    sizes=st.lists(st.integers(1, 20), min_size=2, max_size=5),
    rows=st.sampled_from([1, 2, 4, 8, 16]),
    array=st.integers(2, 9),
    steps=st.integers(1, 3),
)
def test_accounts_add_up_to_the_cycles_of_any_network(
    sizes: list[int], rows: int, array: int, steps: int
) -> None:
    program = perceptron_step(*sizes, rows=rows, array=array, steps=steps)
    found = accounted(program)
    for before, after in pairwise(found.records):
        assert after.start == before.end + 1 + after.fetch + after.stalled
    assert found.records[0].start == found.records[0].fetch + found.records[0].stalled
    if steps == 1:
        assert found.records[-1].drained + 2 == program.cycles


def test_the_cause_of_a_stall_is_the_instruction_that_is_waited_for() -> None:
    records = explain(perceptron_step(64, 32, 10)).records
    ((index, stall),) = [(r.index, stall) for r in records for stall in r.stalls]
    # The error of the hidden layer is read from E, where the hinge still reads its targets.
    assert (index, stall.cycles, stall.use) == (2, 15, Use.PORT)
    assert (stall.memory, stall.instruction) == (Memory.E, 1)


def test_an_operand_that_is_not_written_yet_is_the_cause() -> None:
    program = sg.compile(residual, numpy.eye(4), numpy.ones((4, 4)), resident=0)
    records = accounted(program).records
    waits = [(r.index, s.use, s.instruction) for r in records for s in r.stalls]
    assert waits == [(1, Use.OPERAND, 0), (2, Use.OPERAND, 1)]


def test_copies_by_an_identity_matrix_are_no_products() -> None:
    program = sg.compile(residual, numpy.eye(8), numpy.ones((8, 8)), resident=0)
    account = accounted(program).account
    assert account[Use.PRODUCTS] == 3 * 8**3
    assert account[Use.SUMS] == 8**3


def test_phases_are_forward_backward_and_update() -> None:
    phases = [record.phase for record in explain(perceptron_step(12, 8, 4)).records]
    assert phases.count(Phase.FORWARD) == 1
    assert phases.count(Phase.BACKWARD) == 2
    assert phases.count(Phase.UPDATE) == 4


@pytest.mark.parametrize("array", [3, 8])
def test_operands_are_named_with_their_sizes(array: int) -> None:
    first = explain(perceptron_step(12, 9, 4, array=array)).records[0]
    (product, bias) = first.terms
    assert str(product) == "x (16 x 12) @ params[0][0] (12 x 9)"
    assert str(bias) == "ones @ params[0][1] (1 x 9)"
    assert (first.destination.rows, first.destination.columns) == (16, 9)
    assert "above zero" in first.epilogue


def test_transposed_operands_are_shown_so() -> None:
    records = explain(perceptron_step(12, 9, 4)).records
    texts = [str(term) for record in records for term in record.terms]
    assert "hinge 1 (16 x 4) @ params[1][0].T (4 x 9)" in texts
    assert "x.T (12 x 16) @ masked 2 (16 x 9)" in texts


def test_words_that_are_reused_belong_to_one_tensor_at_a_time() -> None:
    params = [(numpy.eye(8), numpy.zeros(8))] * 6
    program = sg.compile(predict, params, numpy.ones((8, 8)), resident=0)
    n = program.geometry.array
    lives = explain(program).lifetimes
    assert [life.tensor for life in lives] == list(range(len(program.tensors)))
    shared = 0
    for one in lives:
        for other in lives[one.tensor + 1 :]:
            a, b = program.tensors[one.tensor], program.tensors[other.tensor]
            if a.memory == b.memory and (
                a.base < b.base + b.words(n) and b.base < a.base + a.words(n)
            ):
                shared += 1
                # The last reader of the one may be no later than the writer of the other.
                assert one.last < other.first or other.last < one.first
    assert shared  # else this shows nothing


def test_a_temporary_lives_from_its_writer_to_its_last_reader() -> None:
    program = perceptron_step(64, 32, 10)
    lives = {program.tensors[life.tensor].name[:6]: life for life in explain(program).lifetimes}
    assert (lives["relu 0"].first, lives["relu 0"].last) == (0, 6)
    assert (lives["hinge "].first, lives["hinge "].last) == (1, 6)
    assert (lives["masked"].first, lives["masked"].last) == (2, 5)
    assert (lives["x"].first, lives["x"].last) == (-1, 7)


def test_results_live_until_they_are_read() -> None:
    program = sg.compile(two_results, numpy.eye(4), numpy.ones((4, 4)), resident=0)
    for life in explain(program).lifetimes:
        if program.tensors[life.tensor].role == Role.OUTPUT:
            assert life.last == len(program.instructions)


def test_names_of_operands_follow_the_data() -> None:
    program = perceptron_step(16, 12, 16, 12, 4)
    records = explain(program).records
    written: dict[str, int] = {}
    for record in records:
        for operand in [record.auxiliary, *(part for t in record.terms for part in (t.a, t.b))]:
            if operand is None or operand.tensor is None:
                continue
            tensor = program.tensors[operand.tensor]
            assert (tensor.memory, tensor.base) == (operand.memory, operand.address)
            if tensor.role == Role.TEMPORARY:
                assert operand.name in written
            sizes = (operand.rows, operand.columns)
            assert sizes[:: -1 if operand.transposed else 1] == (tensor.rows, tensor.columns)
        written[record.destination.name] = record.index


def test_text_and_json_say_the_same() -> None:
    found = explain(perceptron_step(64, 32, 10))
    text = str(found)
    content = json.loads(json.dumps(found.as_json()))
    assert content["cycles"] == 1550
    assert sum(content["multiplier_cycles"].values()) == 64 * 1550
    for record in content["instructions"]:
        assert record["source"] in text
        assert f"cycles    {record['start']} to {record['end']}: {record['cycles']} in" in text
    assert content["instructions"][2]["stalls"] == [
        {"cycles": 15, "cause": "port", "memory": "E", "instruction": 1}
    ]


def test_the_tables_last_line_is_the_programs_cycles() -> None:
    lines = explain(perceptron_step(64, 32, 10)).summary().splitlines()
    assert lines[-1].split() == ["all", "1550.0", "100.0%", str(1550 * 64)]


@pytest.mark.parametrize("field", ["macs", "sources"])
def test_a_program_without_the_hosts_notes_is_explained_too(field: str) -> None:
    changes: dict[str, Any] = {field: ()}
    found = explain(replace(perceptron_step(12, 9, 4), **changes))
    n = found.program.geometry.array
    assert sum(found.account.values()) == n * n * found.program.cycles


def test_a_delay_that_nothing_needs_is_not_blamed_on_a_hazard() -> None:
    program = perceptron_step(12, 9, 4)
    first, *rest = program.instructions
    found = explain(replace(program, instructions=(replace(first, delay=9), *rest)))
    (stall,) = found.records[0].stalls
    assert (stall.cycles, stall.use, stall.instruction) == (9, Use.DELAY, None)


def test_steps_are_accounted_for_with_what_they_wait_for_in_the_step_before() -> None:
    program = perceptron_step(64, 32, 10, steps=3)
    found = accounted(program)
    (stall,) = found.records[0].stalls
    # The last update reads its old weights from W, where the next step's products begin: the rows
    # of its last tile from 12 cycles after its end on, for 8 cycles.
    assert (stall.use, stall.memory, stall.instruction) == (Use.STEPS, Memory.W, 6)
    assert stall.cycles == 12 + 8 - 1
    assert "of the step before" in str(stall)
    one = accounted(perceptron_step(64, 32, 10)).account
    for use in (Use.PRODUCTS, Use.SUMS, Use.FILLING, Use.PADDING, Use.PORT):
        assert found.account[use] == 3 * one[use]
    assert found.account[Use.DRAIN] == one[Use.DRAIN]
