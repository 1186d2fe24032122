"""`.venv` is created by the first Python on the PATH, and kept while it works."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from wearable_jupyter.bootstrap import venv
from wearable_jupyter.setup import paths

COPIED = ("justw", "justfile", "notebooks/tools/requirements.txt")


class Clone:
    """The files of a clone that `./justw` needs to list its recipes, at another path."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for file in COPIED:
            (root / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(paths.ROOT / file, root / file)
        package = "notebooks/tools/src/wearable_jupyter"
        (root / package / "bootstrap").mkdir(parents=True)
        for file in (paths.ROOT / package / "bootstrap").glob("*.py"):
            shutil.copy(file, root / package / "bootstrap")
        shutil.copy(paths.ROOT / package / "__init__.py", root / package)

    def justw(self, *arguments: str, program: Path | None = None, **variables: str):
        return subprocess.run(
            [program or self.root / "justw", *arguments],
            env=os.environ | variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def identity(self) -> tuple[int, str]:
        """The identity of `.venv`, which changes when it is created again."""
        configuration = self.root / ".venv/pyvenv.cfg"
        return configuration.stat().st_mtime_ns, configuration.read_text()


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """A clone whose path contains all special characters."""
    clone = Clone(tmp_path_factory.mktemp("clone") / "a [b] 'c' \"d\" ü$e")
    result = clone.justw("--list")
    assert result.returncode == 0 and "doctor" in result.stdout, result.stdout
    return clone


@pytest.fixture(scope="module")
def without_pip(tmp_path_factory):
    """The `bin` of an environment without pip and ensurepip, like uv's."""
    folder = tmp_path_factory.mktemp("uv")
    command = [sys.executable, "-m", "venv", "--without-pip", "--copies", folder]
    subprocess.run(command, check=True)
    return folder / "bin"


def programs(folder: Path, **scripts: str) -> str:
    """A PATH that begins with a folder of these programs."""
    folder.mkdir()
    for name, script in scripts.items():
        (folder / name.replace("_", ".")).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name.replace("_", ".")).chmod(0o755)
    return f"{folder}{os.pathsep}{os.environ['PATH']}"


def test_working_environment_is_kept_for_another_python(clone, without_pip, tmp_path):
    before = clone.identity()
    for path in (
        f"{without_pip}{os.pathsep}{os.environ['PATH']}",
        programs(tmp_path / "broken", python3="exit 1", python="exit 1"),
        programs(tmp_path / "old", just="echo just 1.21.0; exit 1"),
    ):
        result = clone.justw("--list", PATH=path)
        assert result.returncode == 0 and "doctor" in result.stdout, result.stdout
        assert clone.identity() == before


def test_variables_of_python_pip_uv_and_just_change_nothing(clone):
    before = clone.identity()
    hostile = {
        "CDPATH": "/",
        "JUST_JUSTFILE": "/no/justfile",
        "LC_ALL": "C",
        "PIP_REQUIRE_VIRTUALENV": "1",
        "PIP_TARGET": "/no/target",
        "PIP_USER": "1",
        "PYTHONHOME": "/no/python",
        "PYTHONPATH": "/no/python",
        "PYTHONSAFEPATH": "1",
        "UV_PYTHON": "2.7",
        "VIRTUAL_ENV": "/no/venv",
    }
    result = clone.justw("--list", **hostile)
    assert result.returncode == 0 and "doctor" in result.stdout, result.stdout
    assert clone.identity() == before
    (clone.root / ".venv/.bootstrapped").unlink()  # also when it is created
    result = clone.justw("--list", **hostile)
    assert result.returncode == 0 and clone.identity() != before, result.stdout


def test_link_to_justw_runs_its_clone(clone, tmp_path):
    (tmp_path / "justw").symlink_to(clone.root / "justw")
    result = clone.justw("--list", program=tmp_path / "justw")
    assert result.returncode == 0 and "doctor" in result.stdout, result.stdout


def test_moved_or_broken_environment_is_made_again(clone, tmp_path):
    (clone.root / ".venv/bin/python").unlink()
    (clone.root / ".venv/bin/python").symlink_to(tmp_path / "gone")
    result = clone.justw("--list")
    assert "Creating the Python environment" in result.stdout and result.returncode == 0
    moved = tmp_path / "moved"
    shutil.copytree(clone.root, moved, symlinks=True)
    clone = Clone.__new__(Clone)
    clone.root = moved
    result = clone.justw("--list")
    assert "Creating the Python environment" in result.stdout and result.returncode == 0


def test_python_without_pip_uses_the_pip_of_another(clone, without_pip, tmp_path):
    (clone.root / ".venv/.bootstrapped").unlink()
    result = clone.justw("--list", PATH=f"{without_pip}{os.pathsep}{os.environ['PATH']}")
    assert result.returncode == 0 and "doctor" in result.stdout, result.stdout
    assert f"home = {without_pip}" not in clone.identity()[1]


def test_ensurepip_and_uv_are_fallbacks_for_pip(without_pip, tmp_path, monkeypatch):
    monkeypatch.setattr(venv, "pythons", lambda: iter([str(without_pip / "python3")]))
    monkeypatch.setattr(venv, "PYTHON", without_pip / "python3")
    monkeypatch.setenv("PATH", programs(tmp_path / "uv", uv="exit 0"))
    has_ensurepip = venv.output(sys.executable, "-c", "import ensurepip; print(1)")
    monkeypatch.setattr(
        venv,
        "output",
        lambda *command: has_ensurepip if "ensurepip" in command else "",
    )
    expected = str(without_pip / "python3") if has_ensurepip else "uv"
    assert str(venv.installer()[0]).endswith(expected)
    monkeypatch.setattr(venv, "output", lambda *command: "")
    assert venv.installer()[:2] == (str(tmp_path / "uv/uv"), "pip")
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(SystemExit, match="sudo apt install python3-pip"):
        venv.installer()


@pytest.mark.parametrize("name", ["with:colon", "with\nline break", "with %", "a {name}", "a }"])
def test_impossible_path_is_rejected_before_anything_is_created(name, tmp_path):
    clone = Clone(tmp_path / name)
    result = clone.justw("--list")
    assert result.returncode == 1 and "Move the clone" in result.stdout, result.stdout
    assert not (clone.root / ".venv").exists()


@pytest.mark.parametrize("folder", ["this clone", "the cache"])
def test_unwritable_directory_is_reported(folder, monkeypatch):
    denied = venv.ROOT if folder == "this clone" else venv.cache_directory()
    monkeypatch.setattr(venv, "may_write", lambda path: path != denied)
    with pytest.raises(SystemExit, match=f"cannot write to {folder}, .*WEARABLE_CACHE_DIR"):
        venv.check_location()


def test_clean_and_distclean_need_no_git(clone, tmp_path):
    """An unpacked archive has no git repository."""
    root = clone.root
    kept = [root / "outputs/README.md", root / "data/README.md", root / "notebooks/02a.ipynb"]
    gone = [
        root / "outputs/02a.html",
        root / "data/sensor hrv/part.parquet",
        root / "notebooks/.ipynb_checkpoints/02a.ipynb",
        root / "notebooks/tools/__pycache__/x.pyc",
    ]
    for file in (*kept, *gone):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    result = clone.justw("clean", GIT_DIR="/no/.git")
    assert result.returncode == 0, result.stdout
    assert all(file.exists() for file in kept) and not any(file.exists() for file in gone)
    (root / "target").mkdir()
    result = clone.justw("distclean")
    assert result.returncode == 0, result.stdout
    assert not (root / "target").exists() and not (root / ".venv").exists()
