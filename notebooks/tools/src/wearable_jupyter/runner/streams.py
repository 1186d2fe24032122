"""A cell's outputs as a reader sees them: all that it printed to a stream in one output.

nbclient can do the same (`coalesce_streams`), in a time that grows with the square of a line's
length.
"""

import re

from nbformat import NotebookNode

ORDER = ("stdout", "stderr")


def merged(outputs: list[NotebookNode]) -> tuple[list[NotebookNode], dict[int, int]]:
    """The outputs with one output for each stream, and each other output's new place by its old.

    A stream stands where its first text was, stdout before a stderr that directly precedes it:
    the two arrive in any order.
    """
    kept: list[NotebookNode] = []
    places: list[int | None] = []
    texts: dict[str, list[str]] = {}
    for place, output in enumerate(outputs):
        if output.output_type != "stream":
            kept.append(output)
            places.append(place)
        elif output.name in texts:
            texts[output.name].append(output.text)
        else:
            texts[output.name] = [output.text]
            kept.append(output)
            places.append(None)
    for at in range(len(kept) - 1):
        names = [output.get("name") for output in kept[at : at + 2]]
        if names == ["stderr", "stdout"]:
            kept[at : at + 2] = reversed(kept[at : at + 2])
    for output in kept:
        if output.output_type == "stream":
            output.text = as_displayed("".join(texts[output.name]))
    moved = {old: new for new, old in enumerate(places) if old is not None}
    return kept, moved


def as_displayed(text: str) -> str:
    """Text after its carriage returns: each one starts the line again."""
    if "\r" not in text:
        return text
    return "\n".join(last_version(line) for line in text.split("\n"))


def last_version(line: str) -> str:
    """What is left of a line whose beginning was overwritten; carriage returns at its end stay."""
    body = line.rstrip("\r")
    return body.rpartition("\r")[2] + line[len(body) :]


def without_colors(text: str) -> str:
    """`text` without a terminal's control sequences: colors, cursor movements, links."""
    return CONTROL_SEQUENCE.sub("", text)


CONTROL_SEQUENCE = re.compile(
    r"\x1b(?:\[[0-?]*[ -/]*[@-~]"  # CSI, such as a color
    r"|\][^\x07\x1b]{0,4096}(?:\x07|\x1b\\)"  # OSC, such as a link
    r"|[@-Z\\^_])"
)
