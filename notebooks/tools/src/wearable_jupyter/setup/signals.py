"""Signals that end a command: one line for the user, and nothing left behind."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stopped(KeyboardInterrupt):
    """A signal ends the command; `number` is the signal's."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def _raise(number: int, frame: FrameType | None) -> None:
    raise Stopped(number)


def raise_on_stop_signals() -> None:
    """Have SIGTERM and SIGHUP raise an exception like SIGINT does, so that `finally` runs.

    A signal that is ignored stays so: `nohup` ignores SIGHUP.
    """
    for number in STOP_SIGNALS:
        if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
            signal.signal(number, _raise)


def ignore_stop_signals() -> None:
    """Let a command that is already ending print its last line."""
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)


class Deferred:
    """The first stop signal that arrived, if any, and what is called when it arrives."""

    number: int | None = None
    callback: Callable[[], object] = staticmethod(lambda: None)


@contextmanager
def deferred() -> Iterator[Deferred]:
    """Keep stop signals back until the end of the block, which then raises `Stopped`.

    The first one calls `callback`, which has to bring the block to its end. Later ones do nothing,
    so that they cannot interrupt the clean-up. Only the main thread can do this; in another thread
    the signals are not touched.
    """
    state = Deferred()

    def note(number: int, frame: FrameType | None) -> None:
        if state.number is None:
            state.number = number
            state.callback()

    previous = {}
    if threading.current_thread() is threading.main_thread():
        for number in STOP_SIGNALS:
            if signal.getsignal(number) != signal.SIG_IGN:
                previous[number] = signal.signal(number, note)
    try:
        yield state
    except BaseException:
        if state.number is None:
            raise
    finally:
        for number, handler in previous.items():
            with suppress(TypeError):  # a handler that was not set by Python is None
                signal.signal(number, handler)
    if state.number is not None:
        raise Stopped(state.number)
