"""Start JupyterLab and control it in a browser, for tests and benchmarks."""

import os
import re
import shutil
import signal
import socket
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import TimeoutError

from ..bootstrap import platform
from ..setup import paths

NAME = "02a_lazy_join.ipynb"
SCREENSHOTS = paths.OUTPUTS / "screenshots"
RUN_SECONDS = 150
PANEL = "jupyterapp.shell.currentWidget"
# JavaScript that returns the front end's model of each cell, including cells outside the view.
CELLS = f"""() => {PANEL}.content.widgets.map(w => ({{
    id: w.model.id,
    type: w.model.type,
    count: w.model.executionCount ?? null,
    outputs: w.model.type === "code" ? w.model.outputs.toJSON() : [],
}}))"""
MODEL = f"{PANEL}.content.widgets.find(w => w.model.id === id).model"
KERNEL = f"() => {PANEL}.sessionContext.session?.kernel"


def free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


@contextmanager
def served(directory: Path, *options: str, **environment: str):
    """Run `./justw lab` on a free port without a dataset, and yield the address that it prints.

    Log, data and outputs are stored in `directory`. `options` are passed to JupyterLab, and
    `environment` is added to its environment variables.
    """
    # JupyterLab autosaves notebooks; they are restored at the end.
    committed = {path: path.read_bytes() for path in paths.NOTEBOOKS.glob("*.ipynb")}
    log = (directory / "lab.log").open("w+")
    server = subprocess.Popen(
        [
            *(paths.ROOT / "justw", "lab", "--no-browser"),
            *(f"--ServerApp.port={free_port()}", "--LabApp.expose_app_in_browser=True"),
            # The user's workspaces would reopen other tabs, and the user's settings have a theme.
            f"--LabApp.workspaces_dir={directory / 'workspaces'}",
            f"--LabApp.user_settings_dir={directory / 'settings'}",
            *options,
        ],
        env=os.environ
        | {
            "WEARABLE_DATA_DIR": str(directory / "data"),
            "WEARABLE_OUTPUT_DIR": str(directory / "outputs"),
            **environment,
        },
        stdout=log,
        stderr=log,
        start_new_session=True,
    )
    try:
        deadline, address = time.monotonic() + 120, None
        while address is None:
            assert server.poll() is None and time.monotonic() < deadline, log_text(log)
            time.sleep(0.2)
            address = re.search(r"http://127\.0\.0\.1:\d+/lab/tree/\S+", log_text(log))
        yield address[0]
    finally:
        platform.signal_group(server.pid, signal.SIGTERM)
        server.wait(30)
        log.close()
        for notebook, source in committed.items():
            notebook.write_bytes(source)
        shutil.rmtree(paths.NOTEBOOKS / ".ipynb_checkpoints", ignore_errors=True)


def log_text(log) -> str:
    log.seek(0)
    return log.read()


def stream(cell: dict, name: str) -> str:
    """Return a cell's output on the stream `stdout` or `stderr`."""
    parts = (o["text"] for o in cell["outputs"] if o.get("name") == name)
    return "".join("".join(part) for part in parts)


class Lab:
    """An open notebook in JupyterLab, controlled like a user would."""

    def __init__(self, page) -> None:
        self.page = page

    def cells(self) -> dict[str, dict]:
        return {cell["id"]: cell for cell in self.page.evaluate(CELLS)}

    def menu(self, menu: str, *entries: str) -> None:
        self.page.get_by_role("menuitem", name=menu, exact=True).click()
        for entry in entries:
            # Match the label only, because an accessible name includes the keyboard shortcut.
            label = re.compile(f"^{re.escape(entry)}$")
            self.page.locator(".lm-Menu-itemLabel", has_text=label).click()

    def wait_until_kernel(self) -> None:
        """Wait until the notebook is loaded and a kernel has been requested."""
        ready = f"{PANEL}.context.isReady && {PANEL}.content.widgets.length && ({KERNEL})()"
        ready = f"() => {{ try {{ return !!({ready}); }} catch {{ return false; }} }}"
        self.page.wait_for_function(ready, timeout=60_000, polling=100)

    def set_cells(self, sources: list[str]) -> None:
        """Replace all cells of the notebook with code cells."""
        self.page.evaluate(
            f"""sources => {{
                const notebook = {PANEL}.content.model.sharedModel;
                notebook.deleteCellRange(0, notebook.cells.length);
                notebook.insertCells(0, sources.map(source => ({{cell_type: "code", source}})));
            }}""",
            sources,
        )

    def reset_execution_counts(self) -> None:
        """Remove the execution counts, so that `wait_until_run` waits for the next run."""
        self.page.evaluate(
            f"""() => {PANEL}.content.widgets
                .filter(w => w.model.type === "code")
                .forEach(w => {{ w.model.executionCount = null; }})"""
        )

    def wait_until_idle(self) -> None:
        """Wait until the kernel is idle after a start or restart."""
        state = f"() => [({KERNEL})()?.status, ({KERNEL})()?.connectionStatus]"
        idle = f"() => ({state})()[0] === 'idle'"
        try:
            self.page.wait_for_function(idle, timeout=60_000)
        except TimeoutError:
            self.page.screenshot(path=SCREENSHOTS / "waiting.png")
            raise AssertionError(
                f"the kernel did not become idle, its state is {self.page.evaluate(state)}"
            ) from None

    def wait_until_run(self) -> None:
        """Wait until all code cells have run."""
        deadline = time.monotonic() + RUN_SECONDS
        while True:
            cells = self.cells()
            code = [cell for cell in cells.values() if cell["type"] == "code"]
            if all(cell["count"] for cell in code):
                return
            if time.monotonic() > deadline:
                self.page.screenshot(path=SCREENSHOTS / "waiting.png")
                raise AssertionError(
                    f"cells did not run: {[c['id'] for c in code if not c['count']]}"
                )
            time.sleep(0.05)

    def show(self, identity: str):
        """Scroll to a cell and return its element."""
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
        """Replace a cell's source by typing, run the cell and wait until it ends."""
        self.start(identity, source)
        self.wait_for_count(identity)

    def start(self, identity: str, source: str, keys: str = "Shift+Enter") -> None:
        """Replace a cell's source by typing, and press `keys` without waiting."""
        cell = self.show(identity)
        # A new kernel counts from one, so the old count could equal the new one.
        self.page.evaluate(f"id => {{ {MODEL}.executionCount = null; }}", identity)
        cell.locator(".cm-content").click()
        self.page.keyboard.press("ControlOrMeta+a")
        self.page.keyboard.insert_text(source)
        self.page.keyboard.press(keys)

    def source(self, identity: str) -> str:
        """Return a cell's source."""
        return self.page.evaluate(f"id => {MODEL}.sharedModel.getSource()", identity)

    def set_source(self, identity: str, source: str) -> None:
        """Replace a cell's source without running the cell."""
        setting = f"([id, source]) => {MODEL}.sharedModel.setSource(source)"
        self.page.evaluate(setting, [identity, source])

    def wait_for_error(self, identity: str) -> None:
        """Wait until a cell shows an error."""
        failed = f"id => {MODEL}.outputs.toJSON().some(o => o.output_type === 'error')"
        self.page.wait_for_function(failed, arg=identity, timeout=60_000)

    def wait_for_count(self, identity: str) -> None:
        """Wait until a cell has an execution count, which means that it ended."""
        ended = f"id => {MODEL}.executionCount !== null"
        self.page.wait_for_function(ended, arg=identity, timeout=60_000)

    def restart(self, entry: str) -> None:
        """Restart the kernel with an entry of the Kernel menu, and confirm."""
        self.menu("Kernel", entry)
        with self.page.expect_response(re.compile(r"/api/kernels/.*/restart")) as restarted:
            self.page.get_by_role("button", name="Confirm Kernel Restart").click()
        assert restarted.value.ok

    def export(self, entry: str) -> str:
        """Return the HTML that File > Save and Export Notebook As downloads."""
        with self.page.context.expect_event(
            "response",
            lambda response: "/nbconvert/" in response.url and "download" in response.url,
        ) as saved:
            self.menu("File", "Save and Export Notebook As", entry)
        address = saved.value.url
        assert saved.value.ok and address.split("/nbconvert/")[1].startswith(f"{entry.lower()}/")
        return self.page.request.get(address, headers={"Referer": self.page.url}).text()
