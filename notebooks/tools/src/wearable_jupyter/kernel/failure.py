"""A cell's failure as Jupyter tells of it: a name, a message, and where in the cell it was."""

import re
from typing import Any, NamedTuple

from . import origin
from .origin import Place

RED, BOLD, PLAIN = "\x1b[31m", "\x1b[1m", "\x1b[0m"
# What evcxr calls the source that it generates of a cell.
SOURCE = "src/lib.rs"
ENDED = "Subprocess terminated with status: "
# evcxr aborts after an invalid access to memory, but has no stack to do so after an overflow.
SIGNALS = {
    6: "It was aborted, or could not have the memory that it asked for.",
    9: "It was killed; when memory runs out, Linux does that.",
    11: "Its stack overflowed, as it does by recursion without end.",
}
VARIABLES_GONE = "All variables are gone: run the cells that define them again."
INTERRUPTED = "Interrupted"


class Failure(NamedTuple):
    """What Jupyter's `error` message and a reply hold."""

    name: str
    message: str
    lines: list[str]

    def content(self) -> dict[str, Any]:
        return {"ename": self.name, "evalue": self.message, "traceback": self.lines}


def failure(name: str, message: str, more: list[str] | None = None) -> Failure:
    """A failure whose traceback is its name, its message, and `more` lines."""
    first, *rest = message.splitlines() or [""]
    return Failure(name, message, [f"{RED}{BOLD}{name}{PLAIN}: {first}", *rest, *(more or [])])


def known_as(type_name: str) -> str:
    """A type as people know it, by its whole path.

    `alloc::boxed::Box<dyn core::error::Error>` is a `Box<dyn Error>`. A type that is just called
    Error is named after its crate, or in the standard library after its module, as one writes it:
    `wearable_demo::Error`, `io::Error`.
    """

    def short(path: re.Match) -> str:
        *modules, name = path[0].split("::")
        if name != "Error" or not modules:
            return name
        if modules[0] in ("std", "core", "alloc"):
            outer = [module for module in modules[1:] if module != "error"]
            return "::".join([*outer[-1:], name])
        return name if modules[0] == "ctx" else f"{modules[0]}::{name}"

    return re.sub(r"\w+(?:::\w+)*", short, type_name)


def at_question_mark(type_name: str, message: str, where: list[str]) -> Failure:
    """An error that `?` has ended the cell with."""
    return failure(known_as(type_name), message, where)


def panic(message: str, where: list[str], elsewhere: str, backtrace: str) -> Failure:
    """A panic, with the place if it is not in the cell, and the backtrace if one is wanted."""
    # Of a package, or of the standard library, the path in it.
    file = re.sub(r"^.*/registry/src/[^/]+/|^/rustc/\w+/", "", elsewhere)
    told = [f" in {file}"] if file else []
    return failure("panic", message, [*where, *told, *backtrace.splitlines()])


def interrupted(message: str = "What earlier cells have defined is still there.") -> Failure:
    """A cell that the user has stopped."""
    return failure(INTERRUPTED, message)


def process_ended(evcxrs: str, stopped: bool) -> Failure:
    """The end of the process that runs cells, by what evcxr says of it.

    `stopped` is whether the user has interrupted the cell a second time.
    """
    status = evcxrs.rpartition(ENDED)[2].strip()
    if stopped:
        return interrupted(f"The process that ran the cell was ended.\n{VARIABLES_GONE}")
    signal = re.match(r"signal: (\d+)", status)
    why = SIGNALS.get(int(signal[1])) if signal else None
    lines = [f"The process that ran the cell has ended ({status}).", why, VARIABLES_GONE]
    return failure("ProcessEnded", "\n".join(line for line in lines if line))


def not_compiled(errors: list[dict[str, Any]], count: int) -> Failure:
    """What evcxr says of a cell that did not compile, as one failure: its `error` messages.

    evcxr calls the cell's source `command_` and a number of its own; here it is `In[count]`.
    """
    lines = [
        re.sub(r"command_\d+", f"In[{count}]", line)
        for error in errors
        for line in [*error["traceback"], ""]
    ][:-1]
    code = re.search(r"\[(E\d{4})\]", "\n".join(lines))
    messages = [error["evalue"] for error in errors]
    return Failure(f"error[{code[1]}]" if code else "error", "\n".join(messages), lines)


def where(cell: str, generated: str, file: str, place: Place, count: int) -> list[str]:
    """The lines that show where in the cell it was; or in which file, if that is elsewhere."""
    if file != SOURCE:
        return []
    found = origin.locate(cell, generated, place)
    if found is not None:
        return origin.shown(cell, found, f"In[{count}]")
    lines = generated.splitlines()
    line = lines[place.line - 1].strip() if 0 < place.line <= len(lines) else ""
    return [" --> in what an earlier cell has defined:", "  |", f"  | {line}"]
