"""Judges in processes of their own, so that a mutant that takes a judge along harms nobody else."""

from __future__ import annotations

import contextlib
import math
import multiprocessing
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any, Generic, TypeVar

__all__ = ["Judge", "judged"]

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

Judge = Callable[[_Item], _Result]
"""What a worker calls for each item; an exception that it raises ends the work."""


@dataclass
class _Worker(Generic[_Item]):
    process: Any
    connection: Connection
    item: _Item | None = None
    deadline: float = math.inf
    ready: bool = False


def judged(
    items: Sequence[_Item],
    make_judge: Callable[[], Judge[_Item, _Result]],
    *,
    jobs: int,
    seconds: float,
    given_up: Callable[[str], _Result],
    stop: Callable[[], bool] = lambda: False,
) -> Iterator[tuple[_Item, _Result]]:
    """Yield each item with what a judge says of it, in the order in which they are done.

    Parameters
    ----------
    items
        What is to be judged.
    make_judge
        Called once in each worker; a function that can be sent to another process.
    jobs
        Workers, each a process.
    seconds
        How long a judge may take for an item; then its process is ended.
    given_up
        What is said of an item whose judge was ended, or died, given the reason.
    stop
        Asked before each item; once it says yes, only those that were begun are finished.

    Raises
    ------
    RuntimeError
        If a judge raises an exception; the message has it.
    """
    waiting = list(reversed(items))
    workers: list[_Worker[_Item]] = []
    try:
        while True:
            while waiting and not stop() and len(workers) < min(jobs, len(items)):
                workers.append(_begun(make_judge))
            for worker in workers:
                if worker.item is None and waiting and not stop():
                    worker.item = waiting.pop()
                    worker.deadline = time.monotonic() + seconds if worker.ready else math.inf
                    worker.connection.send(worker.item)
            busy = [worker for worker in workers if worker.item is not None]
            if not busy:
                return
            ready = wait([worker.connection for worker in busy], timeout=0.5)
            for worker in busy:
                item = worker.item
                assert item is not None
                if worker.connection in ready:
                    try:
                        answer = worker.connection.recv()
                        if answer is None:  # it has begun: a process takes its time to do so
                            worker.ready, worker.deadline = True, time.monotonic() + seconds
                            continue
                        error, result = answer
                    except EOFError:
                        worker.process.join()
                        result = given_up(f"its process ended with {worker.process.exitcode}")
                        _ended(workers, worker)
                    else:
                        if error is not None:
                            raise RuntimeError(f"{item}: {error}")
                        worker.item = None
                    yield item, result
                elif time.monotonic() > worker.deadline:
                    _ended(workers, worker)
                    yield item, given_up(f"not done after {seconds:g} s")
    finally:
        for worker in list(workers):
            _ended(workers, worker)


def _begun(make_judge: Callable[[], Judge[_Item, _Result]]) -> _Worker[_Item]:
    # A new interpreter: what this one has open, threads and locks are no judge's business.
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, make_judge), daemon=True)
    process.start()
    theirs.close()
    return _Worker(process, ours)


def _ended(workers: list[_Worker[_Item]], worker: _Worker[_Item]) -> None:
    workers.remove(worker)
    worker.process.kill()
    worker.process.join()
    worker.connection.close()


def _serve(connection: Connection, make_judge: Callable[[], Judge[_Item, _Result]]) -> None:
    """Judge what comes until nothing does; Ctrl-C is the business of whoever sends it."""
    with contextlib.suppress(KeyboardInterrupt, EOFError):
        judge = make_judge()
        connection.send(None)
        while True:
            item = connection.recv()
            answer: tuple[str | None, _Result | None]
            try:
                answer = None, judge(item)
            except Exception as error:  # noqa: BLE001  (whatever it is, the other side reports it)
                answer = f"{type(error).__name__}: {error}", None
            connection.send(answer)
