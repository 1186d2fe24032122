"""`./justw exercises` copies the notebooks, and everything works in the learner's folder."""

import nbformat
import pytest

from wearable_jupyter import lab
from wearable_jupyter.exercises import commands, learner
from wearable_jupyter.runner import load, strict_run
from wearable_jupyter.setup import errors, paths


def exercises(folder, caller, **options):
    options = {"nbgrader": False, "update_notebooks": False} | options
    return commands.command(folder, caller, **options)


def test_copies_keep_existing_files(tmp_path, capsys):
    exercises(None, tmp_path)
    folder = tmp_path / "exercises"
    names = {"exercises_02a.ipynb", "exercises_02b.ipynb"}
    assert {path.name for path in folder.iterdir()} == names
    assert capsys.readouterr().out.count("Written: ") == 2
    own = folder / "exercises_02a.ipynb"
    own.write_text("mine")
    (folder / "exercises_02b.ipynb").unlink()
    exercises("exercises", tmp_path)
    printed = capsys.readouterr().out
    assert own.read_text() == "mine" and (folder / "exercises_02b.ipynb").is_file()
    assert f"Kept: {own} exists already" in printed and printed.count("Written: ") == 1
    assert f"{paths.ROOT / 'justw'} lab " in printed
    assert {path.name for path in folder.iterdir()} == names


@pytest.mark.parametrize("folder", ["notebooks", "notebooks/own", "notebooks/../notebooks"])
def test_project_notebooks_are_never_the_learners_folder(folder):
    with pytest.raises(errors.UserError, match="Choose another directory"):
        exercises(folder, paths.ROOT)
    assert not (paths.NOTEBOOKS / "own").exists()


def test_file_instead_of_a_folder_is_reported(tmp_path):
    (tmp_path / "exercises").touch()
    with pytest.raises(errors.UserError, match="is not a directory"):
        exercises(None, tmp_path)


def test_failed_copy_leaves_no_file(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(learner.os, "link", full)
    with pytest.raises(errors.UserError, match="No space left on device"):
        exercises(None, tmp_path)
    assert list((tmp_path / "exercises").iterdir()) == []


def test_copy_runs_in_any_folder(tmp_path, small_data, monkeypatch):
    """In a folder with spaces and quotes, far from the clone. The first two tasks are enough."""
    folder = tmp_path / 'my "first" exercises'
    exercises(str(folder), tmp_path)
    path = folder / "exercises_02a.ipynb"
    notebook = load.read(path)
    second = [cell.id for cell in notebook.cells].index("task-03")
    notebook.cells = notebook.cells[:second]
    nbformat.write(notebook, path)
    monkeypatch.setenv("WEARABLE_DATA_DIR", str(small_data))
    monkeypatch.setenv("WEARABLE_OUTPUT_DIR", str(tmp_path / "outputs"))
    result = strict_run.run(path)
    assert result.failure is None, result.failure


def test_lab_opens_a_notebook_of_the_learner(tmp_path):
    own = tmp_path / "exercises" / "exercises_02a.ipynb"
    own.parent.mkdir()
    own.touch()
    options = ["exercises/exercises_02a.ipynb", "--no-browser"]
    assert lab.opened(tmp_path, options) == (own, ["--no-browser"])
    assert lab.opened(tmp_path, ["--no-browser"]) == (lab.WALKTHROUGH, ["--no-browser"])
    assert lab.WALKTHROUGH.is_file()
    with pytest.raises(errors.UserError, match=r"File not found: .*other\.ipynb"):
        lab.opened(tmp_path, ["other.ipynb"])


def test_option_replaces_the_setting_of_lab():
    """Jupyter rejects two values of one setting."""
    settings = ["--ServerApp.root_dir=/a", "--LabApp.default_url=/lab", "--C.hide=x", "--C.hide=y"]
    assert lab.without_overridden(settings, ["--no-browser"]) == settings
    options = ["--LabApp.default_url=/tree", "--port=1"]
    assert lab.without_overridden(settings, options) == [settings[0], *settings[2:]]
    for option in ("--notebook-dir=/b", "--ServerApp.root_dir=/b"):
        assert lab.without_overridden(settings, [option]) == settings[1:]
