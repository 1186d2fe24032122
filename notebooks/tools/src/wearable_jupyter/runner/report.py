"""Reports of `./justw check`: a table, a Markdown summary and JUnit XML."""

import re
from pathlib import Path

from junitparser import Failure, JUnitXml, Skipped, TestCase, TestSuite

from ..setup.atomic_write import replacing
from ..setup.atomic_write import write as write_file
from .output_tags import SKIP_EXECUTION
from .selection import label
from .strict_run import Result

HEADER = ("notebook", "cells", "seconds", "slowest cell", "result")


def row(result: Result) -> tuple[str, ...]:
    """A notebook's row in the table."""
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
    """The result of a notebook, in a few words."""
    if result.failures:
        return "FAILED"
    return f"passed, {len(result.skipped)} skipped" if result.skipped else "passed"


def table(results: list[Result]) -> str:
    """A table for a terminal, with one line for each notebook."""
    rows = [HEADER, *map(row, results)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in rows
    )


def markdown(results: list[Result]) -> str:
    """A Markdown summary, and each failure with the cell's source and the reason."""
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
    """`text` as a code block, whose fence is longer than any in the text."""
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{fence}{language}\n{text}\n{fence}"


def junit(results: list[Result]) -> JUnitXml:
    """A test suite for each notebook, with a test case for each code cell."""
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
    """A test case for a cell, or for the whole notebook."""
    test_case = TestCase(name, printable(label(result.notebook)), result.timings.get(index))
    if index in result.failures:
        reason = result.failures[index]
        source = "" if index is None else f"{result.executed.cells[index].source}\n\n"
        failure = Failure(printable(reason.splitlines()[0]))
        failure.text = printable(source + reason)
        test_case.result = [failure]
    elif index in result.skipped:
        test_case.result = [Skipped(f"tagged {SKIP_EXECUTION}")]
    return test_case


def printable(text: str) -> str:
    """`text` without control characters, which XML cannot contain."""
    return re.sub(r"[^\t\n\r\x20-\ud7ff\ue000-\U0010ffff]", "", text)


def write(results: list[Result], directory: Path) -> list[Path]:
    """Write `check.md` and `check.xml` into `directory`."""
    xml, summary = directory / "check.xml", directory / "check.md"
    with replacing(xml) as part:
        junit(results).write(str(part), pretty=True)
    write_file(summary, markdown(results))
    return [summary, xml]
