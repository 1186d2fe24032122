"""Where in a cell a line of the source stands that evcxr has generated from it.

evcxr copies the statements of a cell line by line into a function, after what items (functions,
types) the cells have defined, and with lines of its own around them. It does not say where.
"""

from difflib import SequenceMatcher
from typing import NamedTuple


class Place(NamedTuple):
    """A line and a column, both from 1."""

    line: int
    column: int


# The line of the call in whose argument the statements of the cell stand; see evcxr_shim.
CALL = "kernel_cell::caught("


def locate(cell: str, generated: str, place: Place) -> Place | None:
    """Where in `cell` the place in `generated` is; None if it is not in this cell.

    Lines are matched in order and in as long runs as there are, so that of two equal lines the
    right one is found. A line that holds the end of one statement and the start of the next is in
    two pieces in the generated source: each is looked for between its neighbours.
    """
    ours, theirs = cell.splitlines(), generated.splitlines()
    if not 0 < place.line <= len(theirs):
        return None
    start = next((n for n, line in enumerate(theirs, 1) if CALL in line), 0)
    first, last = (start, len(theirs)) if place.line > start else (0, start)
    at = place.line - 1 - first
    matcher = SequenceMatcher(None, ours, theirs[first:last], autojunk=False)
    before, after = 0, len(ours)
    for block in matcher.get_matching_blocks():
        if block.b <= at < block.b + block.size:
            return Place(block.a + at - block.b + 1, place.column)
        if block.b + block.size <= at:
            before = max(before, block.a + block.size - 1)
        elif block.size:
            after = min(after, block.a + 1)
    text = theirs[place.line - 1]
    piece = text.strip()
    for number in range(max(before, 0), after):
        if piece and (column := ours[number].find(piece)) >= 0:
            return Place(number + 1, place.column + column - text.index(piece))
    return None


def shown(cell: str, place: Place, name: str) -> list[str]:
    """The line of a cell with a mark below the column, as rustc shows it."""
    text = cell.splitlines()[place.line - 1].rstrip()
    if place.column > len(text):  # of code that the kernel has added to the line
        place = Place(place.line, len(text) - len(text.lstrip()) + 1)
    # Tabs as the line has them, or the mark would stand elsewhere.
    margin = "".join("\t" if c == "\t" else " " for c in text[: place.column - 1])
    number = str(place.line)
    space = " " * len(number)
    return [
        f"{space}--> {name}:{place.line}:{place.column}",
        f"{space} |",
        f"{number} | {text}",
        f"{space} | {margin}^",
    ]
