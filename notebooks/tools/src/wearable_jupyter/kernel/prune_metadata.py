"""Give the kernel's rust-analyzer less to read.

    python prune_metadata.py CRATE CARGO ARGUMENT…    `cargo metadata`, with packages left out

evcxr asks rust-analyzer for the types of `let`, for completions and for hovers. It reads every
package of the graph before the first answer: 325, among them an HTTP stack, cryptography and
procedural macros, none of which a cell can name. rust-analyzer learns of packages from `cargo
metadata`, and looks for cargo in `$CARGO_HOME/bin` first. `make_home` makes such a home, whose
cargo leaves out what cells have no use for. What is compiled does not change: evcxr builds with the
real cargo, and is told so in the kernel's start-up commands.

Only Python's standard library is used here: this runs for every kernel, before its first cell.
"""

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

# Below the library: what it re-exports, and the containers in their signatures.
READ = (
    *("chrono", "dataset_writer", "hashbrown", "indexmap", "plotly", "polars"),
    *("polars_notebook", "polars_profile", "spark_stages", "wearable_datagen"),
)
READ_FAMILY = "polars-"
# Of those, what runs queries; no other crate makes anything of it public.
INNER = ("polars-expr", "polars-mem-engine", "polars-ooc", "polars-stream")
# Where rust-analyzer has put its copy of the lock file.
LOCK_FILE = "CARGO_RESOLVER_LOCKFILE_PATH"
# Of the standard library's workspace, which also has its tests and dependencies.
READ_STD = ("alloc", "core", "std")


def make_home(home: Path, library: str, cargo: Path, real_home: Path) -> None:
    """A cargo home in `home` whose cargo is this module; sources stay in `real_home`.

    `library` is the name of the crate of which only what cells can name is to be read.
    """
    (home / "bin").mkdir(parents=True, exist_ok=True)
    registry = home / "registry"
    if not registry.is_symlink():
        registry.symlink_to(real_home / "registry", target_is_directory=True)
    real = shlex.quote(str(cargo))
    rustc = cargo.with_name("rustc")
    filtering = " ".join(
        map(shlex.quote, (sys.executable, "-I", "-S", "-X", "utf8", __file__, library))
    )
    script = (
        "#!/bin/sh\n"
        f"export CARGO_HOME={shlex.quote(str(real_home))}\n"
        # Not the one of a configuration file.
        f"export RUSTC={shlex.quote(str(rustc))}\n"
        'case " $* " in\n'
        f'*" --no-deps "*) exec {real} "$@" ;;\n'
        f'*" metadata "*) exec {filtering} {real} "$@" ;;\n'
        f'*) exec {real} "$@" ;;\n'
        "esac\n"
    )
    program = home / "bin" / "cargo"
    if not program.is_file() or program.read_text() != script:
        part = program.with_name(f"cargo.part-{os.getpid()}")
        part.write_text(script)
        part.chmod(0o755)
        part.replace(program)


def prune(metadata: dict, library: str) -> dict:
    """`cargo metadata`'s answer without the packages that need not be read.

    What a notebook adds by `:dep` itself is kept with everything below it; procedural macros are
    not, for evcxr's rust-analyzer does not run them.
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
        # Each package with whether only what `READ` names is kept below it.
        todo = [(identity, False) for identity in metadata["workspace_members"]]
        seen = set(todo)
        while todo:
            identity, below_library = todo.pop()
            below_library = below_library or names[identity] == library
            for dependency in nodes[identity]["deps"]:
                item = (dependency["pkg"], below_library)
                normal = any(kind["kind"] is None for kind in dependency["dep_kinds"])
                wanted = dependency["pkg"] not in macros
                wanted = wanted and (not below_library or read(dependency["pkg"]))
                if normal and wanted and item not in seen:
                    seen.add(item)
                    todo.append(item)
        kept = {identity for identity, _ in seen}

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


def main(library: str, *command: str) -> int:
    """Run cargo and print its metadata, pruned. Metadata that cannot be pruned stay as they are."""
    if LOCK_FILE in os.environ:
        os.environ[LOCK_FILE] = lock_file(os.environ[LOCK_FILE])
    result = subprocess.run(command, stdout=subprocess.PIPE)
    answer = result.stdout
    if result.returncode == 0:
        try:
            answer = json.dumps(prune(json.loads(answer), library)).encode()
        except (KeyError, TypeError, ValueError) as error:
            print(f"not pruned: {error!r}", file=sys.stderr)
    sys.stdout.buffer.write(answer)
    return result.returncode


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
