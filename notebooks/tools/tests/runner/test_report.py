"""The comparison and the reports of `./justw check`."""

import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from junitparser import JUnitXml

from wearable_jupyter.export import charts
from wearable_jupyter.runner import commands, report, selection, snapshots, strict_run
from wearable_jupyter.setup import paths


def executed(*outputs) -> nbformat.NotebookNode:
    """A notebook with one cell that has these outputs."""
    notebook = nbformat.v4.new_notebook()
    cell = nbformat.v4.new_code_cell("show()", outputs=list(outputs), execution_count=1)
    cell.id = "shown"
    notebook.cells = [nbformat.v4.new_markdown_cell("# Title"), cell]
    return notebook


def printed(text: str):
    return nbformat.v4.new_output("stream", name="stdout", text=text)


def chart(title: str, *values: float):
    figure = {"data": [{"type": "bar", "x": list("ab"), "y": list(values)}]}
    figure["layout"] = {"title": {"text": title}}
    return nbformat.v4.new_output("execute_result", data={charts.MIME: figure}, execution_count=1)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (printed("18 rows\n"), printed("18 rows\n"), True),
        (printed("18 rows\n"), printed("19 rows\n"), False),
        (printed("18 rows\r\n"), printed("18 rows\n"), True),
        (printed("0.1 s\n"), printed("0.2 s\n"), False),
        (chart("rows", 1.0, 2.0), chart("rows", 1.0, 2.0 + 1e-13), True),
        (chart("rows", 1.0, 2.0), chart("rows", 1.0, 2.001), False),
    ],
)
def test_snapshots_ignore_only_the_last_digits_of_floats(one, other, same):
    assert (snapshots.outputs(executed(one)) == snapshots.outputs(executed(other))) == same


def test_each_cell_that_differs_is_named_with_its_lines(tmp_path):
    notebook = tmp_path / "n.ipynb"
    kept = executed(printed("18 rows\n"))
    second = nbformat.v4.new_code_cell("again()", id="second", outputs=[printed("a\nb\n")])
    kept.cells.append(second)
    update = "./justw check --update n"
    assert update in snapshots.differences(kept, notebook, update)[None]
    snapshots.file(notebook).parent.mkdir()
    snapshots.file(notebook).write_text(snapshots.render(kept))

    shown = nbformat.from_dict(kept)
    shown.cells[1].outputs = [printed("18 rows\n")]
    assert snapshots.differences(shown, notebook, update) == {}
    shown.cells[1].outputs = [printed("17 rows\n")]
    shown.cells[2].outputs = [printed("a\nc\n")]
    first, second = (snapshots.differences(shown, notebook, update)[i] for i in (1, 2))
    assert first.startswith("cell 2 (shown): show()\n") and "-18 rows\n+17 rows" in first
    assert second.startswith("cell 3 (second): again()\n") and "-b\n+c" in second
    assert update in first and "rows" not in second

    del shown.cells[2]
    assert "sections without a cell: second" in snapshots.differences(shown, notebook, update)[None]


def test_reports_contain_cell_source_and_message():
    notebook = executed(printed("17 rows\n"))
    notebook.cells.append(nbformat.v4.new_code_cell("again()", id="second"))
    good = strict_run.Result(paths.NOTEBOOKS / "good.ipynb", 1, 2.0, {1: 1.5}, executed=notebook)
    message = "cell 2: show()\n<error> & \x1b more"
    failures = {1: message, 2: "another"}
    bad = strict_run.Result(paths.NOTEBOOKS / "bad.ipynb", 1, 2.0, {1: 0.5}, failures, notebook)
    dead = strict_run.Result(
        Path("/a|b/dead.ipynb"), 1, 2.0, {}, {None: "it died"}, executed=notebook
    )
    skipping = strict_run.Result(
        paths.NOTEBOOKS / "s.ipynb", 1, 1.0, skipped=[1], executed=notebook
    )
    results = [good, bad, dead, skipping]

    lines = report.table(results).splitlines()
    assert lines[0].split() == ["notebook", "cells", "seconds", "slowest", "cell", "result"]
    ends = [line.split("  ")[-1] for line in lines[1:]]
    assert ends == ["passed", "FAILED", "FAILED", "passed, 1 skipped"]
    assert "2 (shown), 1.5 s" in lines[1]

    text = report.markdown(results)
    assert "Cell 2, `shown`" in text and "```rust\nshow()\n```" in text and message in text
    assert "Cell 3, `second`" in text and "```rust\nagain()\n```" in text and "another" in text
    assert "it died" in text and "| /a\\|b/dead |" in text

    xml = report.junit(results)
    assert (xml.tests, xml.failures, xml.skipped) == (5, 3, 1)
    suites = {suite.name: list(suite) for suite in JUnitXml.fromstring(xml.tostring())}
    case, other = suites["bad"]
    assert case.name == "2 shown" and case.time == 0.5
    assert "show()" in case.result[0].text and "<error> &" in case.result[0].text
    assert other.name == "3 second" and other.result[0].message == "another"
    assert suites["good"][0].is_passed


def test_check_updates_and_compares_snapshots(notebook):
    """Runs the command itself, on another notebook."""

    def check(*arguments: str | Path) -> subprocess.CompletedProcess:
        command = [sys.executable, "-m", "wearable_jupyter", "check", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, cwd=paths.ROOT)

    source = 'println!("18 rows"); println!("{:?}", std::time::Instant::now().elapsed());'
    path = notebook((source, {"tags": ["measures-time"]}))
    missing = check(path)
    assert missing.returncode == 1 and f"./justw check --update {path}" in missing.stderr
    kept = check("--update", path)
    assert kept.returncode == 0, kept.stderr
    snapshot = snapshots.file(path)
    assert "\n18 rows\n<time>\n" in snapshot.read_text()
    same = check(path)
    assert same.returncode == 0, same.stderr
    assert f"{selection.label(path)}  1" in same.stdout and "passed" in same.stdout

    # Compare the whole line, because a cell's random id may contain these digits.
    snapshot.write_text(snapshot.read_text().replace("\n18 rows\n", "\n17 rows\n"))
    kept = snapshot.read_text()
    other = check(path)
    assert other.returncode == 1
    assert f"FAILED {selection.label(path)}, cell 1 (" in other.stderr
    assert "-17 rows\n+18 rows" in other.stderr
    assert "FAILED" in (paths.OUTPUTS / "check.md").read_text()
    assert JUnitXml.fromfile(str(paths.OUTPUTS / "check.xml")).failures == 1
    assert check("--upd", path).returncode == 2 and snapshot.read_text() == kept
    selection.output(path, folder=commands.CHECKED).unlink()


def test_walkthrough_matches_its_snapshot(walkthrough, small_data):
    """The snapshot is of another run, in other directories, which generated its dataset."""
    result = walkthrough.result
    directories = {str(small_data): "data", str(walkthrough.outputs): "outputs"}
    directories[str(paths.ROOT)] = ""
    update = "./justw check --update 02a_lazy_join"
    found = snapshots.differences(result.executed, result.notebook, update, directories)
    generates = [cell.id for cell in result.executed.cells].index("data-setup")
    assert not [text for index, text in found.items() if index != generates]
    assert generates in found
