"""Maps a line of the source that evcxr generates to a line of the cell.

evcxr copies the statements of a cell line by line into a function. Before it are the items
(functions, types) of all cells, and around it are lines of evcxr. evcxr does not report positions.
"""

from difflib import SequenceMatcher
from typing import NamedTuple


class Place(NamedTuple):
    """A line and a column, both from 1."""

    line: int
    column: int


# The call whose argument contains the statements of the cell; see evcxr_shim.
CALL = "kernel_cell::run_catching_panics("


def locate(cell: str, generated: str, place: Place) -> Place | None:
    """The position in `cell` of a position in `generated`, or None if it is outside this cell.

    Lines are matched in order and in the longest possible runs, which distinguishes equal lines. A
    line with the end of one statement and the start of the next is split in the generated source;
    each part is searched between the neighboring matches.
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
    """The line of a cell with a caret below the column, in rustc's format."""
    text = cell.splitlines()[place.line - 1].rstrip()
    if place.column > len(text):  # in code that the kernel added to the line
        place = Place(place.line, len(text) - len(text.lstrip()) + 1)
    # Repeat the tabs of the line, so that the caret is below its column.
    margin = "".join("\t" if c == "\t" else " " for c in text[: place.column - 1])
    number = str(place.line)
    space = " " * len(number)
    return [
        f"{space}--> {name}:{place.line}:{place.column}",
        f"{space} |",
        f"{number} | {text}",
        f"{space} | {margin}^",
    ]
