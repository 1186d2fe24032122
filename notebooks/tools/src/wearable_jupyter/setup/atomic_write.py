"""Writes files atomically."""

import os
import shlex
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from . import errors, paths
from .errors import UserError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary file next to `path`, which then replaces `path`.

    If writing fails or is interrupted, `path` keeps its content.

    Raises `UserError` if `path` cannot be written.
    """
    part = path.with_name(f".{path.name[:200]}.part-{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield part
        part.replace(path)
    except OSError as error:
        raise not_written(path, error) from error
    finally:
        with suppress(OSError):  # if the folder does not exist, which the error reports
            part.unlink(missing_ok=True)


def write(path: Path, text: str) -> None:
    """Write a file atomically: readers see the old or the new content. Raises `UserError`."""
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8", newline="")


def check_writable(folder: Path) -> None:
    """Create `folder` if it is missing. Raise `UserError` if it is not writable."""
    probe = folder / f"writable-{os.getpid()}"
    with replacing(probe) as part:
        part.touch()
    probe.unlink(missing_ok=True)


def not_written(path: Path, error: OSError) -> UserError:
    """The error for a file that could not be written."""
    advice = errors.FIXES.get(error.errno, "Check its directory")
    return UserError(
        f"{paths.display_path(path)} could not be written: {error.strerror or error}. {advice}. "
        f"To show the directory: ls -ld {shlex.quote(str(path.parent))}"
    )
