"""The runner's rules, with a kernel that starts in half a second: reports, limits, long outputs."""

import sys
import time
from pathlib import Path

import nbformat
import own_address
import pytest
from jupyter_client.kernelspec import KernelSpec

from wearable_jupyter.kernel import spec
from wearable_jupyter.runner import clean, output_tags, streams, strict_run
from wearable_jupyter.setup import errors, paths

FAKE = str(Path(__file__).with_name("fake_kernel.py"))
FAILS = {"tags": [output_tags.RAISES_EXCEPTION]}
SKIPPED = {"tags": [output_tags.SKIP_EXECUTION]}


def use(monkeypatch, report: str) -> None:
    """Make the runner start the fake kernel."""
    argv = [sys.executable, FAKE, report, "-f", "{connection_file}"]
    fake = KernelSpec(argv=argv, language="rust", name="rust")
    monkeypatch.setattr(spec, "project_kernelspec", lambda: fake)
    own_address.use(monkeypatch.setattr)


@pytest.fixture
def fake_kernel(monkeypatch):
    use(monkeypatch, "full")


@pytest.fixture
def stock_kernel(monkeypatch):
    use(monkeypatch, "none")


@pytest.fixture
def run(tmp_path):
    """Run a notebook with these cells: each a source, or a (source, metadata) pair."""

    def work(*cells, **options) -> strict_run.Result:
        made = nbformat.v4.new_notebook(metadata={"kernelspec": clean.KERNELSPEC})
        for number, cell in enumerate(cells, 1):
            source, metadata = cell if isinstance(cell, tuple) else (cell, {})
            made.cells.append(nbformat.v4.new_code_cell(source, metadata=metadata))
            made.cells[-1].id = f"c{number}"
        path = tmp_path / "made.ipynb"
        nbformat.write(made, path)
        return strict_run.run(path, **options)

    return work


@pytest.mark.parametrize(
    "cell",
    ["print(1)", "1", "# only a comment", ("1/0", FAILS), ("print(1)", {"tags": ["shows-text"]})],
)
def test_cell_without_a_report_fails(stock_kernel, run, cell):
    result = run("", cell, "print('not reached')")
    assert list(result.failures) == [1]
    assert strict_run.NO_REPORT in result.failures[1]
    assert result.executed.cells[2].outputs == []


def test_failing_cell_of_a_stock_kernel_fails_with_its_own_message(stock_kernel, run):
    assert "division by zero" in run("1/0").failures[0]


@pytest.mark.parametrize(
    ("report", "passes"),
    [
        ({"code": True, "began": True, "ended": "ok"}, True),
        ({"code": False, "began": False, "ended": None}, True),
        ({"code": True, "began": True, "ended": None}, False),
        ({"code": True, "began": False, "ended": None}, False),
        ({"code": True, "began": False, "ended": "ok"}, False),
        ({"code": True, "began": True, "ended": "failed"}, False),
        ({"code": True, "began": True, "ended": "gone"}, False),
        ({"code": None}, False),
        ({}, False),
        (None, False),
        ("ok", False),
    ],
)
def test_cell_passes_only_with_a_report_of_begin_and_end(fake_kernel, run, report, passes):
    result = run(f"report = {report!r}")
    assert (result.failure is None) == passes
    assert passes or strict_run.NO_REPORT in result.failures[0]


def test_cell_tagged_to_fail_needs_a_report_and_an_error(fake_kernel, run):
    assert run(("1/0", FAILS), "print(1)").failure is None
    assert "requires a failure" in run(("1", FAILS)).failures[0]
    assert strict_run.NO_REPORT in run(("report = None; 1/0", FAILS)).failures[0]


def test_skipped_cells_are_counted_and_still_checked(fake_kernel, run):
    result = run("1", ("1/0", SKIPPED), "")
    assert result.failure is None and result.skipped == [1] and list(result.timings) == [0]
    assert "no cell was run" in run(("1", SKIPPED), "", ("1/0", SKIPPED)).failures[None]
    promised = {"tags": [output_tags.SKIP_EXECUTION, "shows-table"]}
    assert "shows-table" in run("1", ("1", promised)).failures[1]
    assert "shows-table" in run("1", ("", {"tags": ["shows-table"]})).failures[1]


@pytest.mark.parametrize("name", ["JUPYTER_PATH", "JUPYTER_DATA_DIR"])
def test_stock_kernel_of_the_same_name_is_not_used(tmp_path, monkeypatch, name):
    folder = tmp_path / "kernels" / "rust"
    folder.mkdir(parents=True)
    (folder / "kernel.json").write_text('{"argv": ["false"], "display_name": "R", "language": "r"}')
    monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.setenv("JUPYTER_PREFER_ENV_PATH", "0")
    monkeypatch.setenv("JUPYTER_DEFAULT_PROVISIONER_NAME", "nonsense")
    client = strict_run.StrictClient(nbformat.v4.new_notebook())
    manager = client.create_kernel_manager()
    assert "wearable_jupyter.kernel.launcher" in manager.kernel_spec.argv
    assert manager.kernel_spec.resource_dir == str(paths.NOTEBOOKS / "tools" / "kernelspec")
    assert list(spec.ProjectKernelSpecManager().get_all_specs()) == ["rust"]


BUSY = "while True: pass"
PRINTS = "while True: print('x' * 1000)"
WRITES = "import sys\nwhile True: sys.stdout.write('x' * 1000)"
PRINTS_SLOWLY = "import time\nwhile True: print('x' * 1000); time.sleep(0.001)"
WRITES_SLOWLY = "import sys, time\nwhile True: sys.stdout.write('x' * 1000); time.sleep(0.001)"


def test_time_limit_ends_a_cell(fake_kernel, run):
    for endless in (BUSY, PRINTS_SLOWLY, WRITES_SLOWLY):
        result = run("1", (endless, {"limit_seconds": 2}), "1")
        assert list(result.failures) == [1]
        assert "limit of 2 s" in result.failures[1]


@pytest.mark.parametrize("endless", [PRINTS, WRITES], ids=["lines", "no-newline"])
def test_flood_of_output_ends_a_cell(fake_kernel, run, endless):
    start = time.monotonic()
    result = run("1", (endless, {"limit_seconds": 2}), "1")
    assert time.monotonic() - start < 30
    assert list(result.failures) == [1]
    # A fast machine reaches the limit of characters first.
    assert "limit of 2 s" in result.failures[1] or "characters" in result.failures[1]


def test_too_much_output_ends_a_cell(fake_kernel, run, monkeypatch):
    monkeypatch.setattr(strict_run, "OUTPUT_LIMIT", 3_000_000)
    result = run(PRINTS, cell_seconds=60)
    assert "more than 3 million characters" in result.failures[0]


@pytest.mark.parametrize("limit", [0, -1, "60", True, None])
def test_invalid_time_limit_is_rejected(fake_kernel, run, limit):
    with pytest.raises(errors.UserError, match="limit_seconds"):
        run(("1", {"limit_seconds": limit}))


@pytest.mark.parametrize(
    ("source", "stdout"),
    [
        ("print('x' * 2_000_000)", "x" * 2_000_000 + "\n"),
        ("print('x' * 2_000_000, end='')", "x" * 2_000_000),
        ("for i in range(100_000): print(i)", "".join(f"{i}\n" for i in range(100_000))),
        ("print('\\n' * 300_000)", "\n" * 300_001),
        ("print('ab\\r' * 300_000 + 'end')", "end\n"),
        ("print('\\r' * 300_000)", "\r" * 300_000 + "\n"),
    ],
    ids=["line", "no-newline", "writes", "empty-lines", "returns", "only-returns"],
)
def test_long_outputs_take_seconds(fake_kernel, run, source, stdout):
    result = run(source, cell_seconds=30)
    assert result.failure is None
    (output,) = result.executed.cells[0].outputs
    assert output.text == stdout
    assert result.seconds < 30


def test_streams_of_a_cell_are_one_output_each(fake_kernel, run):
    source = "import sys\nfor i in range(9): print(i); print(i, file=sys.stderr)"
    result = run(source)
    assert [o.name for o in result.executed.cells[0].outputs] == ["stdout", "stderr"]
    assert {o.text for o in result.executed.cells[0].outputs} == {"0\n1\n2\n3\n4\n5\n6\n7\n8\n"}


def test_output_that_a_later_cell_updates_is_found_behind_merged_streams(fake_kernel, run):
    shown = "print(1); import sys; print(2, file=sys.stderr); print(3)"
    result = run(
        f"{shown}; h = display('old', display_id=True); print(4)", "h.update('new')", "print(5)"
    )
    assert result.failure is None
    outputs = result.executed.cells[0].outputs
    assert [o.output_type for o in outputs] == ["stream", "stream", "display_data"]
    assert outputs[2].data["text/plain"] == "'new'"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("1%\r2%\r100%\n", "100%\n"),
        ("1%\r2%", "2%"),
        ("line\r\nnext\r\n", "line\r\nnext\r\n"),
        ("a\rb\r\nc", "b\r\nc"),
        ("half\r", "half\r"),
        ("\r\r\n", "\r\r\n"),
        ("", ""),
    ],
)
def test_carriage_return_overwrites_the_line(text, shown):
    """Like nbclient's merging of streams."""
    assert streams.as_displayed(text) == shown


def test_kernel_without_a_reply_fails(run, monkeypatch):
    quiet = KernelSpec(argv=["sleep", "60"], language="rust", name="rust")
    monkeypatch.setattr(spec, "project_kernelspec", lambda: quiet)
    monkeypatch.setattr(spec, "STARTUP_SECONDS", 2)
    assert "the kernel did not start" in run("1").failures[None]


def test_kernel_whose_program_is_missing_did_not_start(run, monkeypatch):
    absent = KernelSpec(argv=["/no/such/program"], language="rust", name="rust")
    monkeypatch.setattr(spec, "project_kernelspec", lambda: absent)
    assert "the kernel did not start" in run("1").failures[None]


def test_kernel_that_dies_is_reported_with_the_end_of_its_log(fake_kernel, run):
    source = "import os\nos.write(2, b'why it ended\\n')\nos._exit(3)"
    result = run("1", source, "1")
    assert "the kernel died" in result.failures[1] and "why it ended" in result.failures[1]
