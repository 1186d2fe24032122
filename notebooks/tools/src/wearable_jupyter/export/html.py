"""Executed notebooks as HTML that needs no network: a document, and slides.

These are exporters of nbconvert's, so `jupyter nbconvert --to walkthrough` and JupyterLab's menu
(File > Save and Export Notebook As) have them too. What they add is in `templates/`: plotly's MIME
type, drawn by one plotly.js inside the file, both colour themes, a table of contents, print. What
nbconvert would load from a network, they leave out.
"""

import sys
from importlib.util import find_spec
from pathlib import Path

from jinja2 import pass_context
from nbconvert import HTMLExporter, SlidesExporter
from nbformat import NotebookNode, from_dict
from nbformat.v4 import new_markdown_cell

from . import charts
from .page import Page

TEMPLATES = str(Path(__file__).parent / "templates")
# The first is where nbconvert looks for a template's name, the second for what templates include.
LOCATION = {"extra_template_basedirs": [TEMPLATES], "extra_template_paths": [TEMPLATES]}

# What fits on a slide of 720 pixels, in lines of code.
SLIDE_LINES = 30
PIXELS_A_LINE = 22


def asset(package: str, path: str) -> str:
    """A file of an installed package, which need not be imported for it."""
    return (Path(find_spec(package).origin).parent / path).read_text(encoding="utf-8")


def encodable(value):
    """A copy that can be written: half a pair of surrogates, which JSON can hold, becomes `?`."""
    if isinstance(value, dict):
        return {encodable(key): encodable(item) for key, item in value.items()}
    if isinstance(value, list):
        return [encodable(item) for item in value]
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value


class Offline:
    """What both exporters add to nbconvert's: parts that are rendered before the templates run."""

    def prepare(self, notebook: NotebookNode, resources: dict) -> tuple[NotebookNode, dict]:
        """A copy of the notebook with its parts rendered, and the resources of the templates."""
        notebook = from_dict(encodable(notebook))
        page = Page(notebook, resources["metadata"].get("path") or ".")
        title = notebook.metadata.get("title") or page.title or resources["metadata"].get("name")
        notebook.metadata["title"] = str(title or "Notebook")
        language = (notebook.metadata.get("kernelspec") or {}).get("language")
        if language and not notebook.metadata.get("language_info"):
            notebook.metadata["language_info"] = NotebookNode(name=language)
        resources["plotly_js"] = asset("plotly", "package_data/plotly.min.js")
        resources["contents"] = page.contents
        resources["messages"] = page.messages
        for message in page.messages:
            self.log.warning("%s", message)
        return notebook, resources

    @pass_context
    def markdown2html(self, context, source):
        """A Markdown cell's HTML, which is there already."""
        return context["cell"].metadata.html

    def default_filters(self):
        yield from super().default_filters()
        # nbconvert takes links to a folder `files` for those of an old version of Jupyter.
        yield "strip_files_prefix", lambda html: html


class Walkthrough(Offline, HTMLExporter):
    """A notebook as one document."""

    export_from_notebook = "HTML with charts, for no network"

    def __init__(self, **options):
        super().__init__(**LOCATION | {"template_name": "walkthrough"} | options)

    def from_notebook_node(self, nb, resources=None, **kw):
        nb, resources = self.prepare(nb, self._init_resources(resources))
        return super().from_notebook_node(nb, resources, **kw)


class WalkthroughSlides(Offline, SlidesExporter):
    """A notebook as slides of reveal.js."""

    export_from_notebook = "Slides with charts, for no network"

    def __init__(self, **options):
        super().__init__(**LOCATION | {"template_name": "walkthrough_slides"} | options)

    def from_notebook_node(self, nb, resources=None, **kw):
        nb, resources = self.prepare(nb, self._init_resources(resources))
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
            pixels = charts.number(data[charts.MIME]["layout"].get("height")) or charts.HEIGHT
            lines += int(pixels) // PIXELS_A_LINE
        elif "<table" in data.get("text/html", ""):
            lines += 2 * data["text/html"].count("<tr")
        else:
            text = output.get("text") or data.get("text/html") or data.get("text/plain", "")
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
            elif part.metadata.get("starts_chapter"):
                kind = "slide"
            elif after_code or filled + lines > SLIDE_LINES:
                kind = "subslide"
            chosen = part.metadata.get("slideshow") or {}
            kind = chosen.get("slide_type") or kind
            part.metadata["slideshow"] = {"slide_type": kind}
            filled = lines + (filled if kind in ("-", "skip") else 0)
            if kind != "skip":
                after_code = part.cell_type == "code"
            cells.append(part)
    if all(cell.metadata.slideshow.slide_type in ("skip", "notes") for cell in cells):
        title = new_markdown_cell(notebook.metadata.title)
        title.metadata = from_dict({"html": "", "slideshow": {"slide_type": "slide"}})
        cells.append(title)
    notebook.cells = cells


def export(
    notebook: NotebookNode,
    name: str,
    *,
    directory: Path | None = None,
    slides: bool = False,
    no_code: bool = False,
) -> str:
    """The HTML of an executed notebook called `name`, as a document or as slides.

    Paths of images are relative to `directory`, the folder of the notebook. What the page leaves
    out is reported on stderr.
    """
    exporter = (WalkthroughSlides if slides else Walkthrough)(exclude_input=no_code)
    exporter.log.disabled = True  # the messages are printed here
    metadata = {"name": name, "path": str(directory or ".")}
    body, resources = exporter.from_notebook_node(notebook, resources={"metadata": metadata})
    for message in resources["messages"]:
        print(f"warning: {name}, {message}", file=sys.stderr)
    return body
