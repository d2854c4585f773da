"""What a run moves over the line, counted beforehand, beside what the serial device moves."""

from __future__ import annotations

from typing import Any

import numpy
import pytest

import siligrad as sg
import siligrad.numpy as np
from siligrad.program import Program
from siligrad_host.traffic import Traffic, run_traffic
from tests.firmware.linked_port import BoardThread, LinkedPort
from tests.firmware.reference_port import ReferencePort

X, Y = numpy.ones((4, 70)), -numpy.ones((4, 5))


def step(w: Any, x: Any, y: Any) -> Any:
    def loss(w: Any) -> Any:
        return np.mean(np.sum(np.maximum(1 - y * (x @ w), 0) ** 2, axis=1))

    return w - sg.grad(loss)(w) / 8


def compiled(steps: int) -> Program:
    w = numpy.zeros((70, 5))
    target = sg.Target(array=3)
    return sg.compile(step, w, X, Y, donate=0, target=target, steps=steps)


class CountedBoard(LinkedPort):
    sent = received = 0

    def hear(self, data: bytes) -> bytes:
        reply = super().hear(data)
        self.sent += len(data)
        self.received += len(reply)
        return reply


@pytest.mark.parametrize("steps", [1, 4])
def test_a_run_moves_what_was_counted(steps: int) -> None:
    program = compiled(steps)
    promised = run_traffic(program)
    board = CountedBoard(ReferencePort(program.geometry, busy_reads=0))
    with BoardThread(board) as line, sg.open_device(f"serial:{line.port}", program) as device:
        before = device.counters["requests"]
        board.sent = board.received = 0
        x, y = (numpy.stack([each] * steps) if steps > 1 else each for each in (X, Y))
        device.run(x, y)
        assert device.counters["requests"] - before == promised.requests
        assert board.received == promised.received
        assert 0.99 * promised.sent <= board.sent <= promised.sent


def test_a_byte_takes_ten_bits() -> None:
    assert Traffic(1, 900, 100).seconds(20_000) == 0.5
