"""HTML of arbitrary notebooks: formulas, images, headings, raw cells and all types of outputs."""

import base64
import json
import re

import nbformat
import pytest
from bs4 import BeautifulSoup
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output, new_raw_cell

from wearable_jupyter.bench import browser
from wearable_jupyter.export import charts, formulas, html

PNG = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmM"
    "IQAAAABJRU5ErkJggg=="
)
SVG = '<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><circle r="4"/></svg>'
FORMS = pytest.mark.parametrize("slides", [False, True], ids=["document", "slides"])


def display(**data):
    """A display output. Keys of `data` are MIME types."""
    return new_output("display_data", data=data)


@pytest.fixture
def export(tmp_path, capsys):
    """Export cells; return the parsed main part of the HTML, and stderr. `export.whole` is all."""

    def run(*cells, metadata=None, **options):
        cells = [new_markdown_cell(cell) if isinstance(cell, str) else cell for cell in cells]
        notebook = new_notebook(cells=cells, metadata=metadata or {})
        before = json.dumps(notebook)
        body = html.export(notebook, "sample", directory=tmp_path, **options)
        assert json.dumps(notebook) == before
        # Skip plotly.js, because parsing it takes seconds.
        start = body.index("<main>") if "<main>" in body else body.index('<div class="reveal">')
        run.whole = body
        return BeautifulSoup(body[start:], "html.parser"), capsys.readouterr().err

    return run


def text_with_tex(source: str, export) -> str:
    """The text of an exported Markdown cell, with each formula as ⟨TeX⟩."""
    soup, _ = export(source)
    cell = soup.select_one(".jp-RenderedMarkdown")
    for formula in cell.find_all("math"):
        formula.replace_with(f"⟨{formula['alttext'].strip()}⟩")
    return cell.get_text().strip()


@pytest.mark.parametrize(
    ("source", "text"),
    [
        (r"$x_i$ and $\frac{1}{2}$", r"⟨x_i⟩ and ⟨\frac{1}{2}⟩"),
        ("two prices of $5 and $6.", "two prices of $5 and $6."),
        ("US$5 or $5-$6, and $ 7 $", "US$5 or $5-$6, and $ 7 $"),
        (r"\$5 and \$6$ and $a\$b$", r"$5 and $6$ and ⟨a\$b⟩"),
        ("$a_1*b*c$ and **$a*b$** and _$x_y$_", "⟨a_1*b*c⟩ and ⟨a*b⟩ and ⟨x_y⟩"),
        ("`$x$` and ``a ` $y$`` and $z$", "$x$ and a ` $y$ and ⟨z⟩"),
        ('```rust\nlet x = "$y$ $$z$$";\n```', 'let x = "$y$ $$z$$";'),
        ("~~~\n$y$\n~~~\n$z$", "$y$\n\n⟨z⟩"),
        ("text\n\n    $x$ indented\n", "text\n$x$ indented"),
        ("in $a\n+ b$ two lines", "in ⟨a\n+ b⟩ two lines"),
        ("costs $5\n\nand $6$ more", "costs $5\nand ⟨6⟩ more"),
        ("$$x$$ and\n\n$$\ny\n$$", "⟨x⟩ and\n⟨y⟩"),
        (r"\\(x\\) and \\[y\\]", "⟨x⟩ and ⟨y⟩"),
        ("> $$\n> a\n> $$", "⟨a⟩"),
        ("<div>$x$ <b>$y$</b></div>", "⟨x⟩ ⟨y⟩"),
        ("<pre>$x$</pre>", "$x$"),
        ("# A $x^2$ b", "A ⟨x^2⟩ b¶"),
        ("$P(A|B)$ is 1", "⟨P(A|B)⟩ is 1"),
        ("xFORMULAx0z $x$", "xFORMULAx0z ⟨x⟩"),
        ("$", "$"),
        ("$$$$", "$$$$"),
        ("Vec<T>, Option<B>, iter::<f64>()", "Vec<T>, Option<B>, iter::<f64>()"),
        ("`Vec<T>` HashMap<String, Vec<i64>>", "Vec<T> HashMap<String, Vec<i64>>"),
        ("    Vec<T> indented", "Vec<T> indented"),
        ("H<sub>2</sub>O, a<br>b, <str>", "H2O, ab, <str>"),
    ],
)
def test_formulas_are_recognised_in_text(export, source, text):
    assert text_with_tex(source, export) == text


def test_formula_in_a_table_keeps_vertical_bars(export):
    soup, _ = export("| a | b |\n|---|---|\n| $P(A|B)$ | $5 |")
    cells = soup.find_all("td")
    assert [cell.math and cell.math["alttext"] for cell in cells] == ["P(A|B)", None]
    assert cells[1].get_text() == "$5"


def test_equation_references_work_across_cells(export):
    soup, messages = export(
        r"See $\eqref{eq:b}$ and $\newcommand{\nrm}[1]{\lVert #1\rVert}\nrm{x}$",
        r"\begin{align} a &= \nrm{x} \label{eq:a}\\ c &< d \label{eq:b}\end{align}",
    )
    assert messages == ""
    link = soup.math.a
    assert link.get_text() == "(2)"
    assert soup.find(id=link["href"][1:]).get_text() == "(2)"
    assert soup.find_all("math")[-1]["display"] == "block"


@pytest.mark.parametrize(
    "tex", [r"\foo{x}", r"\frac{1}", r"a & b", "{" * 50_000, r"\begin{tabular}a\end{tabular}"]
)
def test_invalid_formula_is_shown_as_tex(export, tex):
    soup, messages = export(f"$${tex}$$ and $x$")
    assert soup.select_one("code.tex").get_text() == f"$${tex}$$"
    assert len(soup.find_all("math")) == 1
    assert "sample, cell 1: the formula" in messages and "is shown as TeX" in messages


def test_formula_that_exceeds_the_time_limit_is_shown_as_tex(export, monkeypatch):
    monkeypatch.setattr(formulas, "SECONDS", 2)
    endless = r"\{" * 100
    soup, messages = export(f"$x$ and $${endless}$$ and $y$")
    assert [math["alttext"] for math in soup.find_all("math")] == ["x", "y"]
    assert "crashed or exceeded its time limit" in messages


def test_latex_and_markdown_outputs_are_converted(export):
    outputs = [
        display(**{"text/latex": r"$\displaystyle x^2$", "text/plain": "x**2"}),
        display(**{"text/markdown": "**bold** $y$ ![](data:image/png;base64,AAAA)"}),
        display(**{"text/html": "<td>$5 and $x$</td>"}),
    ]
    soup, messages = export(new_code_cell("x", outputs=outputs))
    shown = soup.select(".jp-OutputArea-output")
    assert (shown[0].math["alttext"], shown[1].math["alttext"]) == (r"\displaystyle x^2", "y")
    assert shown[1].strong.get_text() == "bold"
    assert shown[2].get_text().strip() == "$5 and $x$"
    assert messages == ""


@FORMS
def test_pasted_images_are_embedded(export, slides):
    cell = new_markdown_cell(
        "![dot](attachment:a%20b.png) <img src='attachment:c.svg'> ![gone](attachment:no.png)"
    )
    cell["attachments"] = {
        "a b.png": {"image/png": PNG},
        "c.svg": {"image/svg+xml": SVG, "image/png": PNG},
    }
    soup, messages = export(cell, slides=slides)
    first, second = soup.find_all("img")
    assert (first["src"], first["alt"]) == (f"data:image/png;base64,{PNG}", "dot")
    assert second["src"].startswith("data:image/svg+xml;base64,")
    assert "gone (missing image)" in soup.get_text()
    assert "cell 1: the image attachment:no.png is omitted" in messages


def test_local_images_are_embedded(export, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "bild é.png").write_bytes(base64.b64decode(PNG))
    (tmp_path / "100%.svg").write_text(SVG)
    soup, messages = export(
        "![a](in/bild%20é.png) ![b](<in/bild é.png>) <img src='100%.svg' alt='c'> "
        "![d](in/bild%20%C3%A9.png?raw=true) [![e](100%25.svg#x)](to.html)",
        new_code_cell("x", outputs=[display(**{"text/html": "<img src='100%.svg'>"})]),
    )
    assert messages == ""
    images = soup.find_all("img")
    assert [image["alt"] for image in images[:5]] == ["a", "b", "c", "d", "e"]
    assert len(images) == 6
    for image in images:
        address = image["src"].partition("#")[0]
        head, _, content = address.partition(";base64,")
        assert head in ("data:image/png", "data:image/svg+xml")
        assert base64.b64decode(content) in (base64.b64decode(PNG), SVG.encode())


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("no.png", "has no file no.png"),
        ("/etc/hostname.png", "its path is absolute"),
        ("../../../etc/passwd", "does not end in one of"),
        ("file:///x.png", "file: addresses are not supported"),
        ("folder.png", "it is not a regular file"),
        ("large.png", "it is larger than 20 MB"),
        ("x%00y.png", "has no file"),
        ("a" * 300 + ".png", "can't be read"),
    ],
)
def test_image_that_cannot_be_embedded_is_reported(export, tmp_path, source, reason):
    (tmp_path / "folder.png").mkdir()
    with (tmp_path / "large.png").open("wb") as file:
        file.truncate(20_000_001)
    soup, messages = export("text", f"![the alt]({source})")
    assert soup.find("img") is None
    assert soup.select_one(".omitted").get_text() == "the alt (missing image)"
    assert f"sample, cell 2: the image {source} is omitted: " in messages
    assert reason in messages


def test_images_on_the_web_become_links(export):
    soup, messages = export("![alt](https://example.org/a.png) <img src='//example.org/b.png'>")
    assert soup.find("img") is None
    first, second = soup.select("a.omitted")
    assert (first["href"], first.get_text()) == (
        "https://example.org/a.png",
        "alt (image on the web)",
    )
    assert second["href"] == "https://example.org/b.png"
    assert "https://example.org/a.png is not local" in messages


@FORMS
def test_headings_have_unique_anchors(export, slides):
    soup, _ = export(
        '<h1 align="center">A title & <b>more</b></h1>',
        "## Exercise\n\n## Vec<T> and `Option<U>`\n\nSetext\n------",
        "## Exercise\n\n### Über uns $x^2$\n\n##\n\n<h3 id='own'>Own</h3>",
        '<a id="Later"></a>\n\n## Later\n\n## own',
        slides=slides,
    )
    ids = [tag["id"] for tag in soup.find_all(id=True)]
    assert len(ids) == len(set(ids))
    headings = [tag for tag in soup.find_all(["h1", "h2", "h3"]) if tag.get_text()]
    assert len(headings) == 9
    assert all(tag.get("id") for tag in headings)
    assert [tag["id"] for tag in headings if tag.name == "h2"][:2] == [
        "Exercise",
        "Vec<T>-and-Option<U>",
    ]
    title = re.search("<title>(.*?)</title>", export.whole)[1]
    assert title == "A title &amp; more"


@FORMS
@pytest.mark.parametrize("title", ["<script>alert(1)</script>", '"quotes" & more', "Ü</title>"])
def test_titles_are_escaped(export, slides, title):
    export("text", metadata={"title": title}, slides=slides)
    shown = re.search("<title>(.*)</title>", export.whole)[1]
    assert "<" not in shown
    assert BeautifulSoup(shown, "html.parser").get_text() == title


@FORMS
def test_raw_cells_for_html_are_shown(export, slides):
    def raw(source, kind=None):
        return new_raw_cell(source, metadata={"raw_mimetype": kind} if kind else {})

    soup, _ = export(
        raw("---\ntitle: <front>\n---"),
        raw(""),
        raw("<b>html</b>", "text/html"),
        raw("*md* $x$", "text/markdown"),
        raw(r"\section{x}", "text/latex"),
        "last",
        slides=slides,
    )
    cells = soup.select(".jp-Cell")
    assert [cell.get_text().strip() for cell in cells] == [
        "---\ntitle: <front>\n---",
        "html",
        "md x",
        "last",
    ]
    assert cells[1].b and cells[2].em and cells[2].math


@FORMS
def test_notebook_format_4_4_without_cell_ids_is_exported(tmp_path, slides):
    outputs = [
        {
            "output_type": "display_data",
            "metadata": {},
            "data": {charts.MIME: {"data": [{"y": [1]}], "layout": {}}},
        }
    ]
    cell = {"cell_type": "code", "source": "x\n" * 40, "metadata": {}, "execution_count": 1}
    document = {"nbformat": 4, "nbformat_minor": 4, "metadata": {}, "cells": []}
    document["cells"] = [cell | {"outputs": outputs}, cell | {"outputs": outputs}]
    notebook = nbformat.reads(json.dumps(document), as_version=4)
    body = html.export(notebook, "old", slides=slides)
    ids = re.findall(r'<div id="(chart-[^"]*)"', body)
    assert len(ids) == len(set(ids)) == 2


@FORMS
@pytest.mark.parametrize(
    "cells",
    [[], [""], [new_markdown_cell("x", metadata={"slideshow": {"slide_type": "skip"}})]],
    ids=["no cells", "an empty cell", "skipped cells"],
)
def test_notebook_without_content_is_exported(export, cells, slides):
    soup, messages = export(*cells, slides=slides)
    assert messages == ""
    assert "<title>sample</title>" in export.whole
    assert not slides or soup.find("section")


def figure(**layout):
    return {"data": [{"type": "bar", "x": ["</script>"], "y": [1]}], "layout": layout}


def test_charts_of_one_cell_have_unique_ids(export):
    outputs = [
        display(**{charts.MIME: figure(title=name)}) for name in ("one", "two", "two", "<three>")
    ]
    soup, _ = export(new_code_cell("x", outputs=outputs))
    figures = soup.select("figure.chart")
    labels = [figure["aria-label"].split(".")[0] for figure in figures]
    assert labels == ["Chart: one", "Chart: two", "Chart: two", "Chart: <three>"]
    assert len({figure.div["id"] for figure in figures}) == 4


def test_outputs_that_need_a_network_are_replaced_or_reported(export):
    widget = {"application/vnd.jupyter.widget-view+json": {"model_id": "a"}}
    outputs = [
        display(**{"application/javascript": "alert(1)</script>"}),
        display(**{"application/javascript": "alert(1)", "text/plain": "the text"}),
        display(**widget),
        display(**widget, **{"text/plain": "IntSlider()"}),
        display(**{"application/x-unknown": "?"}),
        display(**{charts.MIME: 5, "text/plain": "no chart"}),
        display(**{"text/html": "<script src='https://x.org/y.js'></script><p>kept</p>"}),
        display(**{"application/json": {"a": 1}}),
        display(**{"image/gif": PNG}),
        display(),
    ]
    metadata = {"widgets": {"unknown": {}}}
    soup, messages = export(new_code_cell("x", outputs=outputs), metadata=metadata)
    text = soup.get_text()
    assert "alert" not in text and "https://x.org" not in str(soup)
    for shown in ("the text", "IntSlider()", "no chart", "kept", '"a": 1'):
        assert shown in text
    assert text.count("Output omitted") == 3
    assert messages.count("the output is omitted") == 3
    assert "the chart is omitted: the figure has no list of traces" in messages
    assert "https://x.org/y.js is omitted" in messages


def test_streams_and_errors_are_rendered_like_a_terminal(export):
    outputs = [
        new_output("stream", text="progress 1\rprogress 22\nab\bc\r\n\x1b[31mred\x1b[0m <b>\n"),
        new_output("error", ename="E1", evalue="why <T>", traceback=[]),
        new_output("error", ename="E2", evalue="", traceback=["\x1b[1mline\x1b[0m <T>"]),
    ]
    soup, _ = export(new_code_cell("x", outputs=outputs))
    stream, first, second = (tag.get_text() for tag in soup.select(".jp-OutputArea-output"))
    assert stream.strip() == "progress 22\nac\nred <b>"
    assert soup.select_one(".ansi-red-fg").get_text() == "red"
    assert (first.strip(), second.strip()) == ("Error\nE1: why <T>", "Error\nline <T>")


def test_scripts_in_markdown_and_links_are_removed(export):
    soup, _ = export(
        "<script>alert(1)</script>\n\n[a](javascript:alert(1)) <a href=' JaVa\tscript:x'>b</a>"
        "<img src='data:image/png;base64,AAAA' onerror='alert(1)'> [c](files/d.csv)"
    )
    cell = soup.select_one(".jp-RenderedMarkdown")
    assert cell.script is None and "onerror" not in str(cell)
    assert [link.get("href") for link in cell.find_all("a")] == [None, None, "files/d.csv"]


@FORMS
def test_lone_surrogate_is_replaced(export, slides):
    outputs = [
        new_output("stream", text="a\ud83d\n"),
        display(**{charts.MIME: figure(title="\ud83d")}),
    ]
    soup, _ = export("# T \ud83d $\ud83d$", new_code_cell("x", outputs=outputs), slides=slides)
    export.whole.encode()
    assert soup.h1.get_text().startswith("T ? ")


@FORMS
def test_page_of_a_hostile_notebook_works_without_a_network(export, tmp_path, slides, chromium):
    parts = [
        display(**{charts.MIME: figure(), "text/plain": "x"}),
        display(**{charts.MIME: figure(paper_bgcolor="white")}),
        display(**{charts.MIME: {"data": [{"y": [1, 2]}]}}),
        display(
            **{
                "text/html": "<img src='https://x.org/a.png'><style>@import 'https://x.org';</style>"
            }
        ),
        display(**{"text/html": f"<table><tr>{'<td>a wide column</td>' * 90}</tr></table>"}),
    ]
    export(
        "# T <script>alert(1)</script>\n\n## Ü & 'q' $x$\n\n## 100% `a`",
        new_code_cell('"</script>"', outputs=parts),
        "## end\n\n$$x$$\n\n<iframe src='https://x.org'></iframe>",
        slides=slides,
    )
    page_file = tmp_path / "page.html"
    page_file.write_text(export.whole)
    with browser.opened(offline=True, viewport={"width": 1280, "height": 720}) as tab:
        page = tab.page
        page.goto(page_file.as_uri())
        if slides:
            page.wait_for_function("window.Reveal && Reveal.isReady()")
            for _ in range(page.evaluate("Reveal.getTotalSlides()")):
                page.evaluate("Reveal.next()")
            assert page.evaluate("Reveal.isLastSlide()")
        else:
            page.locator(".js-plotly-plot .main-svg").nth(4).wait_for(state="attached")
            for link in page.locator("nav a").all():
                link.click()
                target = "document.getElementById(decodeURIComponent(location.hash.slice(1)))"
                assert page.evaluate(f"{target} !== null"), link.get_attribute("href")
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert page.locator(".js-plotly-plot").count() >= (1 if slides else 3)
        assert tab.outside == []
        blocked = [error for error in tab.errors if "Content Security Policy" not in error]
        assert blocked == []
