"""Describes a cell's failure for Jupyter: a name, a message, and the position in the cell."""

import re
from typing import Any, NamedTuple

from . import source_map
from .source_map import Place

RED, BOLD, PLAIN = "\x1b[31m", "\x1b[1m", "\x1b[0m"
# The file name of the source that evcxr generates from a cell.
SOURCE = "src/lib.rs"
ENDED = "Subprocess terminated with status: "
# Causes of signals that end the process. evcxr aborts after an invalid memory access, but cannot do
# so after a stack overflow.
SIGNALS = {
    6: "It aborted, or a memory allocation failed.",
    9: "It was killed. The operating system kills processes when memory runs out.",
    11: "Its stack overflowed, probably by infinite recursion.",
}
VARIABLES_GONE = "All variables are lost. Run the cells that define them again."
INTERRUPTED = "Interrupted"


class Failure(NamedTuple):
    """The content of Jupyter's `error` message and of a reply."""

    name: str
    message: str
    lines: list[str]

    def content(self) -> dict[str, Any]:
        return {"ename": self.name, "evalue": self.message, "traceback": self.lines}


def failure(name: str, message: str, more: list[str] | None = None) -> Failure:
    """A failure whose traceback is its name, its message, and `more` lines."""
    first, *rest = message.splitlines() or [""]
    return Failure(name, message, [f"{RED}{BOLD}{name}{PLAIN}: {first}", *rest, *(more or [])])


def short_type(type_name: str) -> str:
    """The short name of a type.

    `alloc::boxed::Box<dyn core::error::Error>` becomes `Box<dyn Error>`. A type named `Error` keeps
    its crate, or its module in the standard library: `polars_error::Error`, `io::Error`.
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
    """An error that ended the cell by `?`."""
    return failure(short_type(type_name), message, where)


def panic(message: str, where: list[str], elsewhere: str, backtrace: str) -> Failure:
    """A panic, with the position if it is outside the cell, and a backtrace if one is enabled."""
    # The path relative to the package or to the standard library.
    file = re.sub(r"^.*/registry/src/[^/]+/|^/rustc/\w+/", "", elsewhere)
    place = [f" in {file}"] if file else []
    return failure("panic", message, [*where, *place, *backtrace.splitlines()])


def interrupted(message: str = "Variables of earlier cells are unchanged.") -> Failure:
    """A cell that the user interrupted."""
    return failure(INTERRUPTED, message)


def process_ended(evcxr_errors: str, stopped: bool) -> Failure:
    """The end of the process that runs cells, from evcxr's messages.

    `stopped` is whether the user interrupted the cell a second time.
    """
    status = evcxr_errors.rpartition(ENDED)[2].strip()
    if stopped:
        return interrupted(f"The process that ran the cell was killed.\n{VARIABLES_GONE}")
    signal = re.match(r"signal: (\d+)", status)
    why = SIGNALS.get(int(signal[1])) if signal else None
    lines = [f"The process that ran the cell ended ({status}).", why, VARIABLES_GONE]
    return failure("ProcessEnded", "\n".join(line for line in lines if line))


def refused(fault: str) -> Failure:
    """A cell whose text evcxr must not receive."""
    return failure("error", fault)


def kernel_ended(reason: str) -> Failure:
    """The end of evcxr, and with it of the kernel."""
    return failure("KernelEnded", f"{reason}\nThe kernel ends now. {VARIABLES_GONE}")


def not_reported(compilations: int) -> Failure:
    """A cell that did not report that it ran, although evcxr replied "ok"."""
    how = (
        "It was compiled, but its report did not reach the kernel. Restart the kernel, then run "
        "the notebook from the top."
        if compilations
        else "It was not compiled, because evcxr found no Rust code in it."
    )
    return failure("NoReport", f"The cell did not report that it ran, so it failed. {how}")


# cargo's messages about a dependency that needs the network, and about the network itself.
OFFLINE = re.compile(r"you're using offline mode|--offline was specified|in offline mode")
UNREACHABLE = re.compile(
    r"failed to download from|network failure|download of config\.json failed|"
    r"[Cc]ould not (?:resolve|connect)|failed to resolve address|[Tt]imed? ?out"
)
PACKAGE = re.compile(
    r"no matching package named `([^`]+)`|for the requirement `([^ `]+) = |"
    r"failed to (?:download|get) `([^ `]+)|failed to select a version for `([^`]+)`"
)
# evcxr passes on only this part of cargo's message about an `extern crate`.
UNKNOWN_CRATE = re.compile(r"error: no matching package named `[^`]+` found\s*")


def package_in(text: str) -> str:
    """The name of the package in a message of cargo."""
    found = PACKAGE.search(text)
    return next(filter(None, found.groups()), "") if found else ""


def needs_network(errors: list[dict[str, Any]]) -> str | None:
    """The package that cargo did not find because it works offline, or None."""
    text = "\n".join(error["evalue"] for error in errors)
    if OFFLINE.search(text) or UNKNOWN_CRATE.fullmatch(text):
        return package_in(text) or "a package"
    return None


def dependency(errors: list[dict[str, Any]], online: bool, path: str = "") -> Failure | None:
    """The failure for a dependency that cargo does not find, with the fix, or None.

    `path` is the folder in the cell's `:dep`, because some messages do not contain it.
    """
    text = "\n".join(error["evalue"] for error in errors)
    package = package_in(text)
    package_offline = needs_network(errors)
    if package_offline is not None and not online:
        return failure(
            "DependencyNotFound",
            f"`{package_offline}` is not in the lock file, and this kernel works offline, so that "
            "the notebook does not depend on the network. To fetch it anyway, put the line "
            "`:offline 0` before its `:dep`.",
        )
    if folder := re.search(r"failed to read `(.+)/Cargo\.toml`", text):
        path = folder[1]
    elif text.strip() != "No such file or directory (os error 2)":
        path = ""
    if path:
        return failure(
            "DependencyNotFound",
            f"{path} contains no crate, because it has no Cargo.toml. Check the path.",
        )
    if UNREACHABLE.search(text):
        cause = text.strip().splitlines()[-1].strip()
        return failure(
            "NetworkError",
            f"`{package}` could not be fetched: {cause}\n"
            "Check the network; behind a proxy, set HTTPS_PROXY and restart the kernel.",
        )
    if "location searched: crates.io" in text or UNKNOWN_CRATE.fullmatch(text):
        if versions := re.search(r"candidate versions found which didn't match: (.+)", text):
            wanted = re.search(r"for the requirement `[^`]*?\"(.*?)\"`", text)
            return failure(
                "DependencyNotFound",
                f"`{package}` has no version that matches `{wanted[1] if wanted else ''}`. "
                f"Its newest versions are {versions[1]}",
            )
        if "no matching package named" in text:
            return failure(
                "DependencyNotFound", f"crates.io has no package `{package}`. Check its name."
            )
    return None


# Reasons why a variable no longer exists.
REASONS = {"changed": "its type changed", "missing": "the cell that defines it did not store it"}


def dropped_variables(dropped: dict[str, str]) -> str:
    """A line for each variable that no longer exists."""
    return "".join(
        f"The variable `{name}` was dropped because {REASONS.get(reason, reason)}. "
        "Run the cell that defines it again.\n"
        for name, reason in dropped.items()
    )


def not_compiled(
    errors: list[dict[str, Any]], count: int, dropped: dict[str, str] | None = None
) -> Failure:
    """evcxr's `error` messages about a cell that did not compile, as one failure.

    Replaces evcxr's name of the cell, such as `command_3`, by `In[count]`. `dropped` are variables
    that the cell can no longer use, each with the reason.
    """
    if not errors:
        return failure("error", "evcxr reported an error without a message.")
    lines = [
        re.sub(r"command_\d+", f"In[{count}]", line)
        for error in errors
        for line in [*error["traceback"], ""]
    ][:-1]
    code = re.search(r"\[(E\d{4})\]", "\n".join(lines))
    messages = [error["evalue"] for error in errors]
    if dropped:
        notes = dropped_variables(dropped).splitlines()
        lines, messages = [*lines, "", *notes], [*messages, *notes]
    return Failure(f"error[{code[1]}]" if code else "error", "\n".join(messages), lines)


def where(cell: str, generated: str, file: str, place: Place, count: int) -> list[str]:
    """The lines that show the position in the cell; empty for another file."""
    if file != SOURCE:
        return []
    position = source_map.locate(cell, generated, place)
    if position is not None:
        return source_map.shown(cell, position, f"In[{count}]")
    lines = generated.splitlines()
    line = lines[place.line - 1].strip() if 0 < place.line <= len(lines) else ""
    return [" --> in code of an earlier cell:", "  |", f"  | {line}"]
