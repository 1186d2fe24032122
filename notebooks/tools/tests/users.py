"""Runs code as another user, to test permissions."""

import os
from collections.abc import Callable

# User numbers without an account.
VICTIM, ATTACKER = 54321, 54322
IS_ROOT = os.geteuid() == 0
REASON = "only root can act as other users"


def run_as(user: int, work: Callable[[], object]) -> str:
    """Run `work` in a process of another user. Returns its result as text."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(user)
            os.setuid(user)
            os.umask(0o022)
            result = str(work())
        except BaseException as error:
            result = f"{type(error).__name__}: {error}"
        os.write(writing, result.encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        result = pipe.read()
    os.waitpid(child, 0)
    return result
