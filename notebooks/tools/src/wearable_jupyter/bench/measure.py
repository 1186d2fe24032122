"""How quick a kernel is, beside Python's.

Not a test: times depend on the machine and on what else it does. Compare what one call prints.
"""

import os
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
PYTHON = Path(__file__).with_name("python_walkthrough.py")
# The phases of a cell that are not its own.
OVERHEAD = ("analysis", "compilation", "delivery")


class Stopwatch(strict_run.StrictClient):
    """Keeps what the kernel says of each cell: its phases, in seconds, as `Running` has them.

    A cell's overhead is its wall time without its `run`.
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
    """A notebook of these cells."""
    notebook = nbformat.v4.new_notebook(metadata={"kernelspec": kernelspec})
    notebook.cells = [nbformat.v4.new_code_cell(source.strip()) for source in sources]
    return notebook


def timed(client) -> float:
    """Seconds from the launch of the client's kernel to the end of its last cell."""
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
    """Measure `rounds` times, alternating, and print medians as a table and as bars."""
    prepare()
    resources = {"metadata": {"path": str(paths.NOTEBOOKS)}}
    first, whole, median, worst = [], [], [], []
    phases: dict[str, list[float]] = {name: [] for name in OVERHEAD}
    python_first, python_whole = [], []
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["WEARABLE_DATA_DIR"] = str(Path(scratch) / "data")
        os.environ["WEARABLE_OUTPUT_DIR"] = str(Path(scratch) / "outputs")
        run_binary("generate_demo_data", "--output-dir", os.environ["WEARABLE_DATA_DIR"])
        for turn in range(rounds):
            print(f"round {turn + 1} of {rounds}", flush=True)
            short = new_notebook(KERNELSPEC, RUST_FIRST)
            first.append(timed(strict_run.StrictClient(short, resources=resources)))
            notebook = nbformat.read(paths.NOTEBOOKS / "02a_lazy_join.ipynb", as_version=4)
            client = Stopwatch(notebook, resources=resources)
            whole.append(timed(client))
            # The first two cells load the library and infer the first type: see the first figure.
            overhead = client.overhead[2:]
            median.append(statistics.median(overhead))
            worst.append(max(overhead))
            for name, seconds in phases.items():
                seconds.append(statistics.median(client.phases[name][2:]))
            python_first.append(
                timed(NotebookClient(new_notebook(PYTHON_KERNELSPEC, PYTHON_FIRST)))
            )
            cells = PYTHON.read_text().split("# %%\n")[1:]
            python_whole.append(timed(NotebookClient(new_notebook(PYTHON_KERNELSPEC, cells))))
    show(
        [
            Row("launch to first polars result", *map(statistics.median, (first, python_first))),
            Row("whole walkthrough, headless", *map(statistics.median, (whole, python_whole))),
            Row("overhead of a cell, median", statistics.median(median)),
            *(Row(f"  {name}", statistics.median(seconds)) for name, seconds in phases.items()),
            Row("overhead of a cell, worst", statistics.median(worst)),
        ]
    )


# The manager of `./justw lab` knows the Rust kernel only.
ALLOW_PYTHON = (
    "--ServerApp.kernel_spec_manager_class=jupyter_client.kernelspec.KernelSpecManager",
    f"--KernelSpecManager.allowed_kernelspecs={PYTHON_KERNELSPEC['name']}",
)
# For a spare kernel to be there and warm again, while somebody reads.
READING_SECONDS = 30


def lab(rounds: int = 3) -> None:
    """Measure `rounds` times, alternating, what somebody waits for in JupyterLab, in Chromium.

    The first polars cells are run as soon as there is a kernel for them, and again after Restart.
    Browser and server share the processor with the kernel, as on a laptop.
    """
    browser.chromium()  # or say at once that there is none
    prepare()
    paths.TARGET.mkdir(exist_ok=True)
    seconds: dict[str, list[list[float]]] = {"Rust": [], "Python": []}
    with tempfile.TemporaryDirectory(prefix="bench-", dir=paths.TARGET) as scratch:
        empty = Path(scratch) / "python.ipynb"
        nbformat.write(new_notebook(PYTHON_KERNELSPEC, []), empty)
        for turn in range(rounds):
            print(f"round {turn + 1} of {rounds}", flush=True)
            walkthrough = paths.NOTEBOOKS / driver.NAME
            seconds["Rust"].append(waited(walkthrough, RUST_FIRST))
            # A Rust kernel that warms up would be in its way.
            alone = {prewarmed.VARIABLE: "0"}
            seconds["Python"].append(waited(empty, PYTHON_FIRST, *ALLOW_PYTHON, **alone))
    rust, python = (map(statistics.median, zip(*each, strict=True)) for each in seconds.values())
    what = ("JupyterLab, to polars result", "kernel, to polars result", "Restart, to polars result")
    show([Row(*each) for each in zip(what, rust, python, strict=True)])


def waited(notebook: Path, sources: list[str], *options: str, **environment: str) -> list[float]:
    """Seconds to the result of these cells, from `./justw lab`, the kernel's launch, Restart.

    `options` are JupyterLab's, `environment` is set for it.
    """
    begun, launched = time.monotonic(), []
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
        driven = driver.Lab(tab.page)
        driven.wait_until_kernel()
        driven.set_cells(sources)
        driven.menu("Run", "Run All Cells")
        driven.wait_until_run()
        first = time.monotonic()
        time.sleep(READING_SECONDS)
        driven.forget_counts()
        restarted = time.monotonic()
        driven.restart("Restart Kernel and Run All Cells…")
        driven.wait_until_run()
        return [first - begun, first - launched[0], time.monotonic() - restarted]


def printed(client, code: str) -> str:
    """What a cell prints; raises `UserError` if it fails."""
    texts, failed = [], []

    def collect(message):
        content = message["content"]
        if message["msg_type"] == "stream" and content["name"] == "stdout":
            texts.append(content["text"])
        elif message["msg_type"] in ("stream", "error"):
            failed.append(content.get("text") or "\n".join(content["traceback"]))

    client.execute_interactive(code, output_hook=collect, timeout=strict_run.CELL_SECONDS)
    if failed:
        raise errors.UserError("a cell failed:\n" + "".join(failed))
    return "".join(texts)
