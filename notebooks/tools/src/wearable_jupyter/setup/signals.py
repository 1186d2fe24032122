"""Signals that end a command, so that clean-up runs and the user gets one line."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stopped(KeyboardInterrupt):
    """Raised by a signal that ends the command; `number` is the signal's."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def _raise(number: int, frame: FrameType | None) -> None:
    raise Stopped(number)


def raise_on_stop_signals() -> None:
    """Make SIGTERM and SIGHUP raise an exception as SIGINT does, so that `finally` runs.

    Ignored signals stay ignored, such as SIGHUP under `nohup`.
    """
    for number in STOP_SIGNALS:
        if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
            signal.signal(number, _raise)


def ignore_stop_signals() -> None:
    """Ignore stop signals while a command that is ending prints its last line."""
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)


class Deferred:
    """The first stop signal that arrived, if any, and the callback for it."""

    number: int | None = None
    callback: Callable[[], object] = staticmethod(lambda: None)


@contextmanager
def deferred() -> Iterator[Deferred]:
    """Defer stop signals until the end of the block, which then raises `Stopped`.

    The first signal calls `callback`, which must end the block. Later signals are ignored, so that
    they cannot interrupt the clean-up. Only the main thread can defer signals; in another thread
    this does nothing.
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
            with suppress(TypeError):  # None is a handler that was not set by Python
                signal.signal(number, handler)
    if state.number is not None:
        raise Stopped(state.number)
