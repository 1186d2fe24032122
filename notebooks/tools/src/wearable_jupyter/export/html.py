"""Executed notebooks as HTML that needs no network: a document, and slides.

These are exporters of nbconvert's, so `jupyter nbconvert --to walkthrough` and JupyterLab's menu
(File > Save and Export Notebook As) have them too. What they add is in `templates/`: plotly's MIME
type, drawn by one plotly.js inside the file, both colour themes, a table of contents, print. What
nbconvert would load from a network, they leave out.
"""

from importlib.util import find_spec
from pathlib import Path

from bs4 import BeautifulSoup
from nbconvert import HTMLExporter, SlidesExporter
from nbconvert.filters import markdown2html
from nbformat import NotebookNode, from_dict

from . import charts

TEMPLATES = str(Path(__file__).parent / "templates")
# The first is where nbconvert looks for a template's name, the second for what templates include.
LOCATION = {"extra_template_basedirs": [TEMPLATES], "extra_template_paths": [TEMPLATES]}

# What fits on a slide of 720 pixels, in lines of code.
SLIDE_LINES = 30
PIXELS_A_LINE = 22


def asset(package: str, path: str) -> str:
    """A file of an installed package, which need not be imported for it."""
    return (Path(find_spec(package).origin).parent / path).read_text(encoding="utf-8")


def headings(notebook: NotebookNode) -> list[dict]:
    """The notebook's headings as `level`, `id` and `text`, with nbconvert's own ids."""
    found = []
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            for tag in BeautifulSoup(markdown2html(cell.source), "html.parser").find_all(
                ["h1", "h2", "h3"]
            ):
                if (anchor := tag.find("a", class_="anchor-link")) is not None:
                    anchor.decompose()
                text = tag.get_text().strip()
                found.append({"level": int(tag.name[1]), "id": tag["id"], "text": text})
    return found


def prepared(notebook: NotebookNode, resources: dict) -> tuple[NotebookNode, dict]:
    """A copy of the notebook, titled, and what the templates need besides it."""
    notebook = from_dict(notebook)
    contents = headings(notebook)
    title = next((h["text"] for h in contents if h["level"] == 1), None)
    if title is not None:
        notebook.metadata.setdefault("title", title)
    resources["plotly_js"] = asset("plotly", "package_data/plotly.min.js")
    resources["contents"] = [heading for heading in contents if heading["level"] > 1]
    resources["descriptions"] = {
        cell.id: charts.description(output.data[charts.MIME])
        for cell, output in charts.charts(notebook)
    }
    return notebook, resources


class Walkthrough(HTMLExporter):
    """A notebook as one document."""

    export_from_notebook = "HTML with charts, for no network"

    def __init__(self, **options):
        super().__init__(**LOCATION | {"template_name": "walkthrough"} | options)

    def from_notebook_node(self, nb, resources=None, **kw):
        nb, resources = prepared(nb, self._init_resources(resources))
        return super().from_notebook_node(nb, resources, **kw)


class WalkthroughSlides(SlidesExporter):
    """A notebook as slides of reveal.js."""

    export_from_notebook = "Slides with charts, for no network"

    def __init__(self, **options):
        super().__init__(**LOCATION | {"template_name": "walkthrough_slides"} | options)

    def from_notebook_node(self, nb, resources=None, **kw):
        nb, resources = prepared(nb, self._init_resources(resources))
        assign_slides(nb, with_code=not self.exclude_input)
        for file in ("reset.css", "reveal.css", "theme/white.css", "reveal.js"):
            resources[file] = asset("sphinx_revealjs", f"_static/revealjs/dist/{file}")
        # The theme's fonts are files of their own; a system's sans-serif does as well.
        theme = resources["theme/white.css"].splitlines()
        resources["theme/white.css"] = "\n".join(x for x in theme if not x.startswith("@import"))
        return super().from_notebook_node(nb, resources, **kw)


def height(cell: NotebookNode) -> int:
    """About how many lines of a slide's code a cell takes."""
    if cell.cell_type == "markdown":
        # Text is larger and wraps.
        return sum(2 + len(line) // 100 for line in cell.source.splitlines())
    lines = len(cell.source.splitlines()) if "transient" not in cell.metadata else 0
    for output in cell.outputs:
        data = output.get("data", {})
        if charts.MIME in data:
            lines += data[charts.MIME]["layout"].get("height", charts.HEIGHT) // PIXELS_A_LINE
        elif "<table" in data.get("text/html", ""):
            lines += 2 * data["text/html"].count("<tr")
        else:
            text = output.get("text") or data.get("text/markdown") or data.get("text/plain", "")
            lines += len(text.splitlines())
    return lines


def apart(cell: NotebookNode) -> list[NotebookNode]:
    """A code cell as two, its code and its output, if they don't fit on a slide together.

    One whose author assigned a slide stays whole.
    """
    if not cell.outputs or "slideshow" in cell.metadata or height(cell) <= SLIDE_LINES:
        return [cell]
    code, output = from_dict(cell), from_dict(cell)
    code.id, code.outputs = f"{cell.id}-code", []
    output.metadata.transient = {"remove_source": True}
    return [code, output]


def assign_slides(notebook: NotebookNode, *, with_code: bool) -> None:
    """Divide a notebook into slides, but for cells whose author did so in JupyterLab.

    Chapters go from left to right, their parts from top to bottom. A part is the text since the
    last code, and the next code with its output; what of it doesn't fit on a slide goes on the
    next. Cells that show nothing are skipped.
    """
    cells, filled, after_code = [], 0, True
    for cell in notebook.cells:
        split = cell.cell_type == "code" and with_code
        for part in apart(cell) if split else [cell]:
            lines, kind = height(part), "-"
            if part.cell_type == "code" and not (with_code or part.outputs):
                kind, lines = "skip", 0
            elif part.cell_type == "markdown" and part.source.startswith(("# ", "## ")):
                kind = "slide"
            elif after_code or filled + lines > SLIDE_LINES:
                kind = "subslide"
            kind = part.metadata.get("slideshow", {}).get("slide_type") or kind
            part.metadata["slideshow"] = {"slide_type": kind}
            filled = lines + (filled if kind in ("-", "skip") else 0)
            if kind != "skip":
                after_code = part.cell_type == "code"
            cells.append(part)
    notebook.cells = cells


def export(
    notebook: NotebookNode, name: str, *, slides: bool = False, no_code: bool = False
) -> str:
    """The HTML of an executed notebook called `name`, as a document or as slides."""
    exporter = (WalkthroughSlides if slides else Walkthrough)(exclude_input=no_code)
    body, _ = exporter.from_notebook_node(notebook, resources={"metadata": {"name": name}})
    return body
