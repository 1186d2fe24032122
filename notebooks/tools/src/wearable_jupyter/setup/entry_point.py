"""The entry point of commands: exit codes, and errors in one line."""

import os
import signal
import sys
from collections.abc import Callable

from ..bootstrap import command_environment
from . import signals
from .errors import FIXES, UserError, os_error_message


def exit_code(command: Callable[[], int | None]) -> int:
    """Run a command, print an error in one line, and return the exit code for the shell."""
    signals.raise_on_stop_signals()
    command_environment.use_user_environment()
    try:
        code = command() or 0
        sys.stdout.flush()
        return code
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt as stopped:
        signals.ignore_stop_signals()
        number = getattr(stopped, "number", signal.SIGINT)
        by = "" if number == signal.SIGINT else f" by {signal.Signals(number).name}"
        print(f"interrupted{by}", file=sys.stderr)
        return 128 + number
    except BrokenPipeError:
        # The reader, such as `head`, closed the pipe. Python flushes stdout again when it exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except OSError as error:
        if error.errno not in FIXES:
            raise
        print(f"error: {os_error_message(error)}", file=sys.stderr)
        return 1
