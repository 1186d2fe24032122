"""run, check and html from a user's view, with a kernel that starts in half a second."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import psutil
import pytest
from junitparser import JUnitXml

from wearable_jupyter.export import charts, html
from wearable_jupyter.runner import clean, commands, provenance, selection, snapshots
from wearable_jupyter.setup import atomic_write, errors, paths

COMMANDS = [sys.executable, str(Path(__file__).with_name("fake_commands.py"))]


@pytest.fixture
def outputs(tmp_path):
    return tmp_path / "outputs"


@pytest.fixture
def write(tmp_path):
    """Write a notebook with these sources. Each cell's id contains its position."""

    def work(*sources: str, name: str = "made", folder: str = ".", tags=()) -> Path:
        made = nbformat.v4.new_notebook(metadata={"kernelspec": clean.KERNELSPEC})
        for number, source in enumerate(sources, 1):
            made.cells.append(nbformat.v4.new_code_cell(source, metadata={"tags": list(tags)}))
            made.cells[-1].id = f"c{number}"
        path = tmp_path / folder / f"{name}.ipynb"
        path.parent.mkdir(exist_ok=True)
        nbformat.write(made, path)
        return path

    return work


@pytest.fixture
def call(outputs, tmp_path):
    """Call a command. Returns its result and its output."""

    def work(*arguments: str | Path, **options) -> subprocess.CompletedProcess:
        return subprocess.run(
            [*COMMANDS, outputs, *arguments],
            **{"cwd": tmp_path, "capture_output": True, "text": True} | options,
        )

    return work


def output(outputs: Path, path: Path, suffix: str = ".ipynb", folder: str = ".") -> Path:
    return selection.output(path, suffix, outputs / folder)


# Outputs that a snapshot must preserve, one after another in a cell.
ODD = {
    "heading": "print('## next\\n## c2\\n\\n```text\\nx\\n```')",
    "fences": "print('```\\n````\\n~~~\\n`a`')",
    "tables": "print('│ x │\\n│ 1 │'); print('┌┬┐\\n│x┆a│\\n└┴┘'); print('┌\\n└\\n┌┐\\n│')",
    "returns": "print('a\\r\\nb\\rc\\r')",
    "spaces": "print('a  \\n\\t\\n  b   ')",
    "colors": "print('\\x1b[31mred\\x1b[0m \\x1b]8;;x\\x07link')",
    "controls": "print('\\x00\\x07\\x0b\\x0c\\x1c\\x85\\u2028\\x7f')",
    "blank": "print('\\n\\n  x\\n\\n')",
    "empty": "pass",
    "last-fence": "print('```', end='')",
    "markup": "print('<b>&amp;</b> # x\\n# c1\\n---')",
}


def test_check_passes_for_unusual_output(call, write):
    path = write(*ODD.values())
    assert call("check", "--update", path).returncode == 0
    kept = snapshots.file(path).read_text()
    again = call("check", path)
    assert again.returncode == 0, again.stderr
    # Also if an editor or git has changed line ends and spaces.
    snapshots.file(path).write_bytes(
        "\r\n".join(line.rstrip() for line in kept.split("\n")).encode()
    )
    assert call("check", path).returncode == 0


@pytest.mark.parametrize("name", ODD)
def test_snapshot_holds_each_odd_output(name):
    text = subprocess.run([sys.executable, "-c", ODD[name]], capture_output=True).stdout.decode()
    stream = nbformat.v4.new_output("stream", text=text)
    cells = [nbformat.v4.new_code_cell("x", outputs=[stream], id=i) for i in ("-", "c2", "A_b-3")]
    notebook = nbformat.v4.new_notebook(cells=cells)
    shown = snapshots.shown_texts(notebook)
    assert snapshots.sections(snapshots.render(notebook)) == shown
    assert set(shown) == (set() if name == "empty" else {"-", "c2", "A_b-3"})


def test_check_compares_cells_that_are_tagged_to_fail(call, write):
    path = write("1/0", tags=["raises-exception"])
    assert call("check", "--update", path).returncode == 0
    assert "ZeroDivisionError: division by zero" in snapshots.file(path).read_text()
    assert call("check", path).returncode == 0
    other = write("int('x')", tags=["raises-exception"])
    assert other == path
    differing = call("check", path)
    assert differing.returncode == 1 and "+ValueError: invalid literal" in differing.stderr


@pytest.mark.parametrize("folder", [".", "it's [a] folder"])
def test_command_in_checks_message_works_in_the_callers_directory(call, write, folder, outputs):
    path = write("print(1)", folder=folder)
    missing = call("check", path)
    assert missing.returncode == 1
    named = re.search(r"Create it: (.+)", missing.stderr)[1]
    justw, *arguments = shlex.split(named)
    assert justw == str(paths.ROOT / "justw")
    assert call(*arguments).returncode == 0 and call("check", path).returncode == 0


def test_notebooks_of_one_name_do_not_overwrite_each_other(call, write, outputs):
    paths = [write(f"print({n})", name="02a_lazy_join", folder=n) for n in ("1", "2", "3")]
    done = call("run", *paths)
    assert done.returncode == 0, done.stderr
    for number, path in enumerate(paths, 1):
        (shown,) = nbformat.read(output(outputs, path), as_version=4).cells[0].outputs
        assert shown.text == f"{number}\n"
        assert output(outputs, path, ".html").is_file()
    assert not list(outputs.glob("*.ipynb"))
    assert call("check", *paths).returncode == 1  # no executed notebook is stored yet
    suites = [suite.name for suite in JUnitXml.fromfile(str(outputs / "check.xml"))]
    assert len(set(suites)) == 3
    assert all(str(path.with_suffix("")) in suites for path in paths)


def test_html_shows_the_run_and_not_the_check(call, write, outputs):
    source = "import os; print('data in', os.environ.get('WEARABLE_DATA_DIR'))"
    path = write(source)
    assert call("run", path).returncode == 0
    assert call("check", "--update", path).returncode == 0
    made = call("html", path)
    assert "has not changed" in made.stdout
    assert "data in None" in output(outputs, path, ".html").read_text()
    assert "target/check-" in output(outputs, path, folder="check").read_text()


def test_html_runs_again_after_a_change_of_the_dataset(call, write, outputs, tmp_path, monkeypatch):
    path = write("1")
    monkeypatch.setenv("WEARABLE_DATA_DIR", str(tmp_path / "data"))
    part = tmp_path / "data" / "sensor_hrv" / "date=2024-01-01" / "0.parquet"
    part.parent.mkdir(parents=True)
    part.write_text("1")
    assert call("run", path).returncode == 0
    assert "has not changed" in call("html", path).stdout
    part.write_text("22")  # by date, in a separate folder
    assert "Running" in call("html", path).stdout
    monkeypatch.setenv("WEARABLE_DATA_DIR", str(tmp_path / "older"))
    assert "Running" in call("html", path).stdout
    assert "has not changed" in call("html", path).stdout
    write("1", "2")
    assert "Running" in call("html", path).stdout


def test_html_reruns_a_failed_notebook(call, write, outputs):
    path = write("report = None")  # the error is no longer in the notebook
    assert call("run", path).returncode == 1
    made = call("html", path)
    assert made.returncode == 1 and "Running" in made.stdout


CHART = {"data": [{"type": "bar", "x": [1], "y": [2]}], "layout": {}}


@pytest.mark.parametrize("step", ["add_pictures", "export"])
def test_run_is_kept_if_charts_or_html_fail(step, write, outputs, monkeypatch, capsys):
    path = write("1")
    executed = nbformat.read(path, as_version=4)
    shown = nbformat.v4.new_output("display_data", data={charts.MIME: CHART})
    executed.cells[0].outputs.append(shown)
    result = commands.strict_run.Result(path, 1, executed=executed)
    monkeypatch.setattr(commands.selection, "output", lambda p, s=".ipynb": outputs / f"made{s}")

    def fail(*_, **__):
        raise ValueError("no such axis")

    monkeypatch.setattr(charts if step == "add_pictures" else html, step, fail)
    written = []
    commands.write_outputs(result, "", written)
    assert nbformat.read(outputs / "made.ipynb", as_version=4).cells[0].outputs
    stderr = capsys.readouterr().err
    assert "no such axis" in stderr and "Traceback" not in stderr
    assert bool(result.failures) == (step == "export")


def left_behind(outputs: Path) -> list[Path]:
    return [path for path in outputs.rglob("*") if ".part-" in path.name]


@pytest.mark.parametrize(
    ("command", "number", "times"),
    [
        ("run", signal.SIGINT, 1),
        ("run", signal.SIGTERM, 3),
        ("check", signal.SIGINT, 3),
        ("html", signal.SIGHUP, 2),
    ],
)
def test_signal_ends_a_command_with_one_line(command, number, times, write, outputs, tmp_path):
    pid = tmp_path / "pid"
    path = write(
        f"import os, time; open({str(pid)!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    )
    running = subprocess.Popen(
        [*COMMANDS, outputs, command, path],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # Under `nohup`, the tests ignore SIGHUP, and so would this command.
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),
    )
    deadline = time.monotonic() + 60
    while not (pid.is_file() and pid.read_text()):
        assert running.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    for _ in range(times):
        os.killpg(running.pid, number)
        time.sleep(0.05)
    _, stderr = running.communicate(timeout=60)
    assert running.returncode == 128 + number
    assert re.fullmatch(r"interrupted( by \w+)?\n", stderr)
    assert not psutil.pid_exists(int(pid.read_text()))
    assert not left_behind(outputs) and not output(outputs, path).exists()
    assert not list(tmp_path.glob("target/check-*"))


def test_reader_that_ends_early_ends_the_command_without_a_traceback(outputs, write):
    path = write("1")
    command = shlex.join([*COMMANDS, str(outputs), "run", str(path), str(path)])
    script = f"{command} | true; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True)
    assert done.stdout == f"{128 + signal.SIGPIPE}\n" and done.stderr == ""


@pytest.mark.parametrize("command", ["run", "check", "html"])
def test_outputs_that_cannot_be_written_are_reported_before_a_run(call, write, outputs, command):
    outputs.write_text("a file")
    done = call(command, write("1"))
    assert done.returncode == 1 and "Running" not in done.stdout
    assert re.fullmatch(r"error: .* could not be written: .*ls -ld .*\n", done.stderr)


def test_full_disk_is_reported_and_destroys_nothing(tmp_path, monkeypatch):
    path = tmp_path / "kept.txt"
    atomic_write.write(path, "good")

    def full(self, *_, **__):
        raise OSError(28, "No space left on device", str(self))

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(errors.UserError, match="No space left on device"):
        atomic_write.write(path, "better")
    assert path.read_text() == "good" and list(tmp_path.iterdir()) == [path]


def test_files_are_written_unchanged(tmp_path, monkeypatch):
    monkeypatch.setenv("LC_ALL", "C")
    atomic_write.write(tmp_path / "new" / "x", "≈ a\r\nb\r")
    assert (tmp_path / "new" / "x").read_bytes() == "≈ a\r\nb\r".encode()
    name = "n" * 255
    atomic_write.write(tmp_path / name, "long")
    assert (tmp_path / name).read_text() == "long"


def test_record_of_a_run_is_in_the_notebook(call, write, outputs):
    path = write("1")
    call("run", path)
    executed = json.loads(output(outputs, path).read_text())
    assert executed["metadata"][provenance.KEY]["passed"] is True
