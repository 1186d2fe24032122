"""Merges all outputs of a cell to a stream into one output.

nbclient's `coalesce_streams` does the same, but in quadratic time for long lines.
"""

import re

from nbformat import NotebookNode

ORDER = ("stdout", "stderr")


def merged(outputs: list[NotebookNode]) -> tuple[list[NotebookNode], dict[int, int]]:
    """The outputs with one for each stream, and a map from old to new indexes of the others.

    A stream is at the position of its first text. stdout is moved before an adjacent stderr,
    because their order varies.
    """
    result: list[NotebookNode] = []
    places: list[int | None] = []
    texts: dict[str, list[str]] = {}
    for place, output in enumerate(outputs):
        if output.output_type != "stream":
            result.append(output)
            places.append(place)
        elif output.name in texts:
            texts[output.name].append(output.text)
        else:
            texts[output.name] = [output.text]
            result.append(output)
            places.append(None)
    for at in range(len(result) - 1):
        names = [output.get("name") for output in result[at : at + 2]]
        if names == ["stderr", "stdout"]:
            result[at : at + 2] = reversed(result[at : at + 2])
    for output in result:
        if output.output_type == "stream":
            output.text = as_displayed("".join(texts[output.name]))
    moved = {old: new for new, old in enumerate(places) if old is not None}
    return result, moved


def as_displayed(text: str) -> str:
    """The visible text, in which a carriage return overwrites the line."""
    if "\r" not in text:
        return text
    return "\n".join(last_version(line) for line in text.split("\n"))


def last_version(line: str) -> str:
    """The visible text of a line; carriage returns at its end are kept."""
    body = line.rstrip("\r")
    return body.rpartition("\r")[2] + line[len(body) :]


def without_colors(text: str) -> str:
    """`text` without a terminal's control sequences: colours, cursor movements, links."""
    return CONTROL_SEQUENCE.sub("", text)


CONTROL_SEQUENCE = re.compile(
    r"\x1b(?:\[[0-?]*[ -/]*[@-~]"  # CSI, such as a colour
    r"|\][^\x07\x1b]{0,4096}(?:\x07|\x1b\\)"  # OSC, such as a link
    r"|[@-Z\\^_])"
)
