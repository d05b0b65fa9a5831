"""Pieces of work in spawned processes, which report while they are at it."""

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ProcessPoolExecutor, wait
from contextlib import contextmanager
from multiprocessing.connection import wait as wait_for
from multiprocessing.queues import SimpleQueue
from multiprocessing.sharedctypes import Synchronized
from typing import TypeVar

from repro.pipeline.system.signals import children_ignore_ctrl_c

Item = TypeVar("Item")
Done = TypeVar("Done")
Told = TypeVar("Told")
POLL = 0.2  # seconds between two looks at what the processes have done
SPAWN = multiprocessing.get_context("spawn")


def side_by_side(
    work: Callable[..., Done],
    items: Sequence[Item],
    processes: int,
    advance: Callable[[int], object],
    tell: Callable[[Told], object],
) -> list[Done]:
    """work(item, advance=…, tell=…) of every item in `processes` processes, the first come first, in order.

    What they report arrives in this one: the sum of what they advance by, and what each has to tell.
    """
    counter, queue = SPAWN.Value("q", 0), SPAWN.SimpleQueue()
    shown = 0
    with ProcessPoolExecutor(processes, SPAWN, _begin, (counter, queue)) as pool:
        with children_ignore_ctrl_c():
            futures = [pool.submit(_reporting, work, item) for item in items]
        waiting = set(futures)
        try:
            while waiting:
                finished, waiting = wait(waiting, timeout=POLL, return_when=FIRST_EXCEPTION)
                advance(counter.value - shown)
                shown = counter.value
                while not queue.empty():
                    tell(queue.get())
                for future in finished:
                    future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in list((pool._processes or {}).values()):
                process.terminate()
            raise
    return [future.result() for future in futures]


@contextmanager
def crossing(tell: Callable[[Told], object]) -> Iterator[Callable[[Told], object]]:
    """`tell` for a process that is spawned inside: what is told there is told here, on a thread of its own."""
    queue = SPAWN.SimpleQueue()

    def pass_on() -> None:
        while (told := queue.get()) is not None:
            tell(told)

    thread = threading.Thread(target=pass_on, daemon=True)
    thread.start()
    try:
        yield queue.put
    finally:
        queue.put(None)
        thread.join(POLL * 25)


_reports: "tuple[Synchronized[int], SimpleQueue[object]] | None" = None


def _begin(counter: "Synchronized[int]", queue: "SimpleQueue[object]") -> None:
    """A process of the pool: report to the parent, and do not outlive it where it is killed."""
    global _reports
    _reports = counter, queue
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        wait_for([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _reporting(work: Callable[..., Done], item: Item) -> Done:
    assert _reports is not None
    counter, queue = _reports

    def advance(count: int) -> None:
        with counter.get_lock():
            counter.value += count

    return work(item, advance=advance, tell=queue.put)
