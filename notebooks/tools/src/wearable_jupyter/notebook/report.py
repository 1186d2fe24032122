"""What `./justw check` says of the notebooks it ran: a table, a Markdown summary, JUnit XML."""

import re
from pathlib import Path

import nbformat
from junitparser import Failure, JUnitXml, TestCase, TestSuite

from .runner import Result

HEADER = ("notebook", "cells", "seconds", "slowest cell", "result")


def row(result: Result) -> tuple[str, ...]:
    """A notebook's line in the table."""
    slowest = "none"
    if result.timings:
        index, seconds = max(result.timings.items(), key=lambda item: item[1])
        slowest = f"{index + 1} ({result.executed.cells[index].id}), {seconds:.1f} s"
    return (
        result.notebook.stem,
        str(result.cells),
        f"{result.seconds:.1f}",
        slowest,
        "FAILED" if result.failures else "passed",
    )


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
    parts = ["# Notebooks\n", *(f"| {' | '.join(line)} |" for line in rows)]
    for result in results:
        if result.failures:
            parts.append(f"\n## {result.notebook.stem}")
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
        suite = TestSuite(result.notebook.stem)
        if None in result.failures:
            suite.add_testcase(case("notebook", None, result))
        for index in sorted({*result.timings, *result.failures} - {None}):
            suite.add_testcase(
                case(f"{index + 1} {result.executed.cells[index].id}", index, result)
            )
        report.add_testsuite(suite)
    report.update_statistics()
    return report


def case(name: str, index: int | None, result: Result) -> TestCase:
    """A cell as a test case, or the notebook as a whole, with its failure if it has one."""
    made = TestCase(name, result.notebook.stem, result.timings.get(index))
    if index in result.failures:
        reason = result.failures[index]
        source = "" if index is None else f"{result.executed.cells[index].source}\n\n"
        failure = Failure(printable(reason.splitlines()[0]))
        failure.text = printable(source + reason)
        made.result = [failure]
    return made


def printable(text: str) -> str:
    """`text` without a terminal's control characters, for which XML has no place."""
    return re.sub(r"[^\t\n\r\x20-\ud7ff\ue000-\U0010ffff]", "", text)


def write(results: list[Result], directory: Path) -> list[Path]:
    """Write `check.xml` and `check.md`, and every executed notebook, into `directory`."""
    directory.mkdir(parents=True, exist_ok=True)
    xml, summary = directory / "check.xml", directory / "check.md"
    junit(results).write(str(xml), pretty=True)
    summary.write_text(markdown(results))
    written = [summary, xml]
    for result in results:
        written.append(directory / result.notebook.name)
        written[-1].write_text(nbformat.writes(result.executed))
    return written
