"""nbconvert exporters that write an executed notebook as one HTML file without network access.

There are two, a document and slides. `jupyter nbconvert --to walkthrough` and JupyterLab's menu
(File > Save and Export Notebook As) offer them too. `templates/` adds charts drawn by an embedded
plotly.js, light and dark themes, a table of contents and print styles to nbconvert's templates, and
removes everything that a page would load from a network.
"""

import re
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
# nbconvert searches the first for a template's name, and the second for included files.
LOCATION = {"extra_template_basedirs": [TEMPLATES], "extra_template_paths": [TEMPLATES]}

# Lines of code that fit on a slide of 720 pixels.
SLIDE_LINES = 30
PIXELS_PER_LINE = 22


def asset(package: str, path: str) -> str:
    """Return the text of a file in an installed package, without importing the package."""
    return (Path(find_spec(package).origin).parent / path).read_text(encoding="utf-8")


def encodable(value):
    """Return a copy with each lone surrogate as `?`. JSON can store one, but UTF-8 can't."""
    if isinstance(value, dict):
        return {encodable(key): encodable(item) for key, item in value.items()}
    if isinstance(value, list):
        return [encodable(item) for item in value]
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value


class Offline:
    """Mixin for both exporters: renders a notebook's parts before the templates run."""

    def prepare(self, notebook: NotebookNode, resources: dict) -> tuple[NotebookNode, dict]:
        """Return a copy of the notebook with rendered parts, and the templates' resources."""
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
        """Return a Markdown cell's HTML, which `prepare` has already rendered."""
        return context["cell"].metadata.html

    def default_filters(self):
        yield from super().default_filters()
        # nbconvert strips `files/` from links, a prefix of an old Jupyter. Here it is a folder.
        yield "strip_files_prefix", lambda html: html


class Walkthrough(Offline, HTMLExporter):
    """Export a notebook as one document."""

    export_from_notebook = "Self-contained HTML with charts"

    def __init__(self, **options):
        super().__init__(**LOCATION | {"template_name": "walkthrough"} | options)

    def from_notebook_node(self, nb, resources=None, **kw):
        nb, resources = self.prepare(nb, self._init_resources(resources))
        return super().from_notebook_node(nb, resources, **kw)


class WalkthroughSlides(Offline, SlidesExporter):
    """Export a notebook as reveal.js slides."""

    export_from_notebook = "Self-contained slides with charts"

    def __init__(self, **options):
        super().__init__(**LOCATION | {"template_name": "walkthrough_slides"} | options)

    def from_notebook_node(self, nb, resources=None, **kw):
        nb, resources = self.prepare(nb, self._init_resources(resources))
        assign_slides(nb, with_code=not self.exclude_input)
        for file in ("reset.css", "reveal.css", "theme/white.css", "reveal.js"):
            resources[file] = asset("sphinx_revealjs", f"_static/revealjs/dist/{file}")
        # The theme imports font files from a network. Without them, browsers use a system font.
        theme = resources["theme/white.css"].splitlines()
        resources["theme/white.css"] = "\n".join(x for x in theme if not x.startswith("@import"))
        return super().from_notebook_node(nb, resources, **kw)


def height(cell: NotebookNode) -> int:
    """Estimate a cell's height in lines of code on a slide."""
    if cell.cell_type == "markdown":
        # Text is larger than code, and it wraps. Folded content has the height of its summary.
        visible = re.sub(r"(?s)</summary>.*?</details>", "", cell.source)
        return sum(2 + len(line) // 100 for line in visible.splitlines())
    lines = len(cell.source.splitlines()) if "transient" not in cell.metadata else 0
    for output in cell.outputs:
        data = output.get("data", {})
        if charts.MIME in data:
            pixels = charts.number(data[charts.MIME]["layout"].get("height")) or charts.HEIGHT
            lines += int(pixels) // PIXELS_PER_LINE
        elif "<table" in data.get("text/html", ""):
            lines += 2 * data["text/html"].count("<tr")
        else:
            text = output.get("text") or data.get("text/html") or data.get("text/plain", "")
            lines += len(text.splitlines())
    return lines


def split_cell(cell: NotebookNode) -> list[NotebookNode]:
    """Split a code cell into code and output if they don't fit on one slide.

    A cell whose author assigned a slide type is not split.
    """
    if not cell.outputs or "slideshow" in cell.metadata or height(cell) <= SLIDE_LINES:
        return [cell]
    code, output = from_dict(cell), from_dict(cell)
    code.id, code.outputs = f"{cell.id}-code", []
    output.metadata.transient = {"remove_source": True}
    return [code, output]


def assign_slides(notebook: NotebookNode, *, with_code: bool) -> None:
    """Assign a slide type to each cell, unless the author has chosen a type in JupyterLab.

    Chapters run from left to right, the sections of a chapter from top to bottom. A section is
    text and the code cell after it, with its output. A section that doesn't fit on one slide
    continues on the next. Cells without visible content are skipped.
    """
    cells, filled, after_code = [], 0, True
    for cell in notebook.cells:
        split = cell.cell_type == "code" and with_code
        for part in split_cell(cell) if split else [cell]:
            lines, kind = height(part), "-"
            if part.cell_type == "code" and not (with_code or part.outputs):
                kind, lines = "skip", 0
            elif part.metadata.get("starts_chapter"):
                kind = "slide"
            elif after_code or filled + lines > SLIDE_LINES:
                kind = "subslide"
            by_author = part.metadata.get("slideshow") or {}
            kind = by_author.get("slide_type") or kind
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
    """Return the HTML of an executed notebook, as a document or as slides.

    `name` is the title of a notebook that has none. Image paths are relative to `directory`, the
    notebook's folder. Each omitted image, output or formula is reported on stderr.
    """
    exporter = (WalkthroughSlides if slides else Walkthrough)(exclude_input=no_code)
    exporter.log.disabled = True  # the messages are printed below
    metadata = {"name": name, "path": str(directory or ".")}
    body, resources = exporter.from_notebook_node(notebook, resources={"metadata": metadata})
    for message in resources["messages"]:
        print(f"warning: {name}, {message}", file=sys.stderr)
    return body
