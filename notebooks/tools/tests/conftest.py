"""Fixtures: the result of `./justw setup`, notebooks, a dataset and an executed walkthrough."""

import fcntl
import os
import re
import time
from pathlib import Path

import nbformat
import pytest
import walkthrough_copy
from own_kernels import is_of_others, kernel_processes
from xdist.scheduler import LoadScopeScheduling

from wearable_jupyter.bench import browser
from wearable_jupyter.kernel import template
from wearable_jupyter.runner import clean
from wearable_jupyter.setup import build, errors, paths, release_download

# The tests of these files run in a second process, next to all others. They use no real kernel and
# no compiled file of this clone, and have their own ports and files. The slowest file comes first.
INDEPENDENT = (
    "setup/test_build.py",
    "bootstrap/test_venv.py",
    "kernel/test_lost_messages.py",
    "kernel/test_proxy.py",
    "export/test_look.py",
    "export/test_page.py",
    "setup/test_release_download.py",
    "runner/test_strictness.py",
    "runner/test_commands.py",
    "bootstrap/test_command_environment.py",
    "bootstrap/test_platform.py",
    "bootstrap/test_trust.py",
    "cluster/test_cluster.py",
    "exercises/test_exercise_notebooks.py",
    "export/test_charts.py",
    "kernel/test_cell_code.py",
    "kernel/test_source_map.py",
    "runner/test_measured.py",
    "runner/test_notebooks.py",
    "runner/test_selection.py",
    "runner/test_structure.py",
    "setup/test_artifact_cache.py",
    "setup/test_cache.py",
    "setup/test_offline_bundle.py",
    "setup/test_progress.py",
    "setup/test_rust_tests.py",
    "test_development.py",
    "test_import_layers.py",
)
# Files that run notebooks, most of them the same executed walkthrough. They follow in the second
# process. They look at no kernels but their own.
NOTEBOOKS = (
    "exercises/test_answers.py",
    "exercises/test_learner.py",
    "exercises/test_nbgrader.py",
    "export/test_html.py",
    "results/test_cluster_notebook.py",
    "results/test_engine.py",
    "results/test_files.py",
    "results/test_oracle.py",
    "results/test_other_datasets.py",
    "results/test_walkthrough.py",
    "runner/test_report.py",
)
# Files with tests that edit the library or a notebook. They come first, and no test of `READING`
# runs meanwhile.
EDITING = ("lab/test_lab.py", "kernel/test_kernel.py", "kernel/test_prewarmed.py")
READING = (
    *NOTEBOOKS,
    "exercises/test_exercise_notebooks.py",
    "runner/test_notebooks.py",
    "runner/test_structure.py",
)
# Fixtures that independent tests must not use.
SHARED = {"notebook", "nothing_left", "small_data", "walkthrough"}


def file_of(nodeid: str) -> str:
    """A test's file, relative to `tests/`."""
    return nodeid.split("::")[0].removeprefix("tests/")


def rank(nodeid: str) -> int:
    """The position of a test's file in `INDEPENDENT`; the number of these files for `NOTEBOOKS`.

    -2 for `EDITING`, and -1 for all other files, which run in the first process.
    """
    file = file_of(nodeid)
    if file in NOTEBOOKS:
        return len(INDEPENDENT)
    if file in EDITING:
        return -2
    return INDEPENDENT.index(file) if file in INDEPENDENT else -1


class Scheduling(LoadScopeScheduling):
    """Assigns the tests of equal rank to the same process, and begins with the lowest rank."""

    def _split_scope(self, nodeid: str) -> str:
        return str(max(rank(nodeid), -1))


def pytest_xdist_make_scheduler(config, log):
    config.option.loadscopereorder = False
    return Scheduling(config, log)


def pytest_configure():
    """No test downloads a bundle, except from its own server."""
    os.environ[release_download.VARIABLE] = "0"


def pytest_collection_modifyitems(config, items):
    """Sort by rank, and leave out the tests marked long, unless `-m` selects tests."""
    items.sort(key=lambda item: rank(item.nodeid))
    if not config.option.markexpr:
        long = [item for item in items if item.get_closest_marker("long")]
        config.hook.pytest_deselected(items=long)
        items[:] = [item for item in items if item not in long]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
    """Run no test that reads notebooks and the library next to one that edits them."""
    file = file_of(item.nodeid)
    if file not in EDITING + READING:
        return (yield)
    paths.TARGET.mkdir(exist_ok=True)
    with (paths.TARGET / ".tests.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX if file in EDITING else fcntl.LOCK_SH)
        return (yield)


@pytest.fixture(autouse=True)
def independence(request):
    """Fail if an independent test uses a fixture that others share."""
    used = SHARED.intersection(request.fixturenames)
    if used and 0 <= rank(request.node.nodeid) < len(INDEPENDENT):
        pytest.fail(
            f"The test uses {', '.join(sorted(used))}, so it cannot run next to other tests. "
            "Remove its file from INDEPENDENT in tests/conftest.py"
        )


@pytest.fixture(scope="session", autouse=True)
def prepared():
    """Everything is compiled. A second call takes a moment."""
    template.prepare()


@pytest.fixture(autouse=True)
def no_backtraces(monkeypatch):
    """Most users have this setting."""
    monkeypatch.delenv("RUST_BACKTRACE", raising=False)


@pytest.fixture
def notebook(tmp_path):
    """Write a Rust notebook with these cells: each a source, or a (source, metadata) pair."""

    def write(*cells, name: str = "made") -> Path:
        notebook = nbformat.v4.new_notebook(metadata={"kernelspec": clean.KERNELSPEC})
        for cell in cells:
            source, metadata = cell if isinstance(cell, tuple) else (cell, {})
            notebook.cells.append(nbformat.v4.new_code_cell(source, metadata=metadata))
        path = tmp_path / f"{name}.ipynb"
        nbformat.write(notebook, path)
        return path

    return write


@pytest.fixture(scope="session")
def chromium():
    """For tests with a browser: skipped with a hint without Chromium, and failed in CI."""
    try:
        browser.chromium()
    except errors.UserError as error:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(str(error))


@pytest.fixture
def assert_tooltip():
    """The hover text of a point in the scatter chart: occupation, gender and both values."""

    def check(scatter) -> None:
        scatter.locator(".scatterlayer .point").first.hover(force=True)
        tooltip = scatter.locator(".hoverlayer .hovertext")
        tooltip.wait_for()
        assert re.search(
            r"\w+, (Female|Male|Non-binary)sleep_efficiency: [\d.]+night_mean_sdnn: [\d.]+",
            tooltip.text_content(),
        )

    return check


@pytest.fixture
def nothing_left():
    """After the test, no kernel, child process or directory of a kernel is left."""
    before = {p.pid for p in kernel_processes()}
    directories = set(paths.KERNELS.glob("*"))
    yield
    deadline = time.monotonic() + 60
    while True:
        left = [p for p in kernel_processes() if p.pid not in before]
        new = set(paths.KERNELS.glob("*")) - directories
        left += [directory for directory in new if not is_of_others(directory)]
        if not left or time.monotonic() > deadline:
            break
        time.sleep(0.2)
    assert not left


@pytest.fixture(scope="session")
def small_data(tmp_path_factory):
    """The small dataset."""
    directory = tmp_path_factory.mktemp("small")
    build.run_binary("generate_demo_data", "--size", "small", "--output-dir", str(directory))
    return directory


@pytest.fixture(scope="session")
def walkthrough(small_data, tmp_path_factory):
    """02a_lazy_join, executed strictly on the small dataset."""
    return walkthrough_copy.run(small_data, tmp_path_factory.mktemp("walkthrough"))
