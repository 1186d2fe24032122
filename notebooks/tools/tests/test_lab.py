"""The walkthrough in JupyterLab, in a browser, as a learner uses it."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from contextlib import contextmanager

import browser
import pytest

from wearable_jupyter import layout

pytestmark = pytest.mark.usefixtures("nothing_left")

NAME = "02a_lazy_join.ipynb"
SCREENSHOTS = layout.OUTPUTS / "screenshots"
RUN_SECONDS = 150
PANEL = "jupyterapp.shell.currentWidget"
# What the front end holds of every cell, also of those that are scrolled out of its page.
CELLS = f"""() => {PANEL}.content.widgets.map(w => ({{
    id: w.model.id,
    type: w.model.type,
    count: w.model.executionCount ?? null,
    outputs: w.model.type === "code" ? w.model.outputs.toJSON() : [],
}}))"""
KERNEL = f"() => {PANEL}.sessionContext.session?.kernel"


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@contextmanager
def served(tmp_path):
    """`./justw lab` on a free port, without data; the address that it prints."""
    notebook = layout.NOTEBOOKS / NAME
    committed = notebook.read_bytes()  # JupyterLab saves of its own accord
    log = (tmp_path / "lab.log").open("w+")
    server = subprocess.Popen(
        [
            *(layout.ROOT / "justw", "lab", "--no-browser"),
            *(f"--ServerApp.port={free_port()}", "--LabApp.expose_app_in_browser=True"),
        ],
        env=os.environ
        | {
            "WEARABLE_DATA_DIR": str(tmp_path / "data"),
            "WEARABLE_OUTPUT_DIR": str(tmp_path / "outputs"),
        },
        stdout=log,
        stderr=log,
        start_new_session=True,
    )
    try:
        deadline, found = time.monotonic() + 120, None
        while found is None:
            assert server.poll() is None and time.monotonic() < deadline, log_text(log)
            time.sleep(0.2)
            found = re.search(r"http://127\.0\.0\.1:\d+/lab/tree/\S+", log_text(log))
        yield found[0]
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(30)
        log.close()
        notebook.write_bytes(committed)
        shutil.rmtree(layout.NOTEBOOKS / ".ipynb_checkpoints", ignore_errors=True)


def log_text(log) -> str:
    log.seek(0)
    return log.read()


class Lab:
    """A notebook in JupyterLab, driven as by hand."""

    def __init__(self, page) -> None:
        self.page = page

    def cells(self) -> dict[str, dict]:
        return {cell["id"]: cell for cell in self.page.evaluate(CELLS)}

    def menu(self, menu: str, entry: str) -> None:
        self.page.get_by_role("menuitem", name=menu, exact=True).click()
        self.page.get_by_role("menuitem", name=entry, exact=True).click()

    def wait_until_run(self) -> set[int]:
        """Wait for the last cell; returns how many lines the generation was seen to have."""
        deadline, seen = time.monotonic() + RUN_SECONDS, set()
        while True:
            cells = self.cells()
            code = [cell for cell in cells.values() if cell["type"] == "code"]
            seen.add(stream(cells["data-setup"], "stdout").count("sensor_hrv: part"))
            if all(cell["count"] for cell in code):
                return seen
            if time.monotonic() > deadline:
                self.page.screenshot(path=SCREENSHOTS / "waiting.png")
                pytest.fail(f"not run: {[c['id'] for c in code if not c['count']]}")
            time.sleep(0.05)

    def show(self, identity: str):
        """Scroll to a cell; its element."""
        self.page.evaluate(
            f"""id => {{
                const content = {PANEL}.content;
                const index = content.widgets.findIndex(w => w.model.id === id);
                content.activeCellIndex = index;
                return content.scrollToItem(index, "start");
            }}""",
            identity,
        )
        return self.page.locator(".jp-Cell.jp-mod-active")

    def replace(self, identity: str, source: str) -> None:
        """Type another source into a cell and run it with Shift+Enter."""
        cell = self.show(identity)
        before = self.cells()[identity]["count"]
        cell.locator(".cm-content").click()
        self.page.keyboard.press("ControlOrMeta+a")
        self.page.keyboard.insert_text(source)
        self.page.keyboard.press("Shift+Enter")
        self.page.wait_for_function(
            f"""([id, before]) => {{
                const m = {PANEL}.content.widgets.find(w => w.model.id === id).model;
                return m.executionCount !== null && m.executionCount !== before;
            }}""",
            arg=[identity, before],
            timeout=60_000,
        )


def stream(cell: dict, name: str) -> str:
    parts = (o["text"] for o in cell["outputs"] if o.get("name") == name)
    return "".join("".join(part) for part in parts)


def assert_all_ran(cells: dict[str, dict]) -> None:
    for cell in cells.values():
        assert not stream(cell, "stderr"), cell
        assert not any(o["output_type"] == "error" for o in cell["outputs"]), cell


def assert_charts(lab: Lab) -> None:
    bars = lab.show("bar-chart").locator(".js-plotly-plot")
    bars.wait_for()
    assert bars.locator(".bars .point").count() == 2
    scatter = lab.show("scatter").locator(".js-plotly-plot")
    scatter.wait_for()
    assert scatter.locator(".scatterlayer .trace").count() == 3
    assert scatter.locator(".scatterlayer .point").count() == 2000


def test_the_walkthrough_in_jupyterlab(tmp_path):
    browser.chromium()
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    with (
        served(tmp_path) as address,
        browser.opened(viewport={"width": 1400, "height": 900}) as tab,
    ):
        page, lab = tab.page, Lab(tab.page)
        page.goto(address)
        page.locator(".jp-Notebook .jp-Cell").first.wait_for(timeout=60_000)
        page.wait_for_function(f"() => {PANEL}.content.widgets.some(w => w.model.id === 'write')")
        page.wait_for_function(f"() => ({KERNEL})()?.status === 'idle'", timeout=60_000)
        page.screenshot(path=SCREENSHOTS / "top.png")

        lab.menu("Run", "Run All Cells")
        lines = lab.wait_until_run()
        assert len(lines) > 3, f"the generation's progress did not move: {lines}"
        cells = lab.cells()
        assert len([cell for cell in cells.values() if cell["type"] == "code"]) > 30
        assert_all_ran(cells)

        table = lab.show("collect-streaming").locator(".jp-OutputArea table")
        assert table.locator("tbody tr").count() == 10
        assert table.locator("th", has_text="n_nights").is_visible()
        assert_charts(lab)
        scatter = lab.page.locator(".jp-Cell.jp-mod-active .js-plotly-plot")
        scatter.scroll_into_view_if_needed()
        page.wait_for_timeout(500)
        page.screenshot(path=SCREENSHOTS / "scatter.png")
        browser.assert_tooltip(scatter)
        lab.show("bar-chart")
        page.wait_for_timeout(500)
        page.screenshot(path=SCREENSHOTS / "bars.png")

        # A cell that fails says why, and takes nothing with it.
        lab.replace("correlation", "let count: i32 = sample.height();")
        failed = lab.cells()["correlation"]
        (error,) = (o for o in failed["outputs"] if o["output_type"] == "error")
        message = lab.show("correlation").locator(".jp-OutputArea")
        assert "mismatched types" in message.inner_text()
        assert "usize" in message.inner_text()
        page.screenshot(path=SCREENSHOTS / "error.png")
        assert error["traceback"]
        lab.replace("correlation", 'println!("{} nights", sample.height());')
        assert stream(lab.cells()["correlation"], "stdout") == "2000 nights\n"

        before = page.evaluate(f"({KERNEL})().id")
        lab.menu("Kernel", "Restart Kernel and Run All Cells…")
        page.get_by_role("button", name="Confirm Kernel Restart").click()
        page.wait_for_function(
            f"() => {PANEL}.content.widgets.some(w => w.model.executionCount === null)"
        )
        lab.wait_until_run()
        assert page.evaluate(f"({KERNEL})().id") == before
        cells = lab.cells()
        assert_all_ran(cells)
        counts = [cell["count"] for cell in cells.values() if cell["type"] == "code"]
        assert counts == sorted(counts) and counts[0] <= 2
        assert_charts(lab)

        assert tab.outside == []
        assert json.dumps(tab.errors) == "[]"
