"""The parts of a notebook as HTML that needs no script, no network and no other file.

Markdown cells and outputs are rendered here, before nbconvert's templates lay out the page, because
contents, anchors and formulas depend on the whole notebook.
"""

import base64
import json
import re
import stat
from html import escape
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from bs4 import BeautifulSoup, NavigableString, Tag
from mistune import HTMLRenderer, InlineParser, Markdown, import_plugin
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from nbformat import NotebookNode
from pygments.lexers import get_lexer_by_name
from pygments.util import ClassNotFound

from . import charts
from .elements import ELEMENTS
from .formulas import Formulas

# A larger file would make the page hard to send and to open.
LARGEST_FILE = 20_000_000
IMAGES = {
    ".apng": "image/apng",
    ".avif": "image/avif",
    ".bmp": "image/bmp",
    ".gif": "image/gif",
    ".ico": "image/x-icon",
    ".jfif": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".jpg": "image/jpeg",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".webp": "image/webp",
}
# The representations of an output that a page can show, best first. JavaScript and widgets are not
# among them: both need files from a network.
SHOWN = (
    "text/html",
    "text/markdown",
    "image/svg+xml",
    "text/latex",
    "image/png",
    "image/jpeg",
    "image/gif",
    "image/webp",
    "image/avif",
    "image/bmp",
    "application/json",
    "text/plain",
)
_TAG = re.compile(r"<(?=/?([A-Za-z][\w.:-]*))")
_NEEDS_WORK = re.compile(
    r"<(?:img|image|picture|source|video|audio|track|iframe|embed|object|script|link|base|meta|a)\b",
    re.IGNORECASE,
)


def unknown_tags_as_text(html: str) -> str:
    """HTML in which a tag that no browser knows is text."""
    return _TAG.sub(
        lambda match: "<" if match[1].lower() in ELEMENTS or "-" in match[1] else "&lt;", html
    )


class _Renderer(IPythonRenderer):
    """nbconvert's, without its own anchors, attachments and scripts."""

    def heading(self, text: str, level: int, **attrs) -> str:
        return HTMLRenderer.heading(self, text, level, **attrs)

    def image(self, text: str, url: str, title: str | None = None) -> str:
        return HTMLRenderer.image(self, text, url, title)

    def block_html(self, html: str) -> str:
        return super().block_html(unknown_tags_as_text(html))

    def inline_html(self, html: str) -> str:
        return super().inline_html(unknown_tags_as_text(html))

    def block_code(self, code: str, info: str | None = None) -> str:
        """A block whose language is unknown stays text, without the language as its first line."""
        language = re.split(r"[\s,{]", (info or "").strip().lstrip("{"))[0].rstrip("}")
        try:
            get_lexer_by_name(language)
        except ClassNotFound:
            language = ""
        if not language:
            return f"<pre><code>{escape(code, quote=False)}</code></pre>\n"
        return super().block_code(code, language)


def render_markdown(source: str) -> str:
    """Markdown without formulas as HTML."""
    plugins = [import_plugin(name) for name in MarkdownWithMath.DEFAULT_PLUGINS]
    renderer = _Renderer(escape=False)
    markdown = Markdown(renderer, inline=InlineParser(hard_wrap=False), plugins=plugins)
    return str(markdown(source))


def text_of(tag: Tag) -> str:
    """The text of an element, with the TeX of its formulas and the alternative text of images."""
    parts = []
    for child in tag.children:
        if isinstance(child, Tag):
            replacement = {"math": "alttext", "img": "alt"}.get(child.name)
            parts.append(child.get(replacement, "") if replacement else text_of(child))
        elif type(child) is NavigableString:
            parts.append(str(child))
    return " ".join("".join(parts).split())


def overwritten(text: str) -> str:
    """The text as a terminal shows it after carriage returns and backspaces."""
    if "\r" not in text and "\b" not in text:
        return text
    lines = []
    for line in text.replace("\r\n", "\n").split("\n"):
        shown = ""
        for part in line.split("\r"):
            while "\b" in part:
                part = re.sub(r"(?:^|[^\b])\x08", "", part, count=1)
            shown = part + shown[len(part) :]
        lines.append(shown)
    return "\n".join(lines)


def joined(value: object) -> str:
    """The text of an output, which a file may hold as a list of lines."""
    if isinstance(value, list):
        return "".join(str(line) for line in value)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=2)


class Page:
    """Renders a copy of a notebook in place, and collects contents and messages."""

    def __init__(self, notebook: NotebookNode, directory: str | Path):
        self.notebook = notebook
        self.directory = Path(directory or ".")
        self.contents: list[dict] = []
        self.messages: list[str] = []
        self.title = ""
        self._ids: set[str] = set()
        self._render()

    def _render(self) -> None:
        notebook = self.notebook
        notebook.metadata.pop("widgets", None)
        numbered = enumerate(notebook.cells, 1)
        self._cells = [(n, cell) for n, cell in numbered if not self._is_left_out(cell)]
        notebook.cells = [cell for _, cell in self._cells]
        self._name_cells()
        for number, cell in self._cells:
            if cell.cell_type == "code":
                self._choose_outputs(cell, number)
        sources = [cell.source for cell in notebook.cells] + [
            part["source"] for _, _, part in self._to_convert()
        ]
        formulas = Formulas(sources)
        pieces = []
        for number, cell, part in self._to_convert():
            source = formulas.protect(part["source"], number)
            if part["type"] == "text/markdown":
                html = render_markdown(source)
            elif part["type"] == "text/latex":
                html = f'<div class="latex">{escape(source, quote=False)}</div>'
            else:
                html = part["source"]
            pieces.append((number, cell, part, BeautifulSoup(html, "html.parser")))
        self.messages += formulas.convert()
        for number, cell, part, soup in pieces:
            self._insert_formulas(soup, formulas)
            if part["type"] != "text/html":
                self._remove_scripts(soup)
            self._make_self_contained(soup, number, cell)
            self._ids.update(tag["id"] for tag in soup.find_all(id=True))
        for _, cell, part, soup in pieces:
            if part["type"] != "text/html":
                self._name_headings(soup, is_cell=part["output"] is None)
            self._set_html(cell, part, soup)

    @staticmethod
    def _is_left_out(cell: NotebookNode) -> bool:
        """Whether a cell is meant for another format than HTML, or is an empty raw cell."""
        if cell.cell_type != "raw":
            return False
        kind = str(cell.metadata.get("raw_mimetype") or cell.metadata.get("format") or "").lower()
        if kind not in ("", "text/html", "text/markdown", "text/plain"):
            return True
        cell.metadata["raw_type"] = kind
        return not cell.source.strip()

    def _name_cells(self) -> None:
        """Give every cell an id of its own; formats before 4.5 have none."""
        for number, cell in self._cells:
            wanted = str(cell.get("id") or f"cell-{number}")
            cell["id"] = self._unique(wanted, prefix="cell-id=")

    def _unique(self, wanted: str, prefix: str = "") -> str:
        name, count = wanted, 1
        while prefix + name in self._ids:
            count += 1
            name = f"{wanted}-{count}"
        self._ids.add(prefix + name)
        return name

    def _to_convert(self):
        """What is rendered here: each Markdown cell and output, with the number of its cell."""
        for number, cell in self._cells:
            if cell.cell_type == "markdown":
                yield number, cell, {"type": "text/markdown", "source": cell.source, "output": None}
            elif cell.cell_type == "raw":
                kind, source = cell.metadata.raw_type, cell.source
                if kind in ("", "text/plain"):
                    kind, source = "text/html", f'<pre class="raw">{escape(source)}</pre>'
                yield number, cell, {"type": kind, "source": source, "output": None}
            else:
                for output in cell.outputs:
                    for kind, source in output.get("data", {}).items():
                        if kind in ("text/markdown", "text/latex", "text/html") and (
                            kind != "text/html" or _NEEDS_WORK.search(source)
                        ):
                            yield number, cell, {"type": kind, "source": source, "output": output}

    @staticmethod
    def _set_html(cell: NotebookNode, part: dict, soup: BeautifulSoup) -> None:
        if part["output"] is not None:
            part["output"]["data"] = NotebookNode({"text/html": str(soup)})
            return
        first = next((child for child in soup.children if isinstance(child, Tag)), None)
        cell["cell_type"] = "markdown"
        cell.metadata["html"] = str(soup)
        cell.metadata["starts_chapter"] = first is not None and (
            first.name in ("h1", "h2") or first.find(["h1", "h2"]) is not None
        )

    def _choose_outputs(self, cell: NotebookNode, number: int) -> None:
        """Leave of each output the one representation that the page shows."""
        cell.setdefault("outputs", [])
        for at, output in enumerate(cell.outputs):
            if output.output_type == "stream":
                output["text"] = overwritten(joined(output.get("text", "")))
            elif output.output_type == "error":
                if not any(str(line).strip() for line in output.get("traceback", [])):
                    output["traceback"] = [f"{output.get('ename')}: {output.get('evalue')}"]
            else:
                output.setdefault("metadata", NotebookNode())
                output["data"] = self._chosen(output, number, f"{cell.id}-{at}")

    def _chosen(self, output: NotebookNode, number: int, name: str) -> NotebookNode:
        data = output.get("data", {})
        if charts.MIME in data:
            try:
                figure = charts.Figure.read(data[charts.MIME])
            except charts.UnsupportedChart as error:
                self.messages.append(f"cell {number}: a chart is left out: {error}.")
            else:
                output.metadata["chart"] = {
                    "id": self._unique(f"chart-{name}"),
                    "description": figure.description(),
                    "picture": data.get("image/png"),
                }
                return NotebookNode({charts.MIME: figure.json()})
        for kind in SHOWN:
            text = joined(data[kind]) if kind in data else ""
            if not text.strip():
                continue
            if kind == "application/json":
                return NotebookNode({"text/plain": text})
            if kind in ("image/gif", "image/webp", "image/avif", "image/bmp"):
                source = f"data:{kind};base64,{''.join(text.split())}"
                return NotebookNode({"text/html": f'<img alt="" src="{escape(source)}">'})
            return NotebookNode({kind: text})
        kinds = ", ".join(data) or "none"
        if any(joined(value).strip() for value in data.values()):
            self.messages.append(f"cell {number}: an output is left out; HTML can't show {kinds}.")
            note = f"An output is left out here: a page without a network can't show {kinds}."
            return NotebookNode({"text/html": f'<p class="left-out">{escape(note)}</p>'})
        return NotebookNode({"text/plain": ""})

    def _insert_formulas(self, soup: BeautifulSoup, formulas: Formulas) -> None:
        for text in soup.find_all(string=formulas.placeholder):
            code = text.find_parent(["pre", "code", "script", "style", "textarea"])
            if code is not None or type(text) is not NavigableString:
                text.replace_with(type(text)(formulas.restore(str(text), "text")))
                continue
            html = formulas.restore(escape(str(text), quote=False), "html")
            text.replace_with(BeautifulSoup(html, "html.parser"))
        for tag in soup.find_all(True):
            for name, value in tag.attrs.items():
                if isinstance(value, str) and formulas.placeholder.search(value):
                    value = unquote(value) if name in ("href", "src") else value
                    tag[name] = formulas.restore(value, "text")

    def _name_headings(self, soup: BeautifulSoup, *, is_cell: bool) -> None:
        """Give headings anchors of their own, and list those of cells in the contents."""
        for tag in soup.find_all(["h1", "h2", "h3", "h4", "h5", "h6"]):
            text = text_of(tag)
            if not text:
                continue
            level = int(tag.name[1])
            listed = "".join(str(child) for child in self._contents_entry(tag))
            if not tag.get("id"):
                tag["id"] = self._unique(re.sub(r"\s", "-", text))
            href = f"#{quote(tag['id'], safe='?/:@!$&()*+,;=')}"
            if is_cell and level == 1 and not self.title:
                self.title = text
            elif is_cell and level <= 3:
                self.contents.append({"level": level, "href": href, "html": listed})
            anchor = soup.new_tag("a", attrs={"class": "anchor-link", "href": href})
            anchor.string = "¶"
            tag.append(anchor)

    @staticmethod
    def _contents_entry(tag: Tag) -> list:
        """The content of a heading without links, images and ids."""
        copy = BeautifulSoup(str(tag), "html.parser").find(True)
        for child in copy.find_all(True):
            if child.name == "img":
                child.replace_with(NavigableString(child.get("alt", "")))
            elif child.name == "br":
                child.replace_with(NavigableString(" "))
            elif child.name == "a":
                child.unwrap()
            else:
                child.attrs.pop("id", None)
        return list(copy.children)

    @staticmethod
    def _remove_scripts(soup: BeautifulSoup) -> None:
        """Remove what JupyterLab does not run in Markdown, either."""
        for tag in soup.find_all("script"):
            tag.decompose()
        for tag in soup.find_all(True):
            for name in [name for name in tag.attrs if name.lower().startswith("on")]:
                del tag[name]

    def _make_self_contained(self, soup: BeautifulSoup, number: int, cell: NotebookNode) -> None:
        """Put local images into the page, and replace whatever it would load."""
        for tag in soup.find_all("img"):
            self._embed(soup, tag, "src", number, cell)
            for name in ("srcset", "loading"):
                tag.attrs.pop(name, None)
        for tag in soup.find_all("image"):
            for name in ("href", "xlink:href"):
                if tag.get(name):
                    self._embed(soup, tag, name, number, cell)
        for tag in soup.find_all("source"):
            if tag.find_parent("picture"):
                tag.decompose()
        for tag in soup.find_all(["video", "audio", "iframe", "embed", "object"]):
            source = tag.get("src") or tag.get("data")
            inner = tag.find("source", src=True) if tag.name in ("video", "audio") else None
            source = source or (inner and inner["src"])
            if source and not source.startswith(("data:", "about:")):
                self.messages.append(f"cell {number}: {source} is not in the page, only linked.")
                self._replace_by_link(soup, tag, source, f"{tag.name}: {source}")
        for tag in soup.find_all(["script", "link", "base", "meta"]):
            source = tag.get("src") or tag.get("href")
            if tag.name == "script" and not source:
                continue
            if source and tag.name != "base":
                self.messages.append(f"cell {number}: {source} is not loaded by the page.")
            tag.decompose()
        for tag in soup.find_all(["a", "area"], href=True):
            scheme = re.sub(r"[\x00-\x20]", "", tag["href"]).partition(":")[0].lower()
            if scheme in ("javascript", "vbscript", "data"):
                del tag["href"]

    @staticmethod
    def _replace_by_link(soup: BeautifulSoup, tag: Tag, source: str, text: str) -> None:
        source = f"https:{source}" if source.startswith("//") else source
        link = soup.new_tag("a", attrs={"class": "left-out", "href": source})
        link.string = text
        tag.replace_with(link)

    def _embed(
        self, soup: BeautifulSoup, tag: Tag, name: str, number: int, cell: NotebookNode
    ) -> None:
        source = (tag.get(name) or "").strip()
        if source.lower().startswith("data:") or (tag.name == "image" and source.startswith("#")):
            return
        alternative = (tag.get("alt") or "").strip()
        if source.startswith("//") or urlsplit_scheme(source) in ("http", "https", "ftp"):
            self.messages.append(
                f"cell {number}: the image {source} is on the web, so the page links to it."
            )
            label = f"{alternative or 'image'} (image on the web)"
            self._replace_by_link(soup, tag, source, label)
            return
        try:
            if source.startswith("attachment:"):
                tag[name] = attachment(cell, source)
            else:
                tag[name] = data_address(self.directory, source)
        except MissingImage as error:
            self.messages.append(f"cell {number}: the image {source} is left out: {error}.")
            note = soup.new_tag("span", attrs={"class": "left-out", "role": "img"})
            note.string = f"{alternative or source} (missing image)"
            note["title"] = f"{source}: {error}"
            tag.replace_with(note)


class MissingImage(Exception):
    """An image that can't be put into a page, and why."""


def urlsplit_scheme(address: str) -> str:
    """The scheme of an address in lower case; none for a path, and for an address that has none."""
    try:
        return urlsplit(address).scheme.lower()
    except ValueError:
        return ""


def attachment(cell: NotebookNode, source: str) -> str:
    """An image that was pasted into a cell, as a data address."""
    name = source.removeprefix("attachment:")
    attachments = cell.get("attachments") or {}
    data = attachments.get(name) or attachments.get(unquote(name)) or {}
    kinds = [kind for kind in data if kind.startswith("image/")]
    if not kinds:
        raise MissingImage("the cell has no attachment of this name")
    # A vector image is best, then one without loss.
    order = {"image/svg+xml": 0, "image/png": 1, "image/jpeg": 2}
    kind = min(kinds, key=lambda kind: order.get(kind, 3))
    value = joined(data[kind])
    if kind == "image/svg+xml" and value.lstrip().startswith("<"):
        value = base64.b64encode(value.encode()).decode()
    return f"data:{kind};base64,{''.join(value.split())}"


def data_address(directory: Path, source: str) -> str:
    """A local image, relative to the notebook's folder, as a data address."""
    if not source:
        raise MissingImage("it has no address")
    if scheme := urlsplit_scheme(source):
        raise MissingImage(f"addresses with {scheme}: are not read")
    address, _, fragment = source.partition("#")
    address = address.partition("?")[0]
    if address.startswith("/"):
        raise MissingImage("its path is absolute; write it relative to the notebook")
    kind = IMAGES.get(Path(unquote(address)).suffix.lower())
    if kind is None:
        known = ", ".join(sorted(suffix[1:] for suffix in IMAGES))
        raise MissingImage(f"its name has no suffix of an image ({known})")
    # A browser decodes the path; a file may also be named as it is written.
    candidates = dict.fromkeys([unquote(address), address, unquote(address).replace("\\", "/")])
    try:
        found = [directory / path for path in candidates if (directory / path).exists()]
        if not found:
            raise MissingImage(f"there is no file {unquote(address)} in the notebook's folder")
        status = found[0].stat()
        if not stat.S_ISREG(status.st_mode):
            raise MissingImage("it is not a file")
        if status.st_size > LARGEST_FILE:
            raise MissingImage(f"it has more than {LARGEST_FILE // 1_000_000} MB")
        content = found[0].read_bytes()
    except (OSError, ValueError) as error:
        raise MissingImage(f"it can't be read ({error})") from error
    encoded = base64.b64encode(content).decode()
    return f"data:{kind};base64,{encoded}{'#' + fragment if fragment else ''}"
