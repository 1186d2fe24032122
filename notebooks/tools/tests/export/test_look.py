"""The look of an exported page: lines, callouts, folded code, errors, tables, phones, print."""

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from wearable_jupyter.bench import browser
from wearable_jupyter.export import charts, html

SENTENCE = "The scan reads four of fourteen columns, because the summary needs no others. "
MARKDOWN = f"""# A title

{SENTENCE * 8}

- {SENTENCE * 4}

> **Key insight.** {SENTENCE * 3}

> **Watch out!** A short one.

> **Your turn:** change `lit(22)`.
>
> 1. Run it.

> **Five things about Rust.** `?` and more.

> A quotation with **bold** text.

<details><summary>Python</summary>

```python
pl.scan_parquet("{"x" * 120}")
```

</details>

| polars in Python | polars in Rust |
| --- | --- |
| `a \\| b` | `col("a").or(col("{"b" * 90}"))` |

## A section
"""
PLAN = "FILTER " + 'col("missingness_score") ' * 12
CODE = f'let plan = "{"y" * 150}";'


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The exported page of a notebook with each kind of content."""
    wide = "<table class='dataframe'><thead><tr>" + "<th>column_name</th>" * 30
    wide += "</tr></thead><tbody><tr>" + "<td>1.25</td>" * 30 + "</tr></tbody></table>"
    trace = ["\x1b[31mE:\x1b[0m moved", "\x1b[38;5;249mlet x\x1b[0m = \x1b[38;5;246my;\x1b[0m"]
    # evcxr's colours of the first labels
    trace += [f"\x1b[38;5;{colour}mlabel\x1b[0m" for colour in (54, 100, 68, 37)]
    error = new_output("error", ename="E", evalue="moved", traceback=trace)
    layout = {"title": {"text": "T" * 40}, "width": 850, "height": 400, "showlegend": True}
    points = {"x": [1, 2], "y": [3, 4], "mode": "markers", "marker": {"opacity": 0.3}}
    figure = {"data": [points], "layout": layout}
    shown = [
        new_output("display_data", {charts.MIME: figure}),
        new_output("stream", text=PLAN),
        new_output("display_data", {"text/html": f"<div style='overflow-x: auto'>{wide}</div>"}),
    ]
    cells = [
        new_markdown_cell(MARKDOWN),
        new_code_cell(CODE, outputs=shown, execution_count=1),
        new_code_cell(
            "wrong", outputs=[error], execution_count=2, metadata={"tags": ["raises-exception"]}
        ),
        new_code_cell("fails", outputs=[error], execution_count=3),
    ]
    metadata = {"kernelspec": {"name": "rust", "display_name": "Rust", "language": "rust"}}
    notebook = nbformat.from_dict(new_notebook(cells=cells, metadata=metadata))
    path = tmp_path_factory.mktemp("look") / "page.html"
    path.write_text(html.export(notebook, "page"))
    return path


@pytest.fixture
def opened(page, chromium):
    """Open the page in a browser with these options; check that it requests nothing."""

    def work(**options):
        return browser.opened(offline=True, **options)

    return work


def show(tab, page):
    tab.page.goto(page.as_uri())
    tab.page.wait_for_load_state()
    return tab.page


# The number of characters in each line of the element with this selector.
LINES = """selector => {
  const lines = new Map(), range = document.createRange();
  const texts = document.createTreeWalker(document.querySelector(selector), NodeFilter.SHOW_TEXT);
  for (let text; text = texts.nextNode();)
    for (let at = 0; at < text.length; at++) {
      range.setStart(text, at); range.setEnd(text, at + 1);
      const top = Math.round(range.getBoundingClientRect().top / 4);
      lines.set(top, (lines.get(top) ?? 0) + 1);
    }
  return [...lines.values()];
}"""
# The contrast of an element's text and the first opaque background behind it.
CONTRAST = """element => {
  const canvas = new OffscreenCanvas(1, 1).getContext("2d", {willReadFrequently: true});
  const rgba = colour => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const linear = v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
  const luminance = ([r, g, b]) =>
    0.2126 * linear(r / 255) + 0.7152 * linear(g / 255) + 0.0722 * linear(b / 255);
  let behind = element;
  const background = () => rgba(getComputedStyle(behind).backgroundColor);
  while (background()[3] < 255) behind = behind.parentElement;
  const [a, b] = [luminance(rgba(getComputedStyle(element).color)), luminance(background())];
  return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
}"""


@pytest.mark.parametrize("width", [1024, 1280, 1920])
def test_lines_of_text_have_about_75_characters(page, opened, width):
    with opened(viewport={"width": width, "height": 900}) as tab:
        tabbed = show(tab, page)
        for selector in ("main p", "main li", "blockquote p"):
            lines = tabbed.evaluate(LINES, selector)
            assert 50 < max(lines) <= 85, selector
        code = tabbed.locator(".jp-InputArea-editor").first.bounding_box()
        assert code["width"] > 780  # 100 columns of code fit
        assert (tab.outside, tab.errors) == ([], [])


def test_page_does_not_scroll_sideways_on_a_phone(page, opened):
    with opened(viewport={"width": 390, "height": 844}, is_mobile=True, has_touch=True) as tab:
        tabbed = show(tab, page)
        assert tabbed.evaluate("document.documentElement.scrollWidth") == 390
        # Wide content scrolls by itself.
        for selector in ("main pre", ".table", ".jp-OutputArea-output div:has(> table)"):
            element = tabbed.locator(selector).last
            assert element.bounding_box()["width"] <= 390
        wide = "e => e.scrollWidth > e.clientWidth && getComputedStyle(e).overflowX === 'auto'"
        assert tabbed.locator(".jp-InputArea-editor pre").first.evaluate(wide)
        # Code in a table of the text wraps, so that all columns are visible.
        assert tabbed.locator(".table").first.evaluate("e => e.scrollWidth <= e.clientWidth")
        # A chart fits, and has no buttons on its title.
        chart = tabbed.locator(".chart .main-svg").first.bounding_box()
        assert 250 < chart["width"] <= 390
        assert not tabbed.locator(".chart .modebar-btn").count()
        assert not tabbed.locator("nav details").get_attribute("open")
        size = "e => parseFloat(getComputedStyle(e).fontSize)"
        assert tabbed.locator("main p").first.evaluate(size) >= 16


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_callouts_are_distinct_and_readable_in_both_themes(page, opened, scheme):
    with opened(viewport={"width": 1280, "height": 900}, color_scheme=scheme) as tab:
        tabbed = show(tab, page)
        callouts = tabbed.locator("blockquote.callout").all()
        kinds = [callout.get_attribute("class") for callout in callouts]
        expected = ["callout insight", "callout warning", "callout task", "callout note"]
        assert kinds == expected
        labels = [callout.get_attribute("aria-label") for callout in callouts]
        assert labels == ["Key insight", "Watch out", "Your turn", "Five things about Rust"]
        assert tabbed.locator("blockquote").count() == 5
        # Without colour, the mark and the border differ.
        looks = [
            callout.evaluate(
                "e => getComputedStyle(e.querySelector('strong'), '::before').content"
                " + getComputedStyle(e).borderStyle"
            )
            for callout in callouts
        ]
        assert len(set(looks)) == 4
        for callout in callouts:
            assert callout.locator("strong").first.evaluate(CONTRAST) >= 4.5
            assert callout.locator("p").first.evaluate(CONTRAST) >= 7
        # plotly's text has the page's colour, which the page's background contrasts with.
        colour = "e => getComputedStyle(e).fill"
        page_colour = tabbed.locator("main p").first.evaluate("e => getComputedStyle(e).color")
        for selector in (".gtitle", ".xtick text", ".legendtext"):
            assert tabbed.locator(f".chart {selector}").first.evaluate(colour) == page_colour
        labels = tabbed.locator(".error").first.locator("span", has_text="label").all()
        assert len(labels) == 4
        for span in labels:
            assert span.evaluate(CONTRAST) >= 4.5
        texts = (".error-label", "summary", "nav a", ".jp-OutputArea-output pre", "main p")
        for selector in (*texts, ".error span[style*='178']", ".error span[style*='148']"):
            assert tabbed.locator(selector).first.evaluate(CONTRAST) >= 4.5, selector


def test_code_differs_from_output_and_errors_are_labelled(page, opened):
    with opened(viewport={"width": 1280, "height": 900}) as tab:
        tabbed = show(tab, page)
        colour = "e => getComputedStyle(e).backgroundColor"
        code = tabbed.locator(".jp-InputArea-editor").first.evaluate(colour)
        output = tabbed.locator(".jp-Cell-outputWrapper").first.evaluate(colour)
        assert code != output
        # The number of a cell covers no code.
        prompt = tabbed.locator(".jp-InputPrompt:visible").first.bounding_box()
        first = tabbed.locator(".jp-InputArea-editor").first.bounding_box()
        assert prompt["y"] + prompt["height"] <= first["y"] + 1
        editor, below = (
            tabbed.locator(selector).first.bounding_box()
            for selector in (".jp-InputArea-editor", ".jp-Cell-outputWrapper")
        )
        assert (editor["x"], editor["width"]) == (below["x"], below["width"])
        assert editor["y"] + editor["height"] == pytest.approx(below["y"], abs=1)
        labels = tabbed.locator(".error-label").all_inner_texts()
        assert labels == ["Error, as intended", "Error"]
        assert "E: moved" in tabbed.locator(".error pre").first.inner_text()


def test_charts_are_dark_on_light_in_print(page, opened, tmp_path):
    with opened(viewport={"width": 1280, "height": 900}, color_scheme="dark") as tab:
        tabbed = show(tab, page)
        colour = "e => getComputedStyle(e).fill"
        title = tabbed.locator(".chart .gtitle")
        on_screen = title.evaluate(colour)
        tabbed.evaluate(
            "addEventListener('beforeprint', () => { window.printed = "
            "getComputedStyle(document.querySelector('.chart .gtitle')).fill; })"
        )
        tabbed.pdf(path=tmp_path / "page.pdf")  # fires `beforeprint` and `afterprint`
        assert tabbed.evaluate("printed") == "rgb(31, 35, 40)" != on_screen
        assert title.evaluate(colour) == on_screen


def test_python_code_is_folded_on_screen_and_open_in_print(page, opened, tmp_path):
    with opened(viewport={"width": 1280, "height": 900}) as tab:
        tabbed = show(tab, page)
        python = tabbed.locator("details", has_text="Python").locator("pre")
        assert not python.is_visible()
        tabbed.locator("summary", has_text="Python").click()
        assert python.is_visible()
        tabbed.locator("summary", has_text="Python").click()
        assert not python.is_visible()
        tabbed.emulate_media(media="print")
        tabbed.pdf(path=tmp_path / "page.pdf")  # fires `beforeprint`
        assert python.is_visible()
        # Nothing is cut off on an A4 page with margins of 15 mm (680 px).
        tabbed.set_viewport_size({"width": 680, "height": 1000})
        for element in tabbed.locator("main pre, blockquote, .table").all():
            assert element.evaluate("e => e.scrollWidth <= e.clientWidth + 1")
        border = "e => getComputedStyle(e).borderLeftStyle + getComputedStyle(e).borderLeftWidth"
        assert tabbed.locator("blockquote.insight").evaluate(border) == "solid6px"


def test_vertical_bars_in_code_of_tables_are_unescaped(page, opened):
    with opened() as tab:
        cells = show(tab, page).locator(".table td code")
        assert cells.first.inner_text() == "a | b"


def test_folded_code_takes_one_line_of_a_slide():
    python = "x\n" * 40
    folded = f"<details><summary>Python</summary>\n\n```python\n{python}```\n\n</details>"
    cells = [new_markdown_cell(f"## A\n\nText.\n\n{folded}"), new_code_cell("1 + 1")]
    whole = html.export(new_notebook(cells=cells), "slides", slides=True)
    slides = whole[whole.index('<div class="slides">') :]
    assert slides.count("<section") == 2  # a chapter, and one slide in it
