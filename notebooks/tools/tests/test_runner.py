"""The strict runner: each way in which a notebook can fail makes it fail, and says where."""

import re

import pytest

from wearable_jupyter import runner

pytestmark = pytest.mark.usefixtures("nothing_left")

FINE = 'println!("fine");'


def test_an_unbroken_notebook_passes(notebook):
    path = notebook('let x: i32 = 41;\nprintln!("{x}");', "x + 1", "// a comment only", "")
    result = runner.run(path)
    assert result.failure is None
    assert result.cells == 4
    assert runner.outputs(result.executed.cells[1], "text/plain") == ["42"]
    # An empty cell is not sent to the kernel.
    assert list(result.timings) == [0, 1, 2] and min(result.timings.values()) > 0


@pytest.mark.parametrize(
    ("broken", "metadata", "message"),
    [
        pytest.param(
            'let n: i32 = "x".parse()?;',
            {},
            "it failed by `?`, or wrote to stderr:\ninvalid digit",
            id="question-mark",
        ),
        pytest.param('panic!("no way");', {}, "it panicked:\n", id="panic"),
        pytest.param("let n: i32 = true;", {}, "mismatched types", id="compile-error"),
        pytest.param("std::process::exit(0);", {}, "terminated", id="exit"),
        pytest.param("std::process::abort();", {}, "terminated", id="abort"),
        pytest.param('eprintln!("a warning");', {}, "wrote to stderr:\na warning", id="stderr"),
        pytest.param("eprintln!();", {}, "empty line to stderr", id="empty-stderr"),
        pytest.param(
            "loop { std::hint::spin_loop(); }", {"limit_seconds": 3}, "limit of 3 s", id="timeout"
        ),
        pytest.param(
            'println!("no table");', {"tags": ["shows-table"]}, "shows-table", id="no-table"
        ),
        pytest.param("1 + 1", {"tags": ["shows-chart"]}, "text/plain", id="no-chart"),
        pytest.param("let y = 1;", {"tags": ["shows-text"]}, "nothing", id="no-text"),
        pytest.param("let y = 1;", {"tags": ["shows-tabel"]}, "none of", id="misspelt-tag"),
    ],
)
@pytest.mark.parametrize("last", [True, False], ids=["last", "not-last"])
def test_a_broken_cell_fails(notebook, broken, metadata, message, last):
    path = notebook(FINE, (f"// what it is for\n{broken}", metadata), *([] if last else [FINE]))
    result = runner.run(path)
    assert result.failure is not None
    assert re.match(rf"cell 2 \([\w-]+\): {re.escape(broken)}\n", result.failure)
    assert message in result.failure
    # The executed notebook up to there is kept; after it nothing ran.
    assert runner.stream(result.executed.cells[0], "stdout") == "fine\n"
    assert last or result.executed.cells[2].outputs == []
    assert list(result.failures) == [1] and result.timings[1] > 0


def test_a_kernel_that_dies_fails(notebook):
    kill = 'std::process::Command::new("kill").args(["-9", &parent()]).status().unwrap();'
    parent = "fn parent() -> String { std::os::unix::process::parent_id().to_string() }"
    result = runner.run(notebook(parent, kill, FINE))
    assert result.failure is not None
    assert result.failure.startswith("cell 2 (")
    assert "the kernel died" in result.failure


def test_stderr_that_comes_after_the_last_cell_counts(notebook):
    late = (
        "std::thread::spawn(|| { std::thread::sleep(std::time::Duration::from_millis(60)); "
        'eprintln!("late"); });'
    )
    result = runner.run(notebook(FINE, late))
    assert result.failure is not None
    assert "late" in result.failure


def test_a_cell_tagged_so_may_write_to_stderr(notebook):
    result = runner.run(notebook(('eprintln!("a warning");', {"tags": ["stderr"]}), FINE))
    assert result.failure is None


def test_a_kernel_that_cannot_start_says_why_in_the_notebook(notebook, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "/nonexistent")
    result = runner.run(notebook(FINE))
    assert result.failure is not None
    assert "The Rust kernel is not installed. Run: ./justw setup" in result.failure
    (shown,) = result.executed.cells[0].outputs
    assert "Restart" in shown.traceback[1]
