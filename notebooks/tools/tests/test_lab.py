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
from playwright.sync_api import TimeoutError

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
MODEL = f"{PANEL}.content.widgets.find(w => w.model.id === id).model"
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

    def menu(self, menu: str, *entries: str) -> None:
        self.page.get_by_role("menuitem", name=menu, exact=True).click()
        for entry in entries:
            # By the label alone: an entry's accessible name also has its keyboard shortcut.
            label = re.compile(f"^{re.escape(entry)}$")
            self.page.locator(".lm-Menu-itemLabel", has_text=label).click()

    def wait_until_idle(self) -> None:
        """Wait for a kernel that has started or restarted."""
        state = f"() => [({KERNEL})()?.status, ({KERNEL})()?.connectionStatus]"
        idle = f"() => ({state})()[0] === 'idle'"
        try:
            self.page.wait_for_function(idle, timeout=60_000)
        except TimeoutError:
            self.page.screenshot(path=SCREENSHOTS / "waiting.png")
            pytest.fail(f"the kernel is not idle but {self.page.evaluate(state)}")

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
        """Type another source into a cell and run it to its end."""
        self.start(identity, source)
        self.wait_for_count(identity)

    def start(self, identity: str, source: str, keys: str = "Shift+Enter") -> None:
        """Type another source into a cell and press a key there."""
        cell = self.show(identity)
        # A new kernel counts from one again, so a changed number would not tell.
        self.page.evaluate(f"id => {{ {MODEL}.executionCount = null; }}", identity)
        cell.locator(".cm-content").click()
        self.page.keyboard.press("ControlOrMeta+a")
        self.page.keyboard.insert_text(source)
        self.page.keyboard.press(keys)

    def wait_for_count(self, identity: str) -> None:
        """Wait for the end of a cell."""
        ended = f"id => {MODEL}.executionCount !== null"
        self.page.wait_for_function(ended, arg=identity, timeout=60_000)

    def restart(self, entry: str) -> None:
        """Restart the kernel by an entry of its menu."""
        self.menu("Kernel", entry)
        with self.page.expect_response(re.compile(r"/api/kernels/.*/restart")) as restarted:
            self.page.get_by_role("button", name="Confirm Kernel Restart").click()
        assert restarted.value.ok

    def export(self, entry: str) -> str:
        """What File > Save and Export Notebook As saves; the browser would download it."""
        with self.page.context.expect_event(
            "response",
            lambda response: "/nbconvert/" in response.url and "download" in response.url,
        ) as saved:
            self.menu("File", "Save and Export Notebook As", entry)
        address = saved.value.url
        assert saved.value.ok and address.split("/nbconvert/")[1].startswith(f"{entry.lower()}/")
        return self.page.request.get(address, headers={"Referer": self.page.url}).text()


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
        lab.wait_until_idle()
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
        browser.assert_tooltip(scatter)
        page.screenshot(path=SCREENSHOTS / "scatter.png")
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

        # Completions and hovers know the types of variables.
        lab.start("correlation", "joined.coll", keys="Tab")
        page.locator(".jp-Completer-item", has_text="collect_with_engine").wait_for(timeout=60_000)
        page.keyboard.press("Escape")
        lab.start("correlation", "joined", keys="Shift+Tab")
        page.locator(".jp-Tooltip", has_text="LazyFrame").wait_for(timeout=60_000)
        page.keyboard.press("Escape")

        for entry in ("Walkthrough", "Walkthrough_slides"):
            exported = lab.export(entry)
            assert len(re.findall(r'<figure [^>]*class="chart', exported)) == 2
            assert exported.count("plotly.js v") == 1

        # Interrupt ends a cell that would run on for ever, and its variables; one can go on.
        lab.start("correlation", "loop { std::hint::spin_loop(); }")
        page.wait_for_function(f"() => ({KERNEL})()?.status === 'busy'")
        page.wait_for_timeout(2000)
        lab.menu("Kernel", "Interrupt Kernel")
        lab.wait_for_count("correlation")
        (error,) = lab.cells()["correlation"]["outputs"]
        assert "signal: 9" in error["evalue"]
        lab.replace("correlation", 'println!("on");')
        assert stream(lab.cells()["correlation"], "stdout") == "on\n"

        before = page.evaluate(f"({KERNEL})().id")
        for n in range(3):
            lab.restart("Restart Kernel…")
            lab.wait_until_idle()
            lab.replace("correlation", f'println!("{n}");')
            assert stream(lab.cells()["correlation"], "stdout") == f"{n}\n"
        lab.restart("Restart Kernel and Run All Cells…")
        page.wait_for_function(
            f"() => {PANEL}.content.widgets.some(w => w.model.executionCount === null)"
        )
        lab.wait_until_run()
        assert page.evaluate(f"({KERNEL})().id") == before
        cells = lab.cells()
        assert cells["correlation"]["outputs"]
        assert_all_ran(cells)
        counts = [cell["count"] for cell in cells.values() if cell["type"] == "code"]
        assert counts == sorted(counts) and counts[0] <= 2
        assert_charts(lab)

        assert tab.outside == []
        assert json.dumps(tab.errors) == "[]"
