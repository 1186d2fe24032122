"""Parses the arguments of `./justw cluster` and runs the command."""

import argparse
from collections.abc import Sequence

from ..setup.errors import UserError
from .commands import query, start, test
from .engines import ENGINES
from .measure import measure

OTHERS = {"query": query, "test": test, "measure": measure}


def command(arguments: Sequence[str]) -> int | None:
    """Start a cluster on this machine, or `query`, `test` or `measure` one."""
    if arguments and arguments[0] in OTHERS:
        return OTHERS[arguments[0]](arguments[1:])
    parser = argparse.ArgumentParser(prog="justw cluster", description=command.__doc__)
    parser.add_argument("--engine", choices=sorted(ENGINES), default="sail", help="default: sail")
    parser.add_argument(
        "--workers",
        type=int,
        default=2,
        metavar="N",
        help="number of worker processes (default: 2)",
    )
    given = parser.parse_args(arguments)
    if given.workers < 1:
        raise UserError(f"--workers is {given.workers}, but a cluster needs at least 1 worker")
    return start(given.engine, given.workers)
