"""The walkthrough in JupyterLab, in a browser, as a learner uses it."""

import json
import re

import pytest

from wearable_jupyter import browser, directories, spare
from wearable_jupyter.lab_driver import KERNEL, PANEL, SCREENSHOTS, Lab, served, stream

pytestmark = pytest.mark.usefixtures("nothing_left")


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


def test_the_walkthrough_in_jupyterlab(tmp_path, chromium, assert_tooltip):
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    with (
        served(tmp_path, **{spare.VARIABLE: "1"}) as address,
        browser.opened(viewport={"width": 1400, "height": 900}) as tab,
    ):
        page, lab = tab.page, Lab(tab.page)
        page.goto(address)
        page.locator(".jp-Notebook .jp-Cell").first.wait_for(timeout=60_000)
        page.wait_for_function(f"() => {PANEL}.content.widgets.some(w => w.model.id === 'write')")
        lab.wait_until_idle()
        page.screenshot(path=SCREENSHOTS / "top.png")
        # There is no other to choose by mistake.
        specs = page.evaluate("fetch('/api/kernelspecs').then(answer => answer.json())")
        assert (specs["default"], list(specs["kernelspecs"])) == ("rust", ["rust"])
        # It is the one that was warmed up meanwhile.
        (kernel,) = directories.found()
        assert "drop(spare);" in (kernel / "config" / "init.evcxr").read_text()
        assert not directories.is_spare(kernel)

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
        assert_tooltip(scatter)
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
