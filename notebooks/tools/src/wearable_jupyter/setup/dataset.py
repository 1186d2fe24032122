"""The dataset, as the commands make it."""

from collections.abc import Sequence

from . import paths
from .build import build_workspace, prerequisites, run_binary
from .errors import UserError


def make(size: str, options: Sequence[str] = ()) -> None:
    """Write a dataset: `small`, `large` or a number of rows, with the generator's options."""
    paths.data_directory()  # refused before anything is compiled
    prerequisites()
    rows = size.replace("_", "").replace(",", "")
    if size in ("small", "large"):
        arguments = ["--size", size]
    elif rows.isdigit() and int(rows) > 0:
        arguments = ["--rows", rows]
    else:
        raise UserError(f"data takes small, large or a number of rows from 1, not {size}")
    build_workspace()
    run_binary("generate_demo_data", *arguments, *options)


def ensure() -> None:
    """Write the small dataset if there is none."""
    paths.chosen_directory("WEARABLE_OUTPUT_DIR")  # refused before a notebook runs
    if not paths.sensor_files():
        make("small")
