"""Exported HTML works in a browser without a network: charts are interactive, nothing is loaded."""

import re
from urllib.parse import unquote

import nbformat
import pytest

from wearable_jupyter.bench import browser
from wearable_jupyter.export import charts, html
from wearable_jupyter.setup import paths

SCHEMES = ("light", "dark")


@pytest.fixture(scope="module")
def executed(walkthrough):
    notebook = nbformat.from_dict(walkthrough[0].executed)
    charts.add_pictures(notebook)
    return notebook


@pytest.fixture(scope="module")
def pages(executed, tmp_path_factory):
    """Paths of the exported HTML files: document and slides, each with and without code."""
    directory = tmp_path_factory.mktemp("html")

    def write(name: str, **options):
        path = directory / f"{name}.html"
        path.write_text(html.export(executed, "02a_lazy_join", **options))
        return path

    return {
        "document": write("document"),
        "no-code": write("no-code", no_code=True),
        "slides": write("slides", slides=True),
        "slides-no-code": write("slides-no-code", slides=True, no_code=True),
    }


@pytest.mark.parametrize("form", ["document", "no-code", "slides", "slides-no-code"])
def test_export_is_one_file_that_loads_nothing(pages, form):
    text = pages[form].read_text()
    assert len(text.encode()) < 6_500_000
    # plotly.js is embedded once, regardless of the number of charts.
    assert text.count("plotly.js v") == 1
    # No tag or style sheet has an external URL. The browser tests below check what scripts load.
    markup = re.sub(r"<script>.*?</script>", "", text, flags=re.S)
    tags = re.findall(r"<(?:script|link|img|iframe)\b[^>]*>", markup)
    assert not [tag for tag in tags if re.search(r"""(?:src|href)=["'](?!data:|#)""", tag)]
    assert not re.search(r"""@import|url\(["']?(?!["']?(?:data:|#))""", markup)
    assert '<html lang="en">' in text
    assert "<title>02a_lazy_join: lazy execution, query plans and streaming</title>" in text


@pytest.mark.parametrize("scheme", SCHEMES)
def test_document_is_interactive_in_a_browser(pages, scheme, chromium, assert_tooltip):
    with browser.opened(offline=True, color_scheme=scheme) as tab:
        page = tab.page
        page.goto(pages["document"].as_uri())
        points = page.locator(".js-plotly-plot .point")
        points.first.wait_for(state="attached")
        bars, scatter, zoomed = page.locator(".js-plotly-plot").all()
        assert zoomed.locator(".scatterlayer .trace").count() == 3
        assert bars.locator(".bars .point").count() == 2
        assert scatter.locator(".scatterlayer .point").count() == 2000
        assert scatter.locator(".legend .traces").count() == 3
        # Transparent points are visible, also on a dark background.
        opacity = float(scatter.locator(".point").first.evaluate("e => e.style.opacity"))
        assert opacity == pytest.approx(0.3 if scheme == "light" else 0.3**0.5)

        # Hovering shows the tooltip, clicking the legend hides a trace, and dragging zooms.
        scatter.scroll_into_view_if_needed()
        assert_tooltip(scatter)
        ranges = "document.querySelectorAll('.js-plotly-plot')[1].layout.xaxis.range[1]"
        before = page.evaluate(ranges)
        box = scatter.locator(".draglayer .nsewdrag").bounding_box()
        page.mouse.move(box["x"] + 100, box["y"] + 100)
        page.mouse.down()
        page.mouse.move(box["x"] + 300, box["y"] + 250, steps=5)
        page.mouse.up()
        page.wait_for_function(f"{ranges} < {before}")
        scatter.locator(".legend .legendtoggle").first.click()
        hidden = "document.querySelectorAll('.js-plotly-plot')[1].data.map(t => t.visible)"
        page.wait_for_function(f"{hidden}.includes('legendonly')")

        # Each link in the contents leads to a heading. The button switches the system's theme.
        links = page.locator("nav a").all()
        assert len(links) > 10
        for link in links:
            target = unquote(link.get_attribute("href").removeprefix("#"))
            assert page.evaluate("id => document.getElementById(id) !== null", target), target
        colour = "getComputedStyle(document.body).backgroundColor"
        first = page.evaluate(colour)
        page.locator("#theme").click()
        second = page.evaluate(colour)
        assert (first, second) == (
            ("rgb(255, 255, 255)", "rgb(20, 23, 27)")
            if scheme == "light"
            else ("rgb(20, 23, 27)", "rgb(255, 255, 255)")
        )
        # A plan's lines scroll instead of wrapping.
        plan = page.locator("[id='cell-id=explain'] .jp-OutputArea-output pre")
        assert plan.evaluate("e => getComputedStyle(e).whiteSpace") == "pre"
        assert plan.evaluate("e => e.scrollWidth > e.clientWidth && e.clientWidth < 1200")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        # Rust is highlighted.
        assert page.locator(".highlight .kd, .highlight .k").count() > 20
        assert (tab.outside, tab.errors) == ([], [])
        assert len(tab.requests) == 1


def test_charts_have_pictures_and_descriptions_without_javascript(pages, executed, chromium):
    with browser.opened(offline=True, java_script_enabled=False) as tab:
        tab.page.goto(pages["document"].as_uri())
        figures = tab.page.locator("figure.chart").all()
        assert len(figures) == 3
        for figure in figures:
            label = figure.get_attribute("aria-label")
            assert figure.get_attribute("role") == "img"
            picture = figure.locator("img")
            assert picture.get_attribute("alt") == label
            assert picture.evaluate("e => e.complete && e.naturalWidth > 300")
        assert "2000 nights" in label and "Female: 644 points" in label
    for cell, output in charts.charts(executed):
        assert output.data["image/png"] and output.metadata["image/png"]["alt"], cell.id


def test_no_code_exports_contain_no_code(pages, chromium):
    with browser.opened(offline=True) as tab:
        for form in ("no-code", "slides-no-code"):
            tab.page.goto(pages[form].as_uri())
            assert tab.page.locator(".jp-CodeMirrorEditor").count() == 0
            assert tab.page.locator("figure.chart").count() == 3
            assert tab.page.locator("table").count() >= 4


def test_print_is_light_and_contains_all_charts(pages, tmp_path, chromium):
    with browser.opened(offline=True, color_scheme="dark") as tab:
        page = tab.page
        page.goto(pages["document"].as_uri())
        page.locator(".js-plotly-plot").first.wait_for()
        page.pdf(path=tmp_path / "page.pdf", format="A4")
        page.emulate_media(media="print")
        assert (
            page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        )
        assert not page.locator("nav").is_visible()
        # Nothing is clipped on an A4 page with half-inch margins (700 px).
        page.set_viewport_size({"width": 700, "height": 1000})
        for chart in page.locator("figure.chart").all():
            assert chart.evaluate("e => e.scrollWidth <= e.clientWidth + 1")
            assert chart.locator(".main-svg").first.is_visible()
        for code in page.locator(".jp-OutputArea-output pre, .highlight pre").all():
            assert code.evaluate("e => e.scrollWidth <= e.clientWidth + 1")
    assert (tmp_path / "page.pdf").stat().st_size > 100_000


def test_each_slide_draws_its_charts(pages, chromium):
    with browser.opened(offline=True, viewport={"width": 1280, "height": 720}) as tab:
        page = tab.page
        page.goto(pages["slides"].as_uri())
        page.wait_for_function("window.Reveal && Reveal.isReady()")
        chart_slides = 0
        slides = page.evaluate("Reveal.getTotalSlides()")
        assert slides > 25
        for _ in range(slides):
            current = "Reveal.getCurrentSlide()"
            if page.evaluate(f"{current}.querySelector('figure.chart') !== null"):
                page.wait_for_function(f"{current}.querySelector('.main-svg') !== null")
                # The chart is visible and has labels, so plotly measured it on the visible slide.
                chart = page.locator("section section.present .js-plotly-plot")
                box = chart.bounding_box()
                assert box["y"] + box["height"] <= 720
                assert chart.locator(".ytitle").bounding_box()["width"] > 5
                chart_slides += 1
            # Nothing is wider than a slide. Taller content scrolls.
            assert page.evaluate(f"{current}.scrollWidth <= {current}.clientWidth")
            page.evaluate("Reveal.next()")
        assert chart_slides == 3
        assert page.evaluate("Reveal.isLastSlide()")
        assert (tab.outside, tab.errors) == ([], [])


def test_nbconvert_finds_the_exporter(executed, tmp_path):
    """`jupyter nbconvert --to walkthrough` works, and therefore JupyterLab's export menu."""
    import subprocess
    import sys

    nbformat.write(executed, tmp_path / "n.ipynb")
    command = [sys.executable, "-m", "nbconvert", "--to", "walkthrough", tmp_path / "n.ipynb"]
    subprocess.run(command, check=True, capture_output=True, cwd=paths.ROOT)
    assert 'class="chart' in (tmp_path / "n.html").read_text()
