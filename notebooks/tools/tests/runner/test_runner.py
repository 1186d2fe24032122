"""The strict runner: each kind of failure fails the notebook, and is reported with its cell."""

import json
import re

import pytest

from wearable_jupyter.runner import clean, output_tags, snapshots, strict_run
from wearable_jupyter.runner.load import read
from wearable_jupyter.setup import errors

pytestmark = pytest.mark.usefixtures("nothing_left")

FINE = 'println!("fine");'


def test_unbroken_notebook_passes(notebook):
    path = notebook('let x: i32 = 41;\nprintln!("{x}");', "x + 1", "// a comment only", "")
    result = strict_run.run(path)
    assert result.failure is None
    assert result.cells == 4
    assert output_tags.outputs(result.executed.cells[1], "text/plain") == ["42"]
    # An empty cell is not sent to the kernel.
    assert list(result.timings) == [0, 1, 2] and min(result.timings.values()) > 0


BROKEN = {
    "question-mark": ('let n: i32 = "x".parse()?;', {}, "ParseIntError: invalid digit"),
    "panic": ('panic!("no way");', {}, "panic: no way"),
    "compile-error": ("let n: i32 = true;", {}, "mismatched types"),
    "exit": ("std::process::exit(0);", {}, "exit status: 0"),
    "timeout": ("loop { std::hint::spin_loop(); }", {"limit_seconds": 3}, "limit of 3 s"),
    "no-table": ('println!("no table");', {"tags": ["shows-table"]}, "shows-table"),
    "no-chart": ("1 + 1", {"tags": ["shows-chart"]}, "text/plain"),
    "no-text": ("let y = 1;", {"tags": ["shows-text"]}, "nothing"),
    "misspelt-tag": ("let y = 1;", {"tags": ["shows-tabel"]}, "Use one of"),
    "does-not-fail": ("let y = 1;", {"tags": ["raises-exception"]}, "requires a failure"),
}
# Each test starts a kernel. Two of the last cells are quick: the kernel or the runner detects them.
POSITIONS = [(name, last) for name in BROKEN for last in (False, True)]
BROKEN_CELLS = [
    pytest.param(
        *BROKEN[name],
        last,
        id=f"{name}-{'last' if last else 'not-last'}",
        marks=pytest.mark.long if last and name not in ("exit", "no-table") else (),
    )
    for name, last in POSITIONS
]


@pytest.mark.parametrize(("broken", "metadata", "message", "last"), BROKEN_CELLS)
def test_broken_cell_fails(notebook, broken, metadata, message, last):
    path = notebook(FINE, (f"// what it is for\n{broken}", metadata), *([] if last else [FINE]))
    result = strict_run.run(path)
    assert result.failure is not None
    assert re.match(rf"cell 2 \([\w-]+\): {re.escape(broken)}\n", result.failure)
    assert message in result.failure
    # The executed notebook is kept up to that cell. No later cell ran.
    assert output_tags.stream(result.executed.cells[0], "stdout") == "fine\n"
    assert last or result.executed.cells[2].outputs == []
    assert list(result.failures) == [1] and result.timings[1] > 0


def test_kernel_that_dies_fails(notebook):
    kill = 'std::process::Command::new("kill").args(["-9", &parent()]).status().unwrap();'
    parent = "fn parent() -> String { std::os::unix::process::parent_id().to_string() }"
    result = strict_run.run(notebook(parent, kill, FINE))
    assert result.failure is not None
    assert result.failure.startswith("cell 2 (")
    assert "ended with signal 9" in result.failure


def test_passing_cells_are_no_failures(notebook):
    """A warning on stderr, and a cell with Jupyter's tag for expected failures."""
    failing = ('panic!("as it should");', {"tags": ["raises-exception"]})
    result = strict_run.run(notebook('eprintln!("a warning");', failing, FINE))
    assert result.failure is None
    assert output_tags.stream(result.executed.cells[0], "stderr") == "a warning\n"
    assert output_tags.stream(result.executed.cells[2], "stdout") == "fine\n"


@pytest.mark.parametrize("minor", [0, 4])
def test_notebook_of_an_older_format_runs(tmp_path, minor):
    """Its cells have no ids. They are named by their position, and do not differ between runs."""
    cells = [
        {"cell_type": "markdown", "metadata": {}, "source": ["# Old"]},
        {
            "cell_type": "code",
            "execution_count": None,
            "metadata": {},
            "outputs": [],
            "source": ['println!("old");'],
        },
    ]
    kernelspec = {"name": "rust", "display_name": "Rust", "language": "rust"}
    path = tmp_path / "old.ipynb"
    whole = {"nbformat": 4, "nbformat_minor": minor, "cells": cells}
    path.write_text(json.dumps(whole | {"metadata": {"kernelspec": kernelspec}}))
    result = strict_run.run(path)
    assert result.failure is None
    assert [cell.id for cell in result.executed.cells] == ["cell-1", "cell-2"]
    assert output_tags.stream(result.executed.cells[1], "stdout") == "old\n"
    assert snapshots.render(result.executed).count("## cell-2") == 1
    normal = clean.cleaned(path)
    path.write_text(normal)
    assert clean.cleaned(path) == normal


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "not JSON"),
        (b"\xff\xfe", "not JSON in UTF-8"),
        (b"{half", "not JSON"),
        (b"[1, 2]", "its nbformat is missing"),
        (b'{"cells": []}', "its nbformat is missing"),
        (b'{"nbformat": 4, "nbformat_minor": 5}', "is not a notebook"),
        (
            b'{"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": [3]}',
            "is not a notebook",
        ),
        (
            b'{"nbformat": 99, "nbformat_minor": 0, "metadata": {}, "cells": []}',
            "its nbformat is 99",
        ),
        (
            b'{"nbformat": 5, "nbformat_minor": 0, "metadata": {}, "cells": []}',
            "its nbformat is 5",
        ),
        (b'{"nbformat": 4, "nbformat_minor": null, "metadata": {}, "cells": []}', "not a notebook"),
        (b'{"nbformat": 3, "nbformat_minor": 0, "worksheets": 3}', "is not a notebook"),
        (b"[" * 100_000, "not JSON"),
        (
            b'{"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": [{"id": "a", '
            b'"cell_type": "markdown", "metadata": {}, "source": "\\ud800"}]}',
            "a lone surrogate",
        ),
        (
            b'{"nbformat": 4, "nbformat_minor": 5, "cells": [], "metadata": '
            b'{"kernelspec": {"name": "python3", "display_name": "P", "language": "python"}}}',
            "is a notebook in python, but only Rust notebooks",
        ),
        (
            b'{"nbformat": 4, "nbformat_minor": 5, "cells": [], "metadata": '
            b'{"kernelspec": {"name": "python3", "display_name": "P"}}}',
            "is a notebook for the kernel 'python3', but only Rust notebooks",
        ),
    ],
)
def test_invalid_rust_notebook_is_reported_in_one_line(tmp_path, content, reason):
    path = tmp_path / "odd.ipynb"
    path.write_bytes(content)
    with pytest.raises(errors.UserError) as error:
        read(path)
    assert reason in str(error.value) and "odd.ipynb" in str(error.value)
    assert len(str(error.value).splitlines()) == 1


def test_cells_without_a_valid_id_get_one_from_their_position(tmp_path):
    """nbformat would give them random ids, so that a snapshot could not find them again."""
    path = tmp_path / "odd.ipynb"
    cells = [{"cell_type": "markdown", "metadata": {}, "source": "x"} for _ in range(6)]
    for cell, own in zip(cells, ["a", "a", None, "x y", "", 3], strict=True):
        if own is not None:
            cell["id"] = own
    whole = {"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": cells}
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(whole).encode())
    ids = [cell.id for cell in read(path).cells]
    assert ids == ["a", "cell-2", "cell-3", "cell-4", "cell-5", "cell-6"]
    assert [cell.id for cell in read(path).cells] == ids


def test_kernel_that_cannot_start_reports_the_reason_in_the_notebook(notebook, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "/nonexistent")
    result = strict_run.run(notebook(FINE))
    assert result.failure is not None
    assert "The Rust kernel is not installed. Run: ./justw setup" in result.failure
    (shown,) = result.executed.cells[0].outputs
    assert "Restart" in shown.traceback[1]
