"""Splits the text of a cell into commands and Rust code, by the rules of evcxr's parser.

evcxr reads commands (`:dep …`), shell commands (`!ls`), comments and blank lines until the first
other line, which starts the Rust code. The kernel needs the same rules, because a cell with Rust
code must report that it ran, and a cell without Rust code does not report anything.

Some texts make evcxr panic, or reply "ok" without compiling anything. Such texts are rejected, or
changed so that evcxr accepts them.
"""

import re
from typing import NamedTuple

COMMAND = re.compile(r" *(:[^ ]*)(?: +(.*))?", re.DOTALL)
SHELL = "!"
# Characters that Rust's `str::trim` removes, and characters that rustc skips between tokens.
TRIMMED = "\t\n\v\f\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(
    map(chr, range(0x2000, 0x200B))
)
SKIPPED = "\t\n\v\f\r \x85\u200e\u200f\u2028\u2029"
TOKEN = re.compile(
    r"""
    (?:br|cr|r)(?P<hashes>\#*)".*?"(?P=hashes) | [bc]?"(?:\\.|[^"\\])*"   # strings
    | b?'(?:\\.[^']*|[^\\'])'                                    # a character, not a lifetime
    | (?:r\#)?\w+                                                # words and numbers
    | .
    """,
    re.VERBOSE | re.DOTALL,
)
# evcxr's parser overflows its stack at a few hundred nested brackets.
MAX_NESTING = 200
TOO_DEEP = f"brackets are nested more than {MAX_NESTING} deep, which evcxr cannot parse"
# evcxr drops a `let` without a pattern and an `extern crate` without a name, and replies "ok".
AFTER_A_LET_WITHOUT_PATTERN = ("=", ";", ":", "else", "}", None)


class CellCode(NamedTuple):
    """The commands of a cell with their arguments, and the text for evcxr."""

    commands: list[tuple[str, str]]
    has_rust: bool
    # Why evcxr must not receive this text, or None.
    fault: str | None
    # The text for evcxr.
    sent: str

    def setting(self, command: str) -> str | None:
        """The arguments of the last command of this name, or None."""
        return next((args for name, args in reversed(self.commands) if name == command), None)

    @property
    def has_shell(self) -> bool:
        return any(name == SHELL for name, _ in self.commands)


def read(text: str) -> CellCode:
    """Split the text of a cell."""
    commands, start = [], 0
    for line in text.split("\n"):
        content = line.removesuffix("\r")
        if content.startswith(SHELL):
            commands.append((SHELL, content.lstrip(SHELL).strip()))
        elif found := COMMAND.fullmatch(content):
            commands.append((found[1], found[2] or ""))
        elif not content.startswith("//") and content.strip(TRIMMED):
            break
        start += len(line) + 1
    head, rust = text[:start], text[start:]
    first, open_comment = skip_trivia(rust)
    fault = next(filter(None, map(faulty_command, commands)), None)
    if fault is None and open_comment:
        fault = "unterminated block comment"
    if fault is None and first < len(rust):
        fault = faulty_statement(rust[first:])
    return CellCode(commands, first < len(rust), fault, head + aligned(rust, first))


def skip_trivia(rust: str, at: int = 0) -> tuple[int, bool]:
    """The position after blanks, comments and `;`, and whether the last comment is unterminated."""
    while at < len(rust):
        if rust[at] in SKIPPED or rust[at] == ";":
            at += 1
        elif rust.startswith("//", at):
            end = rust.find("\n", at)
            at = len(rust) if end < 0 else end
        elif rust.startswith("/*", at):
            depth, at = 1, at + 2
            for mark in re.finditer(r"/\*|\*/", rust[at:]):
                depth += 1 if mark[0] == "/*" else -1
                if depth == 0:
                    at += mark.end()
                    break
            else:
                return len(rust), True
        else:
            break
    return at, False


def faulty_command(command: tuple[str, str]) -> str | None:
    """Why evcxr must not receive a command: it would panic, or fail in every later cell."""
    name, arguments = command
    if "\0" in name + arguments:
        return f"`{name}` has a NUL character in its arguments"
    if name in (":env", ":build_env") and arguments.startswith("="):
        return f"`{name}` needs the name of a variable: `{name} NAME=VALUE`"
    return None


def faulty_statement(rust: str) -> str | None:
    """Why evcxr would drop a part of the code and reply "ok", or would crash."""
    if rust.startswith("}"):
        return "unexpected closing delimiter: `}`"
    before, depth = None, 0
    tokens = significant(rust)
    for token, after, then in zip(
        tokens, [*tokens[1:], None], [*tokens[2:], None, None], strict=False
    ):
        if depth == 0 and before in (None, ";", "}", "]"):
            if token == "let" and after in AFTER_A_LET_WITHOUT_PATTERN:
                return "expected a pattern after `let`"
            if (token, after) == ("extern", "crate") and then in (";", None):
                return "expected the name of a crate after `extern crate`"
        depth += (token in "([{") - (token in ")]}") if len(token) == 1 else 0
        if depth > MAX_NESTING:
            return TOO_DEEP
        before = token
    return None


def significant(rust: str) -> list[str]:
    """Approximate tokens: words, strings and single characters, without blanks and comments."""
    found, at = [], 0
    while at < len(rust):
        if rust[at] in SKIPPED or rust.startswith(("//", "/*"), at):
            at, _ = skip_trivia(rust, at)
            continue
        token = TOKEN.match(rust, at)[0]
        found.append(token)
        at += len(token)
    return found


def aligned(rust: str, first: int) -> str:
    """The code with its first `let` at the start of a line.

    evcxr computes the position of a variable's name from the `let`, but applies it from the start
    of the line. It panics if the position is inside a multi-byte character. Line numbers stay.
    """
    before = rust[:first]
    starts_with_let = re.match(r"(?:#\s*\[|let\b)", rust[first:])
    if not before or rust.isascii() or not starts_with_let:
        return rust
    return "\n" * before.count("\n") + rust[first:]
