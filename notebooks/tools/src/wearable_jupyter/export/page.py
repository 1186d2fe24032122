"""Render Markdown cells and outputs as HTML that needs no script, no network and no other file.

This happens before nbconvert's templates run, because the table of contents, anchors and formulas
depend on the whole notebook.
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

# A larger image would make the page too large to send and slow to open.
MAX_IMAGE_BYTES = 20_000_000
IMAGE_TYPES = {
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
# The MIME types of an output that a page can show, best first. JavaScript and widgets are excluded
# because they need files from a network.
DISPLAYABLE = (
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
# Elements of HTML outputs that may refer to other files.
_NEEDS_WORK = re.compile(
    r"<(?:img|image|picture|source|video|audio|track|iframe|embed|object|script|link|base|meta|a)\b",
    re.IGNORECASE,
)


def unknown_tags_as_text(html: str) -> str:
    """Escape tags that are not HTML elements, so that a browser shows them as text."""
    return _TAG.sub(
        lambda match: "<" if match[1].lower() in ELEMENTS or "-" in match[1] else "&lt;", html
    )


class _Renderer(IPythonRenderer):
    """nbconvert's renderer without its anchors and attachments; `Page` adds both later."""

    def heading(self, text: str, level: int, **attrs) -> str:
        return HTMLRenderer.heading(self, text, level, **attrs)

    def image(self, text: str, url: str, title: str | None = None) -> str:
        return HTMLRenderer.image(self, text, url, title)

    def block_html(self, html: str) -> str:
        return super().block_html(unknown_tags_as_text(html))

    def inline_html(self, html: str) -> str:
        return super().inline_html(unknown_tags_as_text(html))

    def block_code(self, code: str, info: str | None = None) -> str:
        """Render a code block; without highlighting if pygments has no lexer for its language."""
        language = re.split(r"[\s,{]", (info or "").strip().lstrip("{"))[0].rstrip("}")
        try:
            get_lexer_by_name(language)
        except ClassNotFound:
            language = ""
        if not language:
            return f"<pre><code>{escape(code, quote=False)}</code></pre>\n"
        return super().block_code(code, language)


def render_markdown(source: str) -> str:
    """Render Markdown as HTML. Formulas must be replaced with placeholders."""
    plugins = [import_plugin(name) for name in MarkdownWithMath.DEFAULT_PLUGINS]
    renderer = _Renderer(escape=False)
    markdown = Markdown(renderer, inline=InlineParser(hard_wrap=False), plugins=plugins)
    return str(markdown(source))


def text_of(tag: Tag) -> str:
    """Return an element's text, with formulas as TeX and images as their alternative text."""
    parts = []
    for child in tag.children:
        if isinstance(child, Tag):
            replacement = {"math": "alttext", "img": "alt"}.get(child.name)
            parts.append(child.get(replacement, "") if replacement else text_of(child))
        elif type(child) is NavigableString:
            parts.append(str(child))
    return " ".join("".join(parts).split())


def overwritten(text: str) -> str:
    """Apply carriage returns and backspaces, as a terminal does."""
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
    """Return an output's text. A notebook file may store it as a list of lines."""
    if isinstance(value, list):
        return "".join(str(line) for line in value)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=2)


# The kinds of callouts by their label. A callout with another label is a note.
CALLOUTS = {"key insight": "insight", "watch out": "warning", "your turn": "task"}


def style_callouts(soup: BeautifulSoup) -> None:
    """Give each block quote that starts with a bold label the class of its kind of callout."""
    for quote_ in soup.find_all("blockquote"):
        first = next((c for c in quote_.children if isinstance(c, Tag)), None)
        inner = [c for c in first.children if str(c).strip()] if first is not None else []
        if first is None or first.name != "p" or getattr(inner[0], "name", "") != "strong":
            continue
        label = text_of(inner[0]).rstrip(".:! ")
        quote_["class"] = f"callout {CALLOUTS.get(label.lower(), 'note')}"
        quote_["role"] = "note"
        quote_["aria-label"] = label


def finish_tables(soup: BeautifulSoup) -> None:
    """Put each table into an element that scrolls, and unescape vertical bars in its code."""
    for table in soup.find_all("table"):
        # A vertical bar in a table's code is written as `\\|`; mistune keeps the backslash.
        for text in [
            text for code in table.find_all("code") for text in code.find_all(string=True)
        ]:
            text.replace_with(text.replace("\\|", "|"))
        table.wrap(soup.new_tag("div", attrs={"class": "table", "tabindex": "0"}))


class Page:
    """Renders a notebook in place, and collects the table of contents and messages.

    Attributes:
        title: text of the first heading of level 1, or empty.
        contents: headings as dicts with `level`, `href` and `html`.
        messages: one for each omitted image, output or formula.
    """

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
        self._cells = [(n, cell) for n, cell in numbered if not self._is_omitted(cell)]
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
                style_callouts(soup)
                finish_tables(soup)
            self._set_html(cell, part, soup)

    @staticmethod
    def _is_omitted(cell: NotebookNode) -> bool:
        """Return whether a raw cell is empty or targets another format than HTML."""
        if cell.cell_type != "raw":
            return False
        kind = str(cell.metadata.get("raw_mimetype") or cell.metadata.get("format") or "").lower()
        if kind not in ("", "text/html", "text/markdown", "text/plain"):
            return True
        cell.metadata["raw_type"] = kind
        return not cell.source.strip()

    def _name_cells(self) -> None:
        """Assign a unique id to each cell. Notebook formats before 4.5 have no ids."""
        for number, cell in self._cells:
            preferred = str(cell.get("id") or f"cell-{number}")
            cell["id"] = self._unique(preferred, prefix="cell-id=")

    def _unique(self, preferred: str, prefix: str = "") -> str:
        name, count = preferred, 1
        while prefix + name in self._ids:
            count += 1
            name = f"{preferred}-{count}"
        self._ids.add(prefix + name)
        return name

    def _to_convert(self):
        """Yield `(cell number, cell, part)` for each cell and output that must be rendered."""
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
        """Reduce each output to the one representation that the page shows."""
        cell.setdefault("outputs", [])
        for index, output in enumerate(cell.outputs):
            if output.output_type == "stream":
                output["text"] = overwritten(joined(output.get("text", "")))
            elif output.output_type == "error":
                if not any(str(line).strip() for line in output.get("traceback", [])):
                    output["traceback"] = [f"{output.get('ename')}: {output.get('evalue')}"]
            else:
                output.setdefault("metadata", NotebookNode())
                output["data"] = self._chosen(output, number, f"{cell.id}-{index}")

    def _chosen(self, output: NotebookNode, number: int, name: str) -> NotebookNode:
        data = output.get("data", {})
        if charts.MIME in data:
            try:
                figure = charts.Figure.read(data[charts.MIME])
            except charts.UnsupportedChart as error:
                self.messages.append(f"cell {number}: the chart is omitted: {error}.")
            else:
                output.metadata["chart"] = {
                    "id": self._unique(f"chart-{name}"),
                    "description": figure.description(),
                    "picture": data.get("image/png"),
                }
                return NotebookNode({charts.MIME: figure.json()})
        for kind in DISPLAYABLE:
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
            self.messages.append(
                f"cell {number}: the output is omitted, because HTML can't show {kinds}."
            )
            note = f"Output omitted: a page without network access can't show {kinds}."
            return NotebookNode({"text/html": f'<p class="omitted">{escape(note)}</p>'})
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
        """Add a unique anchor to each heading, and list headings of cells in the contents."""
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
        """Return a heading's child nodes without links, images and ids."""
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
        """Remove scripts and event handlers. JupyterLab does not run them in Markdown either."""
        for tag in soup.find_all("script"):
            tag.decompose()
        for tag in soup.find_all(True):
            for name in [name for name in tag.attrs if name.lower().startswith("on")]:
                del tag[name]

    def _make_self_contained(self, soup: BeautifulSoup, number: int, cell: NotebookNode) -> None:
        """Embed local images, and remove or link everything that the page would load."""
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
                self.messages.append(
                    f"cell {number}: {source} can't be embedded, so the page links to it."
                )
                self._replace_by_link(soup, tag, source, f"{tag.name}: {source}")
        for tag in soup.find_all(["script", "link", "base", "meta"]):
            source = tag.get("src") or tag.get("href")
            if tag.name == "script" and not source:
                continue
            if source and tag.name != "base":
                self.messages.append(
                    f"cell {number}: {source} is omitted, because the page loads no files."
                )
            tag.decompose()
        for tag in soup.find_all(["a", "area"], href=True):
            scheme = re.sub(r"[\x00-\x20]", "", tag["href"]).partition(":")[0].lower()
            if scheme in ("javascript", "vbscript", "data"):
                del tag["href"]

    @staticmethod
    def _replace_by_link(soup: BeautifulSoup, tag: Tag, source: str, text: str) -> None:
        source = f"https:{source}" if source.startswith("//") else source
        link = soup.new_tag("a", attrs={"class": "omitted", "href": source})
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
                f"cell {number}: the image {source} is not local, so the page links to it."
            )
            label = f"{alternative or 'image'} (image on the web)"
            self._replace_by_link(soup, tag, source, label)
            return
        try:
            if source.startswith("attachment:"):
                tag[name] = attachment(cell, source)
            else:
                tag[name] = data_url(self.directory, source)
        except MissingImage as error:
            self.messages.append(f"cell {number}: the image {source} is omitted: {error}.")
            note = soup.new_tag("span", attrs={"class": "omitted", "role": "img"})
            note.string = f"{alternative or source} (missing image)"
            note["title"] = f"{source}: {error}"
            tag.replace_with(note)


class MissingImage(Exception):
    """An image can't be embedded. The message is the reason."""


def urlsplit_scheme(address: str) -> str:
    """Return a URL's scheme in lower case. It is empty for a path or an invalid URL."""
    try:
        return urlsplit(address).scheme.lower()
    except ValueError:
        return ""


def attachment(cell: NotebookNode, source: str) -> str:
    """Return an image that is attached to a cell, as a data URL.

    Raises:
        MissingImage: the cell has no such attachment.
    """
    name = source.removeprefix("attachment:")
    attachments = cell.get("attachments") or {}
    data = attachments.get(name) or attachments.get(unquote(name)) or {}
    kinds = [kind for kind in data if kind.startswith("image/")]
    if not kinds:
        raise MissingImage("the cell has no image attachment with this name")
    # Prefer a vector image, then a lossless one.
    order = {"image/svg+xml": 0, "image/png": 1, "image/jpeg": 2}
    kind = min(kinds, key=lambda kind: order.get(kind, 3))
    value = joined(data[kind])
    if kind == "image/svg+xml" and value.lstrip().startswith("<"):
        value = base64.b64encode(value.encode()).decode()
    return f"data:{kind};base64,{''.join(value.split())}"


def data_url(directory: Path, source: str) -> str:
    """Return a local image as a data URL. `source` is relative to the notebook's folder.

    Raises:
        MissingImage: the file is missing, unreadable, too large, or not an image.
    """
    if not source:
        raise MissingImage("its address is empty")
    if scheme := urlsplit_scheme(source):
        raise MissingImage(f"{scheme}: addresses are not supported")
    address, _, fragment = source.partition("#")
    address = address.partition("?")[0]
    if address.startswith("/"):
        raise MissingImage("its path is absolute. Use a path relative to the notebook")
    kind = IMAGE_TYPES.get(Path(unquote(address)).suffix.lower())
    if kind is None:
        suffixes = ", ".join(sorted(suffix[1:] for suffix in IMAGE_TYPES))
        raise MissingImage(f"its file name does not end in one of: {suffixes}")
    # A browser decodes the path, but a file name may also contain the characters as written.
    candidates = dict.fromkeys([unquote(address), address, unquote(address).replace("\\", "/")])
    try:
        existing = [directory / path for path in candidates if (directory / path).exists()]
        if not existing:
            raise MissingImage(f"the notebook's directory has no file {unquote(address)}")
        status = existing[0].stat()
        if not stat.S_ISREG(status.st_mode):
            raise MissingImage("it is not a regular file")
        if status.st_size > MAX_IMAGE_BYTES:
            raise MissingImage(f"it is larger than {MAX_IMAGE_BYTES // 1_000_000} MB")
        content = existing[0].read_bytes()
    except (OSError, ValueError) as error:
        raise MissingImage(f"it can't be read ({error})") from error
    encoded = base64.b64encode(content).decode()
    return f"data:{kind};base64,{encoded}{'#' + fragment if fragment else ''}"
