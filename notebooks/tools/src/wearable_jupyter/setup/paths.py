"""Where everything is: folders of the repository, and what is compiled in them.

Nothing is written outside the repository and one folder in the user's cache directory.
"""

import json
import os
import sys
from pathlib import Path

from .errors import UserError

ROOT = Path(__file__).resolve().parents[5]
NOTEBOOKS = ROOT / "notebooks"
OUTPUTS = ROOT / "outputs"
DATA = ROOT / "data"
# The one crate that cells can use without a `:dep` of their own.
CRATE = "wearable_demo"
LIBRARY = ROOT / "crates" / CRATE
KERNEL_CARGO = ROOT / "crates" / "evcxr_shim"
TARGET = ROOT / "target"
# A kernel's Cargo project with everything compiled, and the directories of running kernels.
TEMPLATE = TARGET / "kernel-template"
KERNELS = TARGET / "kernels"
# The cargo home of the kernels' rust-analyzer; see prune_metadata.py.
ANALYSIS_HOME = TARGET / "kernel-cargo-home"

# How our Python modules are started: PYTHON* variables, the working directory and the user's
# packages change nothing, and files are UTF-8 in every locale.
PYTHON_MODULE = (sys.executable, "-I", "-X", "utf8", "-m")


def data_directory() -> Path:
    """Where the dataset is, or will be."""
    return chosen_directory("WEARABLE_DATA_DIR") or DATA


def chosen_directory(variable: str) -> Path | None:
    """The directory that the user has chosen for data or outputs. Raises `UserError` if relative.

    Commands, notebooks and programs have different working directories, and each would look for it
    somewhere else.
    """
    chosen = os.environ.get(variable)
    if chosen and not os.path.isabs(chosen):
        raise UserError(f"{variable} must be an absolute path, and is {chosen!r}. Set it to one")
    return Path(chosen) if chosen else None


def sensor_files() -> list[Path]:
    """The files of the dataset's large table, also if it lies in folders, one for each date."""
    return sorted((data_directory() / "sensor_hrv").rglob("*.parquet"))


def display_path(path: Path) -> Path:
    """A path as people are told of it: from the repository's root, if it is in there."""
    return path.relative_to(ROOT) if path.is_relative_to(ROOT) else path


def toml_string(path: Path) -> str:
    """A path as a TOML string: JSON's quoting is valid there, and it is evcxr's."""
    return json.dumps(str(path), ensure_ascii=False)
