"""Ctrl-C and SIGTERM: one line, and the end within two seconds, whatever the program is at.

The first signal raises `Stopped` in the main thread, which ends children, removes temporaries and returns. Where
that takes too long (a long call into a library, threads that are waited for) a second thread ends the process; what
is on disk is whole at any moment.
"""

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

GRACE_S = 1.0
SIGNALS = (signal.SIGINT, signal.SIGTERM)
LINE = "interrupted; the same command goes on from here: finished runs are kept, half-trained networks continue"


class Stopped(KeyboardInterrupt):
    """A signal has asked for the end; `code` is the exit code by which shells know that, 130 or 143."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.code = 128 + number


_stopped = threading.Event()
_said = threading.Event()


@contextmanager
def stoppable() -> Iterator[None]:
    """Turns the signals into `Stopped` within the block, in the main thread; elsewhere it does nothing."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _said.clear()
    readable, writable = os.pipe()
    os.set_blocking(writable, False)
    threading.Thread(target=_watch, args=(readable,), daemon=True).start()
    before = {number: signal.signal(number, _stop) for number in SIGNALS}
    wakeup = signal.set_wakeup_fd(writable, warn_on_full_buffer=False)
    try:
        yield
    finally:
        signal.set_wakeup_fd(wakeup)
        if not _stopped.is_set():
            for number, handler in before.items():
                signal.signal(number, handler)
        os.close(writable)


def say() -> None:
    """Prints the line."""
    if not _said.is_set():
        _said.set()
        print(f"\n{LINE}", file=sys.stderr, flush=True)


def end_children() -> None:
    for child in multiprocessing.active_children():
        child.kill()


@contextmanager
def children_ignore_ctrl_c() -> Iterator[None]:
    """Processes started in the block never see Ctrl-C, which a terminal sends to all: their parent ends them."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


def _stop(number: int, frame: FrameType | None) -> None:
    if not _stopped.is_set():  # a second one must not cut the cleaning up short
        _stopped.set()
        raise Stopped(number)


def _watch(readable: int) -> None:
    """Waits for a signal where Python's own handlers cannot run, since the main thread is inside a library."""
    while number := os.read(readable, 1):
        if number[0] in SIGNALS:
            time.sleep(GRACE_S)
            if not _said.is_set():
                os.write(2, f"\n{LINE}\n".encode())  # the main thread may have stderr's lock
            end_children()
            os._exit(128 + number[0])
    os.close(readable)
