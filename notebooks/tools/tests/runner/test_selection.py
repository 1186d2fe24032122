"""The notebooks that a command's arguments select, and the paths of their outputs."""

import json
import os
import shlex
import subprocess

import pytest

from wearable_jupyter.runner import clean, selection
from wearable_jupyter.setup import paths
from wearable_jupyter.setup.errors import UserError

NAME = "02a_lazy_join"
PROJECT = paths.NOTEBOOKS / f"{NAME}.ipynb"
EMPTY = {"nbformat": 4, "nbformat_minor": 5, "cells": []}
EMPTY["metadata"] = {"kernelspec": clean.KERNELSPEC}


@pytest.fixture
def here(tmp_path):
    """A directory with notebooks. One has the name of a project notebook, in a subfolder."""
    for file in (f"ann/{NAME}.ipynb", f"bob/{NAME}.ipynb", "bob/own.ipynb", "text.txt"):
        path = tmp_path / file
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(EMPTY))
    return tmp_path


@pytest.mark.parametrize("name", [NAME, f"{NAME}.ipynb"])
def test_bare_name_selects_a_notebook_of_the_project(here, name):
    assert selection.notebooks([name], here) == [PROJECT]


def test_file_in_the_callers_directory_precedes_the_projects(here):
    own = here / "ann" / f"{NAME}.ipynb"
    assert selection.notebooks([f"{NAME}.ipynb"], here / "ann") == [own]
    # A name without a suffix is a project notebook, even next to such a file or folder.
    (here / "ann" / NAME).mkdir()
    assert selection.notebooks([NAME], here / "ann") == [PROJECT]


def test_paths_count_from_the_callers_directory(here):
    own = here / "ann" / f"{NAME}.ipynb"
    for name in (f"./{own.name}", f"../ann/{own.name}", str(own), f"../bob/../ann//{own.name}"):
        assert selection.notebooks([name], here / "ann") == [own]
    (here / "link").symlink_to(here / "ann")
    assert selection.notebooks([f"link/{own.name}"], here) == [own]
    # A link is a notebook with the link's name and path.
    (here / "renamed.ipynb").symlink_to(own)
    assert selection.notebooks(["./renamed.ipynb"], here) == [here / "renamed.ipynb"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (f"/no/such/folder/{NAME}.ipynb", "has no directory 'no'"),
        (f"ann/typo/{NAME}.ipynb", "has no directory 'typo'"),
        (f"annn/{NAME}.ipynb", "has no directory 'annn'"),
        (f"./{NAME}.ipynb", "File not found"),
        (f"../{NAME}.ipynb", "File not found"),
        (f"./{NAME}", "File not found"),
        (f"notebooks/{NAME}", "has no directory 'notebooks'"),
        (f"~/{NAME}.ipynb", "the shell expands ~"),
        (f"~nobody/{NAME}", "the shell expands ~"),
        (f"ann/{NAME[:-1]}.ipynb", f"Did you mean {NAME}.ipynb?"),
        ("ann", "is a directory. Name the notebooks in it, such as ann/02a"),
        (".", "is a directory"),
        ("..", "is a directory"),
        ("", "is a directory"),
        ("/", "is a directory"),
        ("text.txt", "does not end in .ipynb"),
        ("./text.txt", "does not end in .ipynb"),
        ("02a_lazy_joins", "Did you mean 02a_lazy_join?"),
        ("no-such", "Its notebooks are: 02a_lazy_join"),
        ("no-such.ipynb", "File not found"),
        (NAME.upper(), "The project has no notebook"),
        ("broken.ipynb", "it is a link to"),
        ("pipe.ipynb", "is not a regular file"),
        ("a\x1bb.ipynb", "unprintable characters"),
        ("a\udcffb.ipynb", "unprintable characters"),
        ("a\nb.ipynb", "unprintable characters"),
    ],
)
def test_invalid_names_are_rejected_with_a_reason(here, name, message):
    (here / "broken.ipynb").symlink_to("nothing")
    os.mkfifo(here / "pipe.ipynb")
    with pytest.raises(UserError) as error:
        selection.notebooks([name], here)
    assert message in str(error.value)


def test_file_in_the_callers_directory_is_suggested(here):
    with pytest.raises(UserError, match=r"\./own\.ipynb"):
        selection.notebooks(["own"], here / "bob")


def test_folder_without_notebooks_fails(monkeypatch, tmp_path):
    (tmp_path / ".hidden.ipynb").write_text("{}")
    monkeypatch.setattr(paths, "NOTEBOOKS", tmp_path)
    with pytest.raises(UserError, match="no notebook"):
        selection.notebooks([], tmp_path)


def test_each_notebook_is_selected_once(here):
    named = [NAME, f"{NAME}.ipynb", str(PROJECT), "ann/../ann/" + PROJECT.name]
    assert selection.notebooks(named, here) == [PROJECT, here / "ann" / PROJECT.name]


def test_notebooks_of_one_name_have_outputs_of_their_own(here):
    named = [PROJECT, here / "ann" / PROJECT.name, here / "bob" / PROJECT.name]
    named += [paths.ROOT / PROJECT.name, here / "bob" / PROJECT.name.upper()]
    outputs = [selection.output(path) for path in named]
    assert outputs[0] == paths.OUTPUTS / PROJECT.name
    assert (
        outputs[1] == paths.OUTPUTS.joinpath("elsewhere", *(here / "ann").parts[1:]) / PROJECT.name
    )
    assert len({str(output).lower() for output in outputs[:4]}) == 4 and len(set(outputs)) == 5
    assert len(set(map(selection.label, named))) == 5
    assert selection.label(named[0]) == NAME
    assert selection.output(named[0], "-slides.html").name == f"{NAME}-slides.html"


@pytest.mark.parametrize("folder", ["plain", "with space", 'it\'s [odd] "too" $HOME'])
def test_command_runs_in_the_callers_directory(here, folder):
    path = here / folder / "x.ipynb"
    path.parent.mkdir()
    command = selection.command("check --update", path, here)
    script = f"set -- {command}; printf '%s\\0' \"$@\""
    words = subprocess.run(["sh", "-c", script], capture_output=True, text=True).stdout.split("\0")
    assert words[:-1] == [str(paths.ROOT / "justw"), "check", "--update", str(path)]
    at_root = selection.command("run", PROJECT, paths.ROOT)
    assert shlex.split(at_root) == ["./justw", "run", NAME]
