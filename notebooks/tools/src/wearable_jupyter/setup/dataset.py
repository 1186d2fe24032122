"""Generates the dataset."""

from collections.abc import Sequence

from . import paths, release_download
from .build import build_workspace, prerequisites, run_binary
from .errors import UserError


def make(size: str, options: Sequence[str] = ()) -> None:
    """Generate a dataset: `small`, `large` or a number of rows, with the generator's options."""
    paths.data_directory()  # rejects a relative path before anything is compiled
    prerequisites()
    rows = size.replace("_", "").replace(",", "")
    if size in ("small", "large"):
        arguments = ["--size", size]
    elif rows.isascii() and rows.isdigit():
        arguments = ["--rows", rows]
    else:
        raise UserError(
            f"Unknown size of the dataset: {size}. Use small, large, or a number of rows from 1,000"
        )
    release_download.provide()
    build_workspace()
    run_binary("generate_demo_data", *arguments, *options)


def ensure() -> None:
    """Generate the small dataset if there is none."""
    paths.chosen_directory("WEARABLE_OUTPUT_DIR")  # rejects a relative path before a notebook runs
    if not paths.sensor_files():
        make("small")
