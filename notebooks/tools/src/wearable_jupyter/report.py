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
        "passed" if result.failure is None else "FAILED",
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
        if result.failure is None:
            continue
        parts.append(f"\n## {result.notebook.stem}\n")
        if result.failed is not None:
            cell = result.executed.cells[result.failed]
            parts.append(
                f"Cell {result.failed + 1}, `{cell.id}`:\n\n{fenced(cell.source, 'rust')}\n"
            )
        parts.append(fenced(result.failure, "text"))
    return "\n".join(parts) + "\n"


def fenced(text: str, language: str) -> str:
    """`text` as a code block, whatever is in it."""
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{fence}{language}\n{text}\n{fence}"


def junit(results: list[Result]) -> JUnitXml:
    """Every notebook as a suite, every code cell that was started as a test case."""
    report = JUnitXml("notebooks")
    for result in results:
        suite = TestSuite(result.notebook.stem)
        cases = dict(result.timings)
        if result.failure is not None and result.failed is None:
            suite.add_testcase(failed(TestCase("kernel", result.notebook.stem), result))
        for index, seconds in cases.items():
            cell = result.executed.cells[index]
            case = TestCase(f"{index + 1} {cell.id}", result.notebook.stem, seconds)
            suite.add_testcase(failed(case, result) if index == result.failed else case)
        report.add_testsuite(suite)
    report.update_statistics()
    return report


def failed(case: TestCase, result: Result) -> TestCase:
    """The case, with the notebook's failure."""
    source = "" if result.failed is None else result.executed.cells[result.failed].source
    # XML has no place for a terminal's control characters.
    text = re.sub(r"[^\t\n\r\x20-\ud7ff\ue000-\U0010ffff]", "", f"{source}\n\n{result.failure}")
    reason = Failure(text.removeprefix(source).strip().splitlines()[0])
    reason.text = text
    case.result = [reason]
    return case


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
