"""Convert TeX formulas in Markdown to MathML, which browsers render without a script.

Like JupyterLab, this module replaces formulas with placeholders before Markdown is parsed, because
`|`, `_` and `*` have another meaning in Markdown. It recognises the same formulas as JupyterLab;
for a single dollar sign it follows pandoc, so "$5 and $6" is text.

Type parameters such as `Vec<T>` are protected in the same way, because they are not HTML tags.
"""

import json
import re
import subprocess
import sys
from dataclasses import dataclass
from html import escape, unescape
from pathlib import Path

from .elements import ELEMENTS

# A formula contains neither a blank line nor an unescaped delimiter.
_LINE_BREAK = r"\n(?![ \t>]*\n)"
_TOKENS = re.compile(
    rf"""
      (?P<fence>^[ \t>]*(?:[-*+][ ]+|\d+[.)][ ]+)?(?P<fence_line>`{{3,}}|~{{3,}})[^\n]*\n
          (?:(?![ \t>]*(?P=fence_line))[^\n]*\n)*(?:[ \t>]*(?P=fence_line)[`~]*[ \t]*$|\Z|[^\n]*\Z))
    | (?P<code>(?<![\\`])(?P<ticks>`+)(?!`)(?:[^\n]|{_LINE_BREAK})+?(?<!`)(?P=ticks)(?!`))
    | (?P<html><(?:pre|code|script|style|!--)\b.*?(?:</(?:pre|code|script|style)>|-->))
    | \\\\\[(?P<bracket>(?:[^\n]|{_LINE_BREAK})+?)\\\\\]
    | \\\\\((?P<paren>(?:[^\n]|{_LINE_BREAK})+?)\\\\\)
    | (?P<environment>\\begin\{{(?P<name>[a-z]+\*?)\}}(?:[^\n]|{_LINE_BREAK})*?\\end\{{(?P=name)\}})
    | (?P<escaped>\\.)
    | (?P<angle>(?<=[\w:])<(?=&?'?(?P<type>[A-Za-z]\w*)[\w ,<>&':\[\];]*>))
    | \$\$(?P<display>(?:\\.|[^\\$\n]|\$(?!\$)|{_LINE_BREAK})+?)\$\$
    | \$(?![\s$])(?P<inline>(?:\\.|[^\\$`\n]|{_LINE_BREAK})+?)(?<!\s)\$(?!\d)
    """,
    re.VERBOSE | re.MULTILINE | re.DOTALL,
)
# Groups of `_TOKENS` that are formulas, and whether each is a display formula (on its own line).
_DISPLAY = {
    "bracket": True,
    "display": True,
    "environment": True,
    "paren": False,
    "inline": False,
}
# Time limit for one call of the converter.
SECONDS = 10
CONVERTER = Path(__file__).with_name("mathml.py")


def is_type(name: str) -> bool:
    """Return whether a name in angle brackets after another name is a type, not an HTML element."""
    return (len(name) == 1 and name.isupper()) or name.lower() not in ELEMENTS


@dataclass
class Formula:
    """A formula in a cell.

    `text` includes the delimiters, `tex` does not. `convert` sets `html` and, if the conversion
    failed, `error`. `cell` is the cell's number, from 1.
    """

    text: str
    tex: str
    display: bool
    cell: int
    html: str = ""
    error: str = ""


def convert_together(formulas: list[Formula]) -> bool:
    """Convert formulas in one process. Return False if it failed or exceeded the time limit."""
    if not formulas:
        return True
    pairs = json.dumps([(formula.tex, formula.display) for formula in formulas])
    command = [sys.executable, str(CONVERTER)]
    try:
        completed = subprocess.run(
            command, input=pairs.encode(), capture_output=True, timeout=SECONDS
        )
    except subprocess.TimeoutExpired:
        return False
    if completed.returncode != 0:
        return False
    for formula, html in zip(formulas, json.loads(completed.stdout), strict=True):
        formula.html, formula.error = html, ""
        if html.startswith("<math"):
            title = f'<math alttext="{escape(formula.tex)}"'
            formula.html = html.replace("<math", title, 1)
        else:
            message = re.search(r'title="(?:\d+: )?([^"]*)"', html)
            formula.error = unescape(message[1]).rstrip(".") if message else "the TeX is not valid"
    return True


class Formulas:
    """The formulas of one notebook, converted together because references cross cells."""

    def __init__(self, sources: list[str]):
        prefix = "xFORMULAx"
        while any(prefix in source for source in sources):
            prefix += "x"
        self.placeholder = re.compile(rf"{prefix}(\d+)z")
        self._prefix = prefix
        self.formulas: list[Formula] = []

    def protect(self, source: str, cell: int) -> str:
        """Replace each formula in Markdown with a placeholder. `cell` is the cell's number."""

        def replace(match: re.Match) -> str:
            if match["angle"] and is_type(match["type"]):
                return self._placeholder(Formula("<", "", False, cell, html="&lt;"))
            kind = next((kind for kind in _DISPLAY if match[kind] is not None), None)
            if kind is None:
                return match[0]
            tex = match[kind]
            before = source[source.rfind("\n", 0, match.start()) + 1 : match.start()]
            if before.lstrip().startswith(">"):
                tex = re.sub(r"\n[ \t]*>[ \t]?", "\n", tex)
            if not tex.strip():
                return match[0]
            return self._placeholder(Formula(match[0], tex, _DISPLAY[kind], cell))

        return _TOKENS.sub(replace, source)

    def _placeholder(self, formula: Formula) -> str:
        self.formulas.append(formula)
        return f"{self._prefix}{len(self.formulas) - 1}z"

    def convert(self) -> list[str]:
        """Convert all formulas. Return one message for each formula that can't be converted."""
        pending = [formula for formula in self.formulas if not formula.html]
        if not convert_together(pending):
            # A formula crashes or blocks the converter: find the convertible ones one by one.
            convertible = [formula for formula in pending if convert_together([formula])]
            convert_together(convertible)
        messages = []
        for formula in self.formulas:
            if formula.html and not formula.error:
                continue
            reason = formula.error or "the converter crashed or exceeded its time limit"
            tooltip = f"Formula shown as TeX: {reason}"
            formula.html = (
                f'<code class="tex" title="{escape(tooltip)}">{escape(formula.text)}</code>'
            )
            shown = " ".join(formula.text.split())
            shown = shown if len(shown) <= 60 else f"{shown[:57]}…"
            messages.append(
                f"cell {formula.cell}: the formula {shown} is shown as TeX, because it can't be "
                f"converted to MathML: {reason}."
            )
        return messages

    def restore(self, text: str, attribute: str) -> str:
        """Replace each placeholder with the formula's `attribute`, which is `text` or `html`."""
        return self.placeholder.sub(
            lambda match: getattr(self.formulas[int(match[1])], attribute), text
        )
