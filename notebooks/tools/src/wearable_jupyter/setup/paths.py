"""Paths in the repository, and the directories that the user can choose.

The project writes only to the repository and to one folder in the user's cache directory.
"""

import json
import os
import shlex
import sys
import tomllib
from pathlib import Path
from typing import Any

from .errors import UserError

ROOT = Path(__file__).resolve().parents[5]
NOTEBOOKS = ROOT / "notebooks"
OUTPUTS = ROOT / "outputs"
DATA = ROOT / "data"
# The only crate that cells can use without a `:dep`.
CRATE = "wearable_demo"
LIBRARY = ROOT / "crates" / CRATE
EVCXR_SHIM = ROOT / "crates" / "evcxr_shim"
TARGET = ROOT / "target"
# The compiled Cargo project that kernels start from, and the directories of running kernels.
TEMPLATE = TARGET / "kernel-template"
KERNELS = TARGET / "kernels"
# The cargo home of the kernels' rust-analyzer; see analysis_home.py.
ANALYSIS_HOME = TARGET / "kernel-cargo-home"
# What it reads of the standard library.
ANALYSIS_LIBRARY = TARGET / "kernel-standard-library"

# The command that runs a Python module: isolated from PYTHON* variables, the working directory and
# the user's packages, with UTF-8 in every locale.
PYTHON_MODULE = (sys.executable, "-I", "-X", "utf8", "-m")


def data_directory() -> Path:
    """The directory of the dataset, which may not exist yet."""
    return chosen_directory("WEARABLE_DATA_DIR") or DATA


def chosen_directory(variable: str) -> Path | None:
    """The directory in an environment variable. Raises `UserError` for a relative path.

    Commands, notebooks and programs have different working directories, so a relative path would
    mean a different directory for each.
    """
    chosen = os.environ.get(variable)
    if chosen and not os.path.isabs(chosen):
        raise UserError(
            f"{variable} must be an absolute path, but it is {chosen!r}. "
            f"Run: export {variable}=/absolute/path"
        )
    return Path(chosen) if chosen else None


def sensor_files() -> list[Path]:
    """The files of the dataset's large table, also if it is partitioned by date."""
    return sorted((data_directory() / "sensor_hrv").rglob("*.parquet"))


def display_path(path: Path) -> Path:
    """A path for messages: relative to the repository's root if it is inside."""
    return path.relative_to(ROOT) if path.is_relative_to(ROOT) else path


def read_toml(file: Path) -> dict[str, Any]:
    """The content of a TOML file. Raises `UserError` if it is missing or not valid."""
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise UserError(
            f"{file} could not be read: {reason}. Fix the file, or restore the committed one: "
            f"git checkout {shlex.quote(str(file))}"
        ) from error


def toml_string(path: Path) -> str:
    """A path as a TOML string, in JSON's quoting, which is valid TOML and which evcxr uses."""
    return json.dumps(str(path), ensure_ascii=False)
