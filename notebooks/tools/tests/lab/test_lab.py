"""The walkthrough works in JupyterLab in a browser."""

import json
import re
from itertools import filterfalse

import pytest
from own_kernels import is_of_others

from wearable_jupyter.bench import browser
from wearable_jupyter.bench.driver import KERNEL, NAME, PANEL, SCREENSHOTS, Lab, served, stream
from wearable_jupyter.export import charts
from wearable_jupyter.kernel import directories, prewarmed
from wearable_jupyter.setup import paths

pytestmark = pytest.mark.usefixtures("nothing_left")


# A cell whose code the tests replace.
SCRATCH = "night-hours"
# The cell of 02a that fails on purpose.
FAILS = "moved"


def assert_all_ran(cells: dict[str, dict]) -> None:
    for name, cell in cells.items():
        assert not stream(cell, "stderr"), cell
        errors = [o for o in cell["outputs"] if o["output_type"] == "error"]
        assert bool(errors) == (name == FAILS), cell


def assert_failed(cell: dict, message: str) -> None:
    (error,) = (o for o in cell["outputs"] if o["output_type"] == "error")
    assert message in error["evalue"] and "".join(error["traceback"])


def assert_charts(lab: Lab) -> None:
    bars = lab.show("bar-chart").locator(".js-plotly-plot")
    bars.wait_for()
    assert bars.locator(".bars .point").count() == 2
    scatter = lab.show("scatter").locator(".js-plotly-plot")
    scatter.wait_for()
    assert scatter.locator(".scatterlayer .trace").count() == 3
    assert scatter.locator(".scatterlayer .point").count() == 2000


def test_walkthrough_works_in_jupyterlab(tmp_path, chromium, assert_tooltip):
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    with (
        served(tmp_path, **{prewarmed.VARIABLE: "1"}) as address,
        browser.opened(viewport={"width": 1400, "height": 900}) as tab,
    ):
        page, lab = tab.page, Lab(tab.page)
        page.goto(address)
        page.locator(".jp-Notebook .jp-Cell").first.wait_for(timeout=60_000)
        page.wait_for_function(f"() => {PANEL}.content.widgets.some(w => w.model.id === 'write')")
        lab.wait_until_idle()
        page.screenshot(path=SCREENSHOTS / "top.png")
        # JupyterLab offers no other kernel.
        specs = page.evaluate("fetch('/api/kernelspecs').then(answer => answer.json())")
        assert (specs["default"], list(specs["kernelspecs"])) == ("rust", ["rust"])
        # The notebook uses the prewarmed kernel.
        (kernel,) = filterfalse(is_of_others, directories.list_kernels())
        assert "drop(warm_up);" in (kernel / "config" / "init.evcxr").read_text()
        assert not directories.is_prewarmed(kernel)

        lab.menu("Run", "Run All Cells")
        lab.wait_until_run()
        cells = lab.cells()
        # The progress bar overwrites itself, so only its last state is left.
        (bar,) = re.findall(r"sensor_hrv [█░]+ .*", stream(cells["data-setup"], "stdout"))
        assert bar.endswith("100 %, 1,000,000 of 1,000,000 rows")
        assert len([cell for cell in cells.values() if cell["type"] == "code"]) > 25
        assert_all_ran(cells)
        # The cells that prewarm a kernel don't count.
        assert cells["load-library"]["count"] == 1

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

        # A failing cell shows the compiler's message, and all variables keep their values.
        lab.replace(SCRATCH, "let count: i32 = sample.height();")
        failed = lab.cells()[SCRATCH]
        (error,) = (o for o in failed["outputs"] if o["output_type"] == "error")
        message = lab.show(SCRATCH).locator(".jp-OutputArea")
        assert "mismatched types" in message.inner_text()
        assert "usize" in message.inner_text()
        page.screenshot(path=SCREENSHOTS / "error.png")
        assert error["traceback"]
        lab.replace(SCRATCH, 'println!("{} nights", sample.height());')
        assert stream(lab.cells()[SCRATCH], "stdout") == "2000 nights\n"

        # Completions and tooltips use the types of variables.
        lab.start(SCRATCH, "joined.coll", keys="Tab")
        page.locator(".jp-Completer-item", has_text="collect_with_engine").wait_for(timeout=60_000)
        page.keyboard.press("Escape")
        lab.start(SCRATCH, "joined", keys="Shift+Tab")
        page.locator(".jp-Tooltip", has_text="LazyFrame").wait_for(timeout=60_000)
        page.keyboard.press("Escape")

        for entry in ("Walkthrough", "Walkthrough_slides"):
            exported = lab.export(entry)
            assert len(re.findall(r'<figure [^>]*class="chart', exported)) == 3
            assert exported.count("plotly.js v") == 1

        # Run All stops at a cell whose check fails. Only this cell shows the error.
        source = lab.source("data-setup")
        lab.set_source("data-setup", f'{source}\nensure(1 == 2, "one is two")?;')
        lab.menu("Run", "Run All Cells")
        lab.wait_for_error("data-setup")
        lab.wait_until_idle()
        cells = lab.cells()
        assert_failed(cells["data-setup"], "This does not hold: one is two")
        code = [cell for cell in cells.values() if cell["type"] == "code"]
        at = code.index(cells["data-setup"])
        assert all(cell["count"] for cell in code[: at + 1])
        # JupyterLab clears the outputs of all cells before Run All.
        assert not any(cell["count"] or cell["outputs"] for cell in code[at + 1 :])
        lab.show("data-setup")
        page.wait_for_timeout(500)
        page.screenshot(path=SCREENSHOTS / "failed_check.png")
        lab.set_source("data-setup", source)

        # Interrupt stops a running query and keeps all variables, also repeatedly.
        rows = '"x" => (0..200_000i64).collect::<Vec<_>>(), "k" => vec![1i64; 200_000]'
        lab.replace(SCRATCH, f"let frame = df![{rows}]?;")
        join = 'frame.clone().lazy().join(frame.clone().lazy(), [col("k")], [col("k")], '
        join += 'JoinArgs::new(JoinType::Inner)).select([col("x").sum()])'
        for _ in range(3):
            lab.start(SCRATCH, f"{join}.collect_with_engine(Engine::Streaming)?;")
            page.wait_for_function(f"() => ({KERNEL})()?.status === 'busy'")
            page.wait_for_timeout(1500)
            lab.menu("Kernel", "Interrupt Kernel")
            lab.wait_for_error(SCRATCH)
            lab.wait_until_idle()
            assert_failed(lab.cells()[SCRATCH], "Variables of earlier cells are unchanged")
            lab.replace(SCRATCH, 'println!("{} {}", frame.height(), sorted_out.height());')
            assert stream(lab.cells()[SCRATCH], "stdout") == "200000 5250\n"

        # A cell that can't be interrupted prints that a second interrupt loses all variables.
        lab.start(SCRATCH, "loop { std::hint::spin_loop(); }")
        page.wait_for_function(f"() => ({KERNEL})()?.status === 'busy'")
        page.wait_for_timeout(2000)
        lab.menu("Kernel", "Interrupt Kernel")
        output = lab.show(SCRATCH).locator(".jp-OutputArea")
        output.get_by_text("Interrupt again to kill the process").wait_for(timeout=30_000)
        page.screenshot(path=SCREENSHOTS / "interrupted.png")
        lab.menu("Kernel", "Interrupt Kernel")
        lab.wait_for_error(SCRATCH)
        lab.wait_until_idle()
        assert_failed(lab.cells()[SCRATCH], "All variables are lost")
        lab.replace(SCRATCH, 'println!("on");')
        assert stream(lab.cells()[SCRATCH], "stdout") == "on\n"

        before = page.evaluate(f"({KERNEL})().id")
        for n in range(3):
            lab.restart("Restart Kernel…")
            lab.wait_until_idle()
            lab.replace(SCRATCH, f'println!("{n}");')
            assert stream(lab.cells()[SCRATCH], "stdout") == f"{n}\n"
        lab.restart("Restart Kernel and Run All Cells…")
        page.wait_for_function(
            f"() => {PANEL}.content.widgets.some(w => w.model.executionCount === null)"
        )
        lab.wait_until_run()
        assert page.evaluate(f"({KERNEL})().id") == before
        cells = lab.cells()
        assert cells[SCRATCH]["outputs"]
        assert_all_ran(cells)
        counts = [cell["count"] for cell in cells.values() if cell["type"] == "code"]
        assert counts == sorted(counts) and counts[0] == 1
        assert_charts(lab)

        assert tab.outside == []
        assert json.dumps(tab.errors) == "[]"


def test_plan_graph_fits_the_page_in_both_themes(tmp_path, chromium):
    """The plan graph of 02b is not wider than the page, and uses the theme's text colour."""
    with (
        served(tmp_path, **{prewarmed.VARIABLE: "0"}) as address,
        browser.opened(viewport={"width": 1280, "height": 900}) as tab,
    ):
        page, lab = tab.page, Lab(tab.page)
        page.goto(address.replace(NAME, "02b_what_the_engine_does.ipynb"))
        page.locator(".jp-Notebook .jp-Cell").first.wait_for(timeout=60_000)
        page.wait_for_function(f"() => {PANEL}.content.widgets.some(w => w.model.id === 'picture')")
        lab.wait_until_idle()
        lab.show("early-late")
        lab.menu("Run", "Run All Above Selected Cell")
        lab.wait_for_count("picture")
        assert_all_ran(lab.cells())
        colours = []
        for theme in ("JupyterLab Light", "JupyterLab Dark"):
            lab.menu("Settings", "Theme", theme)
            page.wait_for_function(f"() => document.body.dataset.jpThemeName === '{theme}'")
            output = lab.show("picture").locator(".jp-OutputArea-output:has(svg)")
            output.scroll_into_view_if_needed()
            graph, area = output.locator("svg").bounding_box(), output.bounding_box()
            assert 0 < graph["width"] <= area["width"] <= 1280
            page.wait_for_timeout(300)
            page.screenshot(path=SCREENSHOTS / f"picture-{theme.split()[1].lower()}.png")
            text = output.locator("svg text").first
            colours.append(text.evaluate("text => getComputedStyle(text).fill"))
        assert colours[0] != colours[1]


def test_file_browser_lists_only_notebooks(tmp_path, chromium):
    with (
        served(tmp_path, **{prewarmed.VARIABLE: "0"}) as address,
        browser.opened(viewport={"width": 1280, "height": 900}) as tab,
    ):
        page = tab.page
        page.goto(address)
        page.locator(".jp-Notebook .jp-Cell").first.wait_for(timeout=60_000)
        folder = page.locator(".jp-FileBrowser .jp-BreadCrumbs")
        folder.get_by_text("notebooks").wait_for()
        names = page.locator(".jp-DirListing-content .jp-DirListing-itemText")
        listed = sorted(names.all_inner_texts())
        assert listed == sorted(path.name for path in paths.NOTEBOOKS.glob("*.ipynb"))
        # All other files of the clone are one folder up, or open by their path.
        folder.locator(".jp-BreadCrumbs-home").click()
        page.locator(".jp-DirListing-itemText", has_text="crates").wait_for()
        contents = "path => fetch(`/api/contents/${path}`).then(answer => answer.json())"
        readme = page.evaluate(contents, "notebooks/tools/pyproject.toml")
        assert readme["content"] == (paths.NOTEBOOKS / "tools" / "pyproject.toml").read_text()


@pytest.mark.parametrize("theme", ["JupyterLab Light", "JupyterLab Dark"])
def test_text_and_callouts_look_like_an_exported_page(tmp_path, chromium, theme):
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    expected = {"Key insight": "insight", "Watch out": "warning", "Your turn": "task"}
    with (
        served(tmp_path, **{prewarmed.VARIABLE: "0"}) as address,
        browser.opened(viewport={"width": 1920, "height": 1080}) as tab,
    ):
        page, lab = tab.page, Lab(tab.page)
        page.goto(address)
        page.locator(".jp-Notebook .jp-Cell").first.wait_for(timeout=60_000)
        lab.wait_until_kernel()
        lab.menu("Settings", "Theme", theme)
        page.wait_for_function(f"() => document.body.dataset.jpThemeName === '{theme}'")
        callouts = "> **Key insight.** A\n\n> **Watch out.** B\n\n> **Your turn.** C\n\n"
        callouts += (
            "> **Five things.** D\n\n> A **bold** word\n\n| a | b |\n| --- | --- |\n| c | d |"
        )
        page.evaluate(
            f"""source => {{
                const notebook = {PANEL}.content.model.sharedModel;
                notebook.insertCells(0, [{{cell_type: "markdown", source}}]);
                {PANEL}.content.widgets[0].rendered = true;
                {PANEL}.content.scrollToItem(0, "start");
            }}""",
            f"# Title\n\n{'A line of text. ' * 40}\n\n{callouts}",
        )
        cell = page.locator(".jp-Notebook .jp-MarkdownOutput").first
        shown = cell.locator("blockquote.callout")
        cell.locator("blockquote.note").wait_for()
        kinds = {quote.get_attribute("aria-label"): quote for quote in shown.all()}
        assert set(kinds) == {*expected, "Five things"}
        assert cell.locator("blockquote").count() == 5
        for name, kind in expected.items():
            assert kind in kinds[name].get_attribute("class").split()
        look = "e => { const s = getComputedStyle(e); return s.borderStyle + s.borderLeftColor; }"
        assert len({quote.evaluate(look) for quote in kinds.values()}) == 4
        text = cell.locator("p").first.bounding_box()
        size = cell.locator("p").first.evaluate("e => parseFloat(getComputedStyle(e).fontSize)")
        assert text["width"] <= 43 * size  # about 75 characters
        assert cell.locator("table").bounding_box()["x"] == text["x"]
        page.screenshot(path=SCREENSHOTS / f"callouts-{theme.split()[1].lower()}.png")
        # A chart has the theme's background, and text that contrasts with it.
        points = {"x": [1, 2], "y": [3, 4], "mode": "markers", "marker": {"opacity": 0.3}}
        figure = {"data": [points], "layout": {"title": {"text": "A chart"}}}
        page.evaluate(
            f"""data => {{
                const outputs = [{{output_type: "display_data", data, metadata: {{}}}}];
                const metadata = {{trusted: true}};
                const cell = {{cell_type: "code", source: "", metadata, outputs}};
                {PANEL}.content.model.sharedModel.insertCells(0, [cell]);
                {PANEL}.content.scrollToItem(0, "start");
            }}""",
            {charts.MIME: figure},
        )
        chart = page.locator(".js-plotly-plot").first
        chart.locator(".gtitle").wait_for()
        fill = chart.locator(".gtitle").evaluate("e => getComputedStyle(e).fill")
        paper = chart.locator(".main-svg").first
        background = paper.evaluate("e => getComputedStyle(e).backgroundColor")
        expected = ("rgb(228, 231, 235)", "rgba(0, 0, 0, 0)")
        assert ((fill, background) == expected) == (theme == "JupyterLab Dark")
        page.screenshot(path=SCREENSHOTS / f"chart-{theme.split()[1].lower()}.png")
        assert (tab.outside, tab.errors) == ([], [])
