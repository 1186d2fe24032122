"""`./justw bench kernel` and `bench lab`: time the Rust kernel and ipykernel.

Not a test: times depend on the machine and its load. Compare only numbers of one run.
"""

import os
import re
import statistics
import tempfile
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient

from ..kernel import prewarmed
from ..kernel.template import prepare
from ..runner import strict_run
from ..runner.clean import KERNELSPEC
from ..setup import errors, paths
from ..setup.build import run_binary
from . import browser, driver
from .table import Row, show

RUST_FIRST = [
    ':dep wearable_demo = { path = "../crates/wearable_demo" }\nuse wearable_demo::prelude::*;',
    'let frame = df!["x" => [1i64, 2, 3]]?;\nframe.lazy().select([col("x").sum()]).collect()?',
]
PYTHON_FIRST = [
    "import polars as pl",
    'frame = pl.DataFrame({"x": [1, 2, 3]})\nframe.lazy().select(pl.col("x").sum()).collect()',
]
PYTHON_KERNELSPEC = {"name": "python3", "display_name": "Python 3", "language": "python"}
WALKTHROUGH = paths.NOTEBOOKS / "02a_lazy_join.ipynb"
# The Python code that a notebook shows for the next Rust cell.
PYTHON = re.compile(
    r"<details><summary>Python</summary>\n\n```python\n(.*?)\n```\n\n</details>", re.DOTALL
)
# A cell of the walkthrough that has no Python code, and that other cells need.
REQUIRED = "data-setup"
# Phases of a cell other than the run of its code.
OVERHEAD = ("analysis", "compilation", "delivery")


class Stopwatch(strict_run.StrictClient):
    """Runs a notebook and stores the phases of each cell that the kernel reports, in seconds.

    Attributes:
        overhead: wall time of each cell without its `run` phase.
        phases: for each phase, its time in each cell.
    """

    def __init__(self, notebook, **options):
        super().__init__(notebook, **options)
        self.overhead: list[float] = []
        self.phases: dict[str, list[float]] = {}

    def _ended(self, cell, cell_index, execute_reply):
        super()._ended(cell, cell_index, execute_reply)
        phases = execute_reply["metadata"]["phases"]
        self.overhead.append(self.seconds[cell_index] - phases.get("run", 0.0))
        for name, seconds in phases.items():
            self.phases.setdefault(name, []).append(seconds)


def new_notebook(kernelspec: dict[str, str], sources: list[str]) -> nbformat.NotebookNode:
    """Return a notebook with these code cells."""
    notebook = nbformat.v4.new_notebook(metadata={"kernelspec": kernelspec})
    notebook.cells = [nbformat.v4.new_code_cell(source.strip()) for source in sources]
    return notebook


def same_work(notebook: nbformat.NotebookNode) -> tuple[list[nbformat.NotebookNode], list[str]]:
    """Return the code cells of the walkthrough that have Python code, and this Python code."""
    rust, python, shown = [], [], []
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            shown += PYTHON.findall(cell.source)
        elif shown or cell.id == REQUIRED:
            rust.append(cell)
            python += shown
            shown = []
    return rust, python


def timed(client) -> float:
    """Run the client's notebook. Return seconds from kernel launch to the end of the last cell."""
    hook, ends = client.on_cell_executed, []

    def ended(**message):
        ends.append(time.monotonic())
        if hook is not None:
            hook(**message)

    client.on_cell_executed = ended
    start = time.monotonic()
    with tempfile.TemporaryFile("w") as log:
        client.execute(stdout=log, stderr=log)
    return ends[-1] - start


def kernel(rounds: int = 3) -> None:
    """Time both kernels alternately, `rounds` times, and print medians as a table and as bars.

    Both do the same work: the cells of 02a that have Python code next to them, and this code.
    """
    prepare()
    resources = {"metadata": {"path": str(paths.NOTEBOOKS)}}
    first, whole, median, worst = [], [], [], []
    phases: dict[str, list[float]] = {name: [] for name in OVERHEAD}
    python_first, python_whole = [], []
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["WEARABLE_DATA_DIR"] = str(Path(scratch) / "data")
        os.environ["WEARABLE_OUTPUT_DIR"] = str(Path(scratch) / "outputs")
        (Path(scratch) / "outputs").mkdir()
        run_binary("generate_demo_data", "--output-dir", os.environ["WEARABLE_DATA_DIR"])
        for turn in range(rounds):
            print(f"round {turn + 1} of {rounds}", flush=True)
            short = new_notebook(KERNELSPEC, RUST_FIRST)
            first.append(timed(strict_run.StrictClient(short, resources=resources)))
            notebook = nbformat.read(WALKTHROUGH, as_version=4)
            notebook.cells, python = same_work(notebook)
            client = Stopwatch(notebook, resources=resources)
            whole.append(timed(client))
            # Exclude the first two cells, which load the library and infer the first type. The
            # first row of the table includes them.
            overhead = client.overhead[2:]
            median.append(statistics.median(overhead))
            worst.append(max(overhead))
            for name, seconds in phases.items():
                seconds.append(statistics.median(client.phases[name][2:]))
            python_first.append(
                timed(NotebookClient(new_notebook(PYTHON_KERNELSPEC, PYTHON_FIRST)))
            )
            python_notebook = new_notebook(PYTHON_KERNELSPEC, python)
            here = {"metadata": {"path": scratch}}
            python_whole.append(timed(NotebookClient(python_notebook, resources=here)))
    show(
        [
            Row("launch to first polars result", *map(statistics.median, (first, python_first))),
            Row("walkthrough, cells with Python", *map(statistics.median, (whole, python_whole))),
            Row("overhead of a cell, median", statistics.median(median)),
            *(Row(f"  {name}", statistics.median(seconds)) for name, seconds in phases.items()),
            Row("overhead of a cell, worst", statistics.median(worst)),
        ]
    )


# The kernel manager of `./justw lab` offers only the Rust kernel.
ALLOW_PYTHON = (
    "--ServerApp.kernel_spec_manager_class=jupyter_client.kernelspec.KernelSpecManager",
    f"--KernelSpecManager.allowed_kernelspecs={PYTHON_KERNELSPEC['name']}",
)
# Pause between both runs, in which the next prewarmed kernel becomes ready.
READING_SECONDS = 30


def lab(rounds: int = 3) -> None:
    """Time alternately, `rounds` times, how long a user of JupyterLab waits for a result.

    The first polars cells run as soon as a kernel is available, and again after Restart. Browser
    and server share the processor with the kernel, as on a laptop.
    """
    browser.chromium()  # fail early if Chromium is not installed
    prepare()
    paths.TARGET.mkdir(exist_ok=True)
    seconds: dict[str, list[list[float]]] = {"Rust": [], "Python": []}
    with tempfile.TemporaryDirectory(prefix="bench-", dir=paths.TARGET) as scratch:
        empty = Path(scratch) / "python.ipynb"
        nbformat.write(new_notebook(PYTHON_KERNELSPEC, []), empty)
        for turn in range(rounds):
            print(f"round {turn + 1} of {rounds}", flush=True)
            walkthrough = paths.NOTEBOOKS / driver.NAME
            seconds["Rust"].append(waiting_times(walkthrough, RUST_FIRST))
            # A prewarming Rust kernel would use the processor.
            no_prewarming = {prewarmed.VARIABLE: "0"}
            seconds["Python"].append(
                waiting_times(empty, PYTHON_FIRST, *ALLOW_PYTHON, **no_prewarming)
            )
    rust, python = (map(statistics.median, zip(*each, strict=True)) for each in seconds.values())
    what = ("JupyterLab, to polars result", "kernel, to polars result", "Restart, to polars result")
    show([Row(*each) for each in zip(what, rust, python, strict=True)])


def waiting_times(
    notebook: Path, sources: list[str], *options: str, **environment: str
) -> list[float]:
    """Run cells in JupyterLab. Return seconds to their result since three events.

    The events are the start of `./justw lab`, the kernel's launch, and Restart. `options` are
    passed to JupyterLab, and `environment` is added to its environment variables.
    """
    started, launched = time.monotonic(), []
    with (
        tempfile.TemporaryDirectory() as scratch,
        driver.served(Path(scratch), *options, **environment) as address,
        browser.opened(viewport={"width": 1400, "height": 900}) as tab,
    ):
        tab.page.on(
            "request",
            lambda request: (
                request.method == "POST"
                and "/api/sessions" in request.url
                and launched.append(time.monotonic())
            ),
        )
        walkthrough = f"notebooks/{driver.NAME}"
        tab.page.goto(address.replace(walkthrough, str(notebook.relative_to(paths.ROOT))))
        notebook_page = driver.Lab(tab.page)
        notebook_page.wait_until_kernel()
        notebook_page.set_cells(sources)
        notebook_page.menu("Run", "Run All Cells")
        notebook_page.wait_until_run()
        first = time.monotonic()
        time.sleep(READING_SECONDS)
        notebook_page.reset_execution_counts()
        restarted = time.monotonic()
        notebook_page.restart("Restart Kernel and Run All Cells…")
        notebook_page.wait_until_run()
        return [first - started, first - launched[0], time.monotonic() - restarted]


def printed(client, code: str) -> str:
    """Run a cell and return its stdout.

    Raises:
        UserError: the cell failed or wrote to stderr.
    """
    texts, failed = [], []

    def collect(message):
        content = message["content"]
        if message["msg_type"] == "stream" and content["name"] == "stdout":
            texts.append(content["text"])
        elif message["msg_type"] in ("stream", "error"):
            failed.append(content.get("text") or "\n".join(content["traceback"]))

    client.execute_interactive(code, output_hook=collect, timeout=strict_run.CELL_SECONDS)
    if failed:
        raise errors.UserError("A cell of the benchmark failed:\n" + "".join(failed))
    return "".join(texts)
