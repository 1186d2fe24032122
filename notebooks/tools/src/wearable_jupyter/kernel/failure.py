"""A cell's failure as Jupyter tells of it: a name, a message, and where in the cell it was."""

import re
from typing import Any, NamedTuple

from . import source_map
from .source_map import Place

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


def short_type(type_name: str) -> str:
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
    return failure(short_type(type_name), message, where)


def panic(message: str, where: list[str], elsewhere: str, backtrace: str) -> Failure:
    """A panic, with the place if it is not in the cell, and the backtrace if one is wanted."""
    # Of a package, or of the standard library, the path in it.
    file = re.sub(r"^.*/registry/src/[^/]+/|^/rustc/\w+/", "", elsewhere)
    place = [f" in {file}"] if file else []
    return failure("panic", message, [*where, *place, *backtrace.splitlines()])


def interrupted(message: str = "What earlier cells have defined is still there.") -> Failure:
    """A cell that the user has stopped."""
    return failure(INTERRUPTED, message)


def process_ended(evcxr_errors: str, stopped: bool) -> Failure:
    """The end of the process that runs cells, by what evcxr says of it.

    `stopped` is whether the user has interrupted the cell a second time.
    """
    status = evcxr_errors.rpartition(ENDED)[2].strip()
    if stopped:
        return interrupted(f"The process that ran the cell was ended.\n{VARIABLES_GONE}")
    signal = re.match(r"signal: (\d+)", status)
    why = SIGNALS.get(int(signal[1])) if signal else None
    lines = [f"The process that ran the cell has ended ({status}).", why, VARIABLES_GONE]
    return failure("ProcessEnded", "\n".join(line for line in lines if line))


def refused(fault: str) -> Failure:
    """A cell that evcxr cannot be given."""
    return failure("error", fault)


def kernel_ended(reason: str) -> Failure:
    """The end of evcxr, and with it of the kernel."""
    return failure("KernelEnded", f"{reason}\nThe kernel ends now. {VARIABLES_GONE}")


def not_reported(compilations: int) -> Failure:
    """A cell that did not report that it ran, although evcxr replied that it did."""
    how = (
        "It was compiled without the code by which cells report. `:cache`, `:sccache`, "
        "`:toolchain` and `:allow_static_linking` change how cells are compiled: restart the "
        "kernel, and leave them out."
        if compilations
        else "It was not compiled: evcxr took none of its text for Rust code."
    )
    return failure("NoReport", f"The cell did not report that it ran, so it failed. {how}")


# What cargo says of a dependency that it would find with a network; and of the network itself.
OFFLINE = re.compile(r"you're using offline mode|--offline was specified|in offline mode")
UNREACHABLE = re.compile(
    r"failed to download from|network failure|download of config\.json failed|"
    r"[Cc]ould not (?:resolve|connect)|failed to resolve address|[Tt]imed? ?out"
)
PACKAGE = re.compile(
    r"no matching package named `([^`]+)`|for the requirement `([^ `]+) = |"
    r"failed to (?:download|get) `([^ `]+)|failed to select a version for `([^`]+)`"
)
# evcxr passes on only this of what cargo says of an `extern crate`.
UNKNOWN_CRATE = re.compile(r"error: no matching package named `[^`]+` found\s*")


def package_in(text: str) -> str:
    """The name of the package that cargo's message is about."""
    found = PACKAGE.search(text)
    return next(filter(None, found.groups()), "") if found else ""


def needs_network(errors: list[dict[str, Any]]) -> str | None:
    """The package that cargo did not find because it works offline; None if it is not that."""
    text = "\n".join(error["evalue"] for error in errors)
    if OFFLINE.search(text) or UNKNOWN_CRATE.fullmatch(text):
        return package_in(text) or "a package"
    return None


def dependency(errors: list[dict[str, Any]], online: bool, path: str = "") -> Failure | None:
    """A dependency that cargo does not find: why, and what to do; None if it is not that.

    `path` is the folder that the cell names in its `:dep`, for a message that does not.
    """
    text = "\n".join(error["evalue"] for error in errors)
    package = package_in(text)
    package_offline = needs_network(errors)
    if package_offline is not None and not online:
        return failure(
            "DependencyNotFound",
            f"`{package_offline}` is not in the lock file, and this kernel works offline. "
            "To fetch it from the network, put the line `:offline 0` before its `:dep`.",
        )
    if folder := re.search(r"failed to read `(.+)/Cargo\.toml`", text):
        path = folder[1]
    elif text.strip() != "No such file or directory (os error 2)":
        path = ""
    if path:
        return failure(
            "DependencyNotFound",
            f"There is no crate in {path}: it has no Cargo.toml. Check the path.",
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


# Why a variable no longer exists.
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
    """What evcxr says of a cell that did not compile, as one failure: its `error` messages.

    evcxr calls the cell's source `command_` and a number of its own; here it is `In[count]`.
    `dropped` are variables that the cell can no longer use, each with the reason.
    """
    if not errors:
        return failure("error", "evcxr reported an error, without a message.")
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
    """The lines that show where in the cell it was; or in which file, if that is elsewhere."""
    if file != SOURCE:
        return []
    found = source_map.locate(cell, generated, place)
    if found is not None:
        return source_map.shown(cell, found, f"In[{count}]")
    lines = generated.splitlines()
    line = lines[place.line - 1].strip() if 0 < place.line <= len(lines) else ""
    return [" --> in what an earlier cell has defined:", "  |", f"  | {line}"]
