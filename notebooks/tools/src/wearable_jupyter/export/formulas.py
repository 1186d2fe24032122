"""TeX formulas in Markdown, converted to MathML, which browsers render without a script.

A type's parameter, as in `Vec<T>`, is protected from Markdown in the same way: it is no HTML tag.

JupyterLab replaces formulas with placeholders before it parses Markdown, so that `|` in a table and
`_` or `*` in a formula keep their meaning. So does this module. What counts as a formula follows
JupyterLab, and for a single dollar sign pandoc: "$5 and $6" is text.
"""

import json
import re
import subprocess
import sys
from dataclasses import dataclass
from html import escape, unescape
from pathlib import Path

from .elements import ELEMENTS

# Within a formula: no blank line, and no delimiter that a backslash doesn't escape.
_LINE_BREAK = r"\n(?![ \t>]*\n)"
_TOKENS = re.compile(
    rf"""
      (?P<fence>^[ \t>]*(?:[-*+][ ]+|\d+[.)][ ]+)?(?P<mark>`{{3,}}|~{{3,}})[^\n]*\n
          (?:(?![ \t>]*(?P=mark))[^\n]*\n)*(?:[ \t>]*(?P=mark)[`~]*[ \t]*$|\Z|[^\n]*\Z))
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
# Groups of the expression above that are formulas, and whether they stand on a line of their own.
_DISPLAY = {
    "bracket": True,
    "display": True,
    "environment": True,
    "paren": False,
    "inline": False,
}
SECONDS = 10
CONVERTER = Path(__file__).with_name("mathml.py")


def is_type(name: str) -> bool:
    """Whether a name in angle brackets behind another name is a type, and not an HTML element."""
    return (len(name) == 1 and name.isupper()) or name.lower() not in ELEMENTS


@dataclass
class Formula:
    """A formula in a cell: its text with delimiters, its TeX, and later its MathML, or why not."""

    text: str
    tex: str
    display: bool
    cell: int
    html: str = ""
    error: str = ""


def converted(formulas: list[Formula]) -> bool:
    """Convert formulas together; False if the converter could not finish."""
    if not formulas:
        return True
    pairs = json.dumps([(formula.tex, formula.display) for formula in formulas])
    command = [sys.executable, str(CONVERTER)]
    try:
        done = subprocess.run(command, input=pairs.encode(), capture_output=True, timeout=SECONDS)
    except subprocess.TimeoutExpired:
        return False
    if done.returncode != 0:
        return False
    for formula, html in zip(formulas, json.loads(done.stdout), strict=True):
        formula.html, formula.error = html, ""
        if html.startswith("<math"):
            title = f'<math alttext="{escape(formula.tex)}"'
            formula.html = html.replace("<math", title, 1)
        else:
            found = re.search(r'title="(?:\d+: )?([^"]*)"', html)
            formula.error = unescape(found[1]).rstrip(".") if found else "the TeX is not valid"
    return True


class Formulas:
    """The formulas of one notebook. They are converted together, so that references work."""

    def __init__(self, sources: list[str]):
        mark = "xFORMULAx"
        while any(mark in source for source in sources):
            mark += "x"
        self.placeholder = re.compile(rf"{mark}(\d+)z")
        self._mark = mark
        self.found: list[Formula] = []

    def protect(self, source: str, cell: int) -> str:
        """Markdown with a placeholder in place of each formula."""

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
        self.found.append(formula)
        return f"{self._mark}{len(self.found) - 1}z"

    def convert(self) -> list[str]:
        """Convert all formulas; the messages name those that stay TeX."""
        wanted = [formula for formula in self.found if not formula.html]
        if not converted(wanted):
            # One of them is too much for the converter.
            wanted = [formula for formula in wanted if converted([formula])]
            converted(wanted)
        messages = []
        for formula in self.found:
            if formula.html and not formula.error:
                continue
            reason = formula.error or "the converter ended without a result"
            note = f"Formula shown as TeX: {reason}"
            formula.html = f'<code class="tex" title="{escape(note)}">{escape(formula.text)}</code>'
            shown = " ".join(formula.text.split())
            shown = shown if len(shown) <= 60 else f"{shown[:57]}…"
            messages.append(
                f"cell {formula.cell}: the formula {shown} stays TeX, because it can't be "
                f"converted to MathML: {reason}."
            )
        return messages

    def restore(self, text: str, attribute: str) -> str:
        """`text` with its placeholders replaced by an attribute of the formulas."""
        return self.placeholder.sub(
            lambda match: getattr(self.found[int(match[1])], attribute), text
        )
