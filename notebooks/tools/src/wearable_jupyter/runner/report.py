"""What `./justw check` reports of the notebooks it ran: a table, a Markdown summary, JUnit XML."""

import re
from pathlib import Path

from junitparser import Failure, JUnitXml, Skipped, TestCase, TestSuite

from ..setup.atomic_write import replacing
from ..setup.atomic_write import write as write_file
from .output_tags import SKIPPED
from .selection import label
from .strict_run import Result

HEADER = ("notebook", "cells", "seconds", "slowest cell", "result")


def row(result: Result) -> tuple[str, ...]:
    """A notebook's line in the table."""
    slowest = "none"
    if result.timings:
        index, seconds = max(result.timings.items(), key=lambda item: item[1])
        slowest = f"{index + 1} ({result.executed.cells[index].id}), {seconds:.1f} s"
    return (
        label(result.notebook),
        str(result.cells),
        f"{result.seconds:.1f}",
        slowest,
        outcome(result),
    )


def outcome(result: Result) -> str:
    """How a notebook went, in a word or two."""
    if result.failures:
        return "FAILED"
    return f"passed, {len(result.skipped)} skipped" if result.skipped else "passed"


def table(results: list[Result]) -> str:
    """All notebooks, a line each, for a terminal."""
    rows = [HEADER, *map(row, results)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in rows
    )


def markdown(results: list[Result]) -> str:
    """All notebooks, and each failure with the cell's source and what was said of it."""
    rows = [HEADER, ("---",) * len(HEADER), *map(row, results)]
    lines = (" | ".join(cell.replace("|", "\\|") for cell in line) for line in rows)
    parts = ["# Notebooks\n", *(f"| {line} |" for line in lines)]
    for result in results:
        if result.failures:
            parts.append(f"\n## {label(result.notebook)}")
        for index, reason in result.failures.items():
            if index is not None:
                cell = result.executed.cells[index]
                parts.append(f"\nCell {index + 1}, `{cell.id}`:\n\n{fenced(cell.source, 'rust')}")
            parts.append(f"\n{fenced(reason, 'text')}")
    return "\n".join(parts) + "\n"


def fenced(text: str, language: str) -> str:
    """`text` as a code block, whatever is in it."""
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{fence}{language}\n{text}\n{fence}"


def junit(results: list[Result]) -> JUnitXml:
    """Every notebook as a suite, every code cell that was started or failed as a test case."""
    report = JUnitXml("notebooks")
    for result in results:
        suite = TestSuite(printable(label(result.notebook)))
        if None in result.failures:
            suite.add_testcase(case("notebook", None, result))
        for index in sorted({*result.timings, *result.failures, *result.skipped} - {None}):
            suite.add_testcase(
                case(f"{index + 1} {result.executed.cells[index].id}", index, result)
            )
        report.add_testsuite(suite)
    report.update_statistics()
    return report


def case(name: str, index: int | None, result: Result) -> TestCase:
    """A cell as a test case, or the notebook as a whole, with its failure if it has one."""
    made = TestCase(name, printable(label(result.notebook)), result.timings.get(index))
    if index in result.failures:
        reason = result.failures[index]
        source = "" if index is None else f"{result.executed.cells[index].source}\n\n"
        failure = Failure(printable(reason.splitlines()[0]))
        failure.text = printable(source + reason)
        made.result = [failure]
    elif index in result.skipped:
        made.result = [Skipped(f"tagged {SKIPPED}")]
    return made


def printable(text: str) -> str:
    """`text` without a terminal's control characters, for which XML has no place."""
    return re.sub(r"[^\t\n\r\x20-\ud7ff\ue000-\U0010ffff]", "", text)


def write(results: list[Result], directory: Path) -> list[Path]:
    """Write `check.md` and `check.xml` into `directory`."""
    xml, summary = directory / "check.xml", directory / "check.md"
    with replacing(xml) as part:
        junit(results).write(str(part), pretty=True)
    write_file(summary, markdown(results))
    return [summary, xml]
