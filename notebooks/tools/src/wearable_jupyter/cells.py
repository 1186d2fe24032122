"""Compile a kernel's cells without asking cargo the same thing again.

evcxr runs `cargo build` for every cell. cargo looks at all 325 packages each time, finds that
nothing has changed but the cell, and calls rustc as it did for the cell before. So a kernel gets a
cargo of its own, a shell script, that repeats the call by itself. It knows the call for a kernel
with our library from the template, and otherwise from the real cargo, which it runs for whatever it
has not seen: another manifest (a `:dep`, an `:opt`), other flags, any other command.

The call names the compiled dependencies in the cache's folder and the library in the kernel's own,
so a kernel's directory starts nearly empty; only when the real cargo is wanted, what is compiled is
linked into it. And a running kernel stays with the library that it was started with: cargo would
compile an edited one in the middle of a session, and the next cell would be linked with another
library than the variables were made by.
"""

import shlex
import subprocess
import sys
from pathlib import Path

CARGO = """\
#!/bin/sh
real={real}
known={known}
build=
case " $* " in
*" build "*" --message-format=json "*)
    # evcxr tells where it expects the path of the compiled cell.
    if [ -z "$RUSTC_WRAPPER" ] && [ -n "$EVCXR_EXECUTION_SO_PATH" ]; then build=1; fi ;;
esac
key=$(printf '%s\\n' "$RUSTFLAGS" "$*"; cat Cargo.toml 2>/dev/null)
for call in "$known/template" "$known/last"; do
    if [ $build ] && [ "$key" = "$(cat "$call/key" 2>/dev/null)" ]; then
        cat "$call/cell" > "$EVCXR_EXECUTION_SO_PATH"
        . "$call/command"
    fi
done

# cargo's own work starts from what is compiled already, in a directory of this kernel's.
if grep -q '^wearable_demo = ' Cargo.toml 2>/dev/null && [ ! -e target/.linked ]; then
    {link} || exit 1
fi
[ $build ] || exec "$real" "$@"

last="$known/last"
rm -f "$last/key"
"$real" "$@" -vv 2> "$last/stderr"
status=$?
sed '/^ *\\(Fresh\\|Dirty\\|Running\\) /d' "$last/stderr" >&2
[ $status = 0 ] || exit $status
{extract} "$last/stderr" > "$last/command"
directory=$(sed -n 's/.* --out-dir \\([^ ]*\\) .*/\\1/p' "$last/command")
if [ -n "$directory" ]; then
    printf %s "$directory/{cell}" > "$last/cell"
    printf %s "$key" > "$last/key"
fi
"""

# cargo -vv quotes the call for a shell. It is there unless the cell was compiled already.
EXTRACT = r"""sed -n 's/^ *Running `\(.* --crate-name ctx .*\)`$/exec env \1/p'"""

# evcxr asks rustup for cargo before it looks at the PATH.
RUSTUP = """\
#!/bin/sh
if [ "$*" = "which cargo" ]; then echo {cargo}; exit; fi
PATH=${{PATH#{programs}:}}
exec rustup "$@"
"""


def call_in(verbose: str) -> str | None:
    """The call of rustc for the cell's crate, as a shell command, in what `cargo -vv` printed."""
    command = ("sh", "-c", EXTRACT)
    found = subprocess.run(command, input=verbose, capture_output=True, text=True, check=True)
    return found.stdout or None


def key(flags: str, arguments: list[str], manifest: str) -> str:
    """What a call depends on: the flags, cargo's arguments, the manifest; as the script has it."""
    return f"{flags}\n{' '.join(arguments)}\n{manifest}".rstrip("\n")


def make_programs(directory: Path, cargo: Path, cell: str, module: str) -> None:
    """Make the kernel's cargo, and a rustup that leads there, in `directory`.

    `cargo` is the real one, `cell` the file name of a compiled cell, and `module` the Python module
    that links what is compiled into a kernel's directory. They go to `bin`, for the PATH.
    """
    programs, known = directory / "bin", directory / "known"
    programs.mkdir(parents=True)
    for call in ("template", "last"):
        (known / call).mkdir(parents=True)
    link = (sys.executable, "-m", module, "--link", str(directory))
    texts = {
        "cargo": CARGO.format(
            real=shlex.quote(str(cargo)),
            known=shlex.quote(str(known)),
            link=shlex.join(link),
            extract=EXTRACT,
            cell=cell,
        ),
        "rustup": RUSTUP.format(
            cargo=shlex.quote(str(programs / "cargo")), programs=shlex.quote(str(programs))
        ),
    }
    for name, text in texts.items():
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)


def know(directory: Path, known_key: str, call: str, cell: Path) -> None:
    """Tell the kernel's cargo a call: for which key, and where the compiled cell will be."""
    known = directory / "known" / "template"
    (known / "command").write_text(call)
    (known / "cell").write_text(str(cell))
    (known / "key").write_text(known_key)
