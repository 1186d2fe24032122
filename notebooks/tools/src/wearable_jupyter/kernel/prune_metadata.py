"""Prunes `cargo metadata` so that the kernel's rust-analyzer reads fewer packages.

    python prune_metadata.py CRATE CARGO ARGUMENT…    `cargo metadata` with fewer packages

evcxr uses rust-analyzer for the types of `let`, for completions and for hovers. rust-analyzer reads
all 325 packages of the graph before its first reply. Cells cannot name most of them, such as an
HTTP stack, cryptography and procedural macros. rust-analyzer lists packages by `cargo metadata`,
and prefers the cargo in `$CARGO_HOME/bin`: the one of `analysis_home.py`, which runs this module.

Uses the standard library only, because it runs for every kernel before its first cell.
"""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

# Dependencies of the library that it re-exports, and containers in their signatures.
READ = (
    *("chrono", "dataset_writer", "hashbrown", "indexmap", "plotly", "polars"),
    *("polars_notebook", "polars_profile", "spark_stages", "wearable_datagen"),
)
READ_FAMILY = "polars-"
# Crates of this family that run queries or define file formats. No other crate exposes them.
INNER = (
    *("polars-arrow-format", "polars-expr", "polars-mem-engine", "polars-ooc"),
    *("polars-parquet-format", "polars-stream"),
)
# The variable with the path of rust-analyzer's copy of the lock file.
LOCK_FILE = "CARGO_RESOLVER_LOCKFILE_PATH"
# The crates to read of the standard library's workspace, which contains more.
READ_STD = ("alloc", "core", "std")


def prune(metadata: dict, library: str) -> dict:
    """Remove packages from the output of `cargo metadata`.

    Dependencies that a notebook adds by `:dep` are kept with their own dependencies. Procedural
    macros are removed, because evcxr's rust-analyzer does not run them.
    """
    packages = {package["id"]: package for package in metadata["packages"]}
    nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
    names = {identity: package["name"] for identity, package in packages.items()}
    macros = {
        identity
        for identity, package in packages.items()
        if any("proc-macro" in target["kind"] for target in package["targets"])
    }

    def read(identity: str) -> bool:
        name = names[identity]
        return name in (*READ, library) or (name.startswith(READ_FAMILY) and name not in INNER)

    standard_library = "core" in names.values() and "std" in names.values()
    if standard_library:
        kept = {identity for identity, name in names.items() if name in READ_STD}
    else:
        # Each package with a flag: whether only packages in `READ` are kept below it.
        todo = [(identity, False) for identity in metadata["workspace_members"]]
        visited = set(todo)
        while todo:
            identity, below_library = todo.pop()
            below_library = below_library or names[identity] == library
            for dependency in nodes[identity]["deps"]:
                item = (dependency["pkg"], below_library)
                normal = any(kind["kind"] is None for kind in dependency["dep_kinds"])
                wanted = dependency["pkg"] not in macros
                wanted = wanted and (not below_library or read(dependency["pkg"]))
                if normal and wanted and item not in visited:
                    visited.add(item)
                    todo.append(item)
        kept = {identity for identity, _ in visited}

    metadata["packages"] = [p for p in metadata["packages"] if p["id"] in kept]
    metadata["resolve"]["nodes"] = [
        node
        | {
            "deps": [d for d in node["deps"] if d["pkg"] in kept],
            "dependencies": [d for d in node["dependencies"] if d in kept],
        }
        for node in metadata["resolve"]["nodes"]
        if node["id"] in kept
    ]
    for members in ("workspace_members", "workspace_default_members"):
        if members in metadata:
            metadata[members] = [m for m in metadata[members] if m in kept]
    return metadata


def lock_file(path: str) -> str:
    """A path of rust-analyzer's copy of the lock file that cargo can read.

    The copy is in $TMPDIR, and cargo takes a brace for the beginning of a variable, such as
    `{workspace-root}`. Such a copy is copied to the kernel's directory.
    """
    if "{" not in path and "}" not in path:
        return path
    copy = Path(os.environ["EVCXR_TMPDIR"], f"lock-{os.getpid()}", "Cargo.lock")
    copy.parent.mkdir()
    if os.path.exists(path):
        copy.write_bytes(Path(path).read_bytes())
    return str(copy)


def manifest(command: Sequence[str]) -> str:
    """The path of the manifest in a cargo command, or an empty text."""
    words = iter(command)
    # `in` advances the iterator to the word after the option.
    return next(words, "") if "--manifest-path" in words else ""


def json_folder(file: str) -> str:
    """The folder of a file, as JSON writes it at the start of a path."""
    return json.dumps(os.path.dirname(file) + "/")[1:-1]


def main(library: str, *command: str) -> int:
    """Run cargo and print its pruned output, or the original if pruning fails."""
    if LOCK_FILE in os.environ:
        os.environ[LOCK_FILE] = lock_file(os.environ[LOCK_FILE])
    given = manifest(command)
    linked = os.path.islink(given)  # in the folder of `analysis_home.make_library`
    real = os.path.realpath(given)
    if linked:
        command = tuple(real if word == given else word for word in command)
    result = subprocess.run(command, stdout=subprocess.PIPE)
    output = result.stdout
    if result.returncode == 0:
        try:
            pruned = json.dumps(prune(json.loads(output), library))
            if linked:
                pruned = pruned.replace(json_folder(real), json_folder(given))
            output = pruned.encode()
        except (KeyError, TypeError, ValueError) as error:
            print(f"warning: cargo metadata was not pruned: {error!r}", file=sys.stderr)
    sys.stdout.buffer.write(output)
    return result.returncode


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
