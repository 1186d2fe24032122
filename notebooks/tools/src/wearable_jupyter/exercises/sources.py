"""Reads the sources of exercises: Markdown with settings between two lines `---` and sections.

`polars_notebook::exercise::Task` describes the parts that the check reads. Notebooks also need the
settings `notebook` (the name of the walkthrough), `minutes` and `points`, the text before the first
section, and the Rust blocks of these sections:

- `Given` (optional): code that the learner runs and does not change,
- `Starter`: the cell in which the learner answers,
- `Solution`: its first block defines the answer,
- `Wrong: NAME`: a wrong answer, and a line ``Feedback: `…` `` with text that its feedback must
  contain. In that text, `…` stands for any text.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from ..setup import paths
from ..setup.errors import UserError

FOLDER = paths.LIBRARY / "exercises"
SETTINGS = {"title", "notebook", "minutes", "points", "key", "conditions"}
SECTIONS = re.compile(r"Given|Starter|Hints|Solution|Expected|Wrong: .+")
# Cells must fit on a slide.
MAX_LINES = 10
MAX_COLUMNS = 100


@dataclass(frozen=True)
class Wrong:
    """A wrong answer and the feedback that it must get."""

    name: str
    code: str
    feedback: re.Pattern


@dataclass(frozen=True)
class Task:
    """An exercise as its source describes it; codes are Rust."""

    number: int
    title: str
    walkthrough: str
    minutes: int
    points: int
    text: str
    given: str | None
    starter: str
    hints: int
    solution: str
    wrong: tuple[Wrong, ...]
    compares_with_given: bool

    @property
    def exercise(self) -> str:
        """The Rust expression of the exercise."""
        given = f".given(&given_{self.number})" if self.compares_with_given else ""
        return f"exercise({self.number})?{given}"

    def check(self, method: str = "check") -> str:
        """The Rust expression that checks the answer."""
        return f"{self.exercise}.{method}(&answer_{self.number})"


def tasks(folder: Path = FOLDER) -> list[Task]:
    """All exercises in the order of their numbers. Raises `UserError` for an invalid source."""
    files = sorted(folder.glob("[0-9][0-9]_*.md"))
    for number, file in enumerate(files, 1):
        if int(file.name[:2]) != number:
            shown = paths.display_path(file)
            raise UserError(f"The name of {shown} must begin with {number:02}. Rename the file")
    return [parse(number, file) for number, file in enumerate(files, 1)]


def parse(number: int, file: Path) -> Task:
    """The exercise in a file. Raises `UserError`."""
    try:
        return task_of(number, file.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise UserError(f"{paths.display_path(file)} is not valid: {error}") from error


def task_of(number: int, source: str) -> Task:
    """The exercise in a text. Raises `ValueError`."""
    match = re.fullmatch(r"---\n(.*?)\n---\n(.*)", source, re.DOTALL)
    if not match:
        raise ValueError("it must begin with settings between two lines `---`")
    settings = dict(line.split(": ", 1) for line in match[1].splitlines())
    if unknown := set(settings) - SETTINGS:
        raise ValueError(f"unknown settings: {', '.join(sorted(unknown))}")
    text, *rest = re.split(r"^## (.+)\n", match[2], flags=re.MULTILINE)
    sections = list(zip(rest[::2], rest[1::2], strict=True))
    for name, _ in sections:
        if not SECTIONS.fullmatch(name):
            raise ValueError(f"unknown section `## {name}`")
    by_name = dict(sections)
    if len(by_name) < len(sections):
        raise ValueError("two sections have the same name")
    for name in ("title", "notebook", "minutes", "points"):
        if name not in settings:
            raise ValueError(f"the setting `{name}` is missing")
    for name in ("Starter", "Hints", "Solution", "Expected"):
        if name not in by_name:
            raise ValueError(f"the section `## {name}` is missing")
    answers = [(name, by_name[name]) for name in by_name if name.startswith("Wrong: ")]
    if not answers:
        raise ValueError("it has no wrong answer")
    starter, solution = rust(by_name["Starter"]), rust(by_name["Solution"])
    for name, code in (("Starter", starter), ("Solution", solution)):
        if f"let answer_{number} = " not in code:
            raise ValueError(f"`## {name}` does not define `answer_{number}`")
    given = rust(by_name["Given"]) if "Given" in by_name else None
    compares = "given" in settings.get("conditions", "") or "given query" in by_name["Expected"]
    if compares and f"let given_{number} = " not in (given or ""):
        raise ValueError(f"`## Given` does not define `given_{number}`")
    return Task(
        number=number,
        title=settings["title"],
        walkthrough=settings["notebook"],
        minutes=int(settings["minutes"]),
        points=int(settings["points"]),
        text=text.strip(),
        given=given,
        starter=starter,
        hints=len(re.findall(r"^\d+\. ", by_name["Hints"], re.MULTILINE)),
        solution=solution,
        wrong=tuple(wrong(name.removeprefix("Wrong: "), section) for name, section in answers),
        compares_with_given=compares,
    )


def rust(section: str) -> str:
    """The first Rust block of a section, which must fit into a cell. Raises `ValueError`."""
    block = re.search(r"^```rust\n(.*?)\n```$", section, re.DOTALL | re.MULTILINE)
    if not block:
        raise ValueError(f"a section has no Rust block: {section.strip()[:40]!r}")
    lines = block[1].splitlines()
    if len(lines) > MAX_LINES or any(len(line) > MAX_COLUMNS for line in lines):
        raise ValueError(
            f"a cell has more than {MAX_LINES} lines or {MAX_COLUMNS} columns: {lines[0]}"
        )
    return block[1]


def wrong(name: str, section: str) -> Wrong:
    """A wrong answer. Raises `ValueError`."""
    feedback = re.search(r"^Feedback: `(.+)`$", section, re.MULTILINE)
    if not feedback:
        raise ValueError(f"the wrong answer {name!r} has no line ``Feedback: `…` ``")
    parts = [re.escape(part) for part in feedback[1].split("…")]
    return Wrong(name, rust(section), re.compile(".*".join(parts)))
