"""The workspace's compiled libraries, which kernels and bundles use without compiling them again.

cargo names a library by a hash of its package's path, relative to the workspace. A kernel's project
is outside the workspace, so cargo would compile the libraries again under other names. With
`linked`, its wrapper of rustc links them instead; see `rustc_from_cache.sh`.
"""

import hashlib
import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from . import paths
from .links import COMPILED, link
from .progress import parse_message

# Runs cargo in the workspace and returns its output, as `build.cargo` does.
Cargo = Callable[..., str]
# The wrapper of rustc, and the variable with the folder of the libraries.
WRAPPER = Path(__file__).with_name("rustc_from_cache.sh")
FOLDER_VARIABLE = "WEARABLE_OWN_LIBRARIES"
# cargo's commands, and the folders for what they make: libraries, or only their metadata.
COMMANDS = {"build": "link", "check": "metadata"}
# In a bundle, a folder of the compiled dependencies with the libraries, and the hash of the sources
# of each.
BUNDLED, DIGESTS = "own", "digests.json"


@contextmanager
def linked(cargo: Cargo) -> Iterator[dict[str, str]]:
    """Compile the workspace's libraries; yield variables with which cargo then links them."""
    with tempfile.TemporaryDirectory(prefix=".own-", dir=paths.TARGET) as folder:
        collect(cargo, "build", Path(folder))
        yield {"RUSTC_WRAPPER": str(WRAPPER), FOLDER_VARIABLE: folder}


def collect(cargo: Cargo, command: str, folder: Path, *, shared: bool = True) -> None:
    """Run `cargo build` or `check`, and link the files of each library as `KIND/CRATE.EXTENSION`.

    Without `shared`, leave out crates that are also compiled to a shared library.
    """
    destination = folder / COMMANDS[command]
    destination.mkdir(parents=True, exist_ok=True)
    messages = "--message-format=json-render-diagnostics"
    printed = cargo(command, "--workspace", "--lib", "--locked", messages, quiet=True)
    for message in map(parse_message, printed.splitlines()):
        if message.get("reason") != "compiler-artifact" or not is_own(message):
            continue
        if not shared and message["target"]["kind"] != ["lib"]:
            continue
        for file in map(Path, message["filenames"]):
            if file.suffix in COMPILED:
                link(file, destination / f"{message['target']['name']}{file.suffix}")


def bundle(cargo: Cargo, folder: Path) -> None:
    """Fill the folder `BUNDLED` of a bundle.

    It lacks `wearable_demo`, which contains the path of its clone, and programs.
    """
    for command in COMMANDS:
        collect(cargo, command, folder, shared=False)
    (folder / DIGESTS).write_text(json.dumps(digests(cargo)))


@contextmanager
def from_bundle(cargo: Cargo, dependencies: Path) -> Iterator[dict[str, str]]:
    """Variables with which cargo links the bundled libraries whose sources are unchanged."""
    bundled = dependencies / BUNDLED
    if not bundled.is_dir():
        yield {}
        return
    then, now = json.loads((bundled / DIGESTS).read_text()), digests(cargo)
    unchanged = {name for name in now if now[name] == then.get(name)}
    with tempfile.TemporaryDirectory(prefix=".own-", dir=paths.TARGET) as folder:
        for file in bundled.glob("*/*"):
            if file.stem in unchanged:
                place = Path(folder, file.parent.name)
                place.mkdir(exist_ok=True)
                link(file, place / file.name)
        yield {"RUSTC_WRAPPER": str(WRAPPER), FOLDER_VARIABLE: folder}


def is_own(message: dict) -> bool:
    """Whether an artifact is a library of the workspace."""
    return Path(message["manifest_path"]).is_relative_to(paths.ROOT / "crates")


def digests(cargo: Cargo) -> dict[str, str]:
    """For each package of the workspace, a hash of its sources and of those that it depends on."""
    listed = cargo("metadata", "--no-deps", "--locked", "--format-version=1", quiet=True)
    members = {member["name"]: member for member in json.loads(listed)["packages"]}

    @cache
    def digest(name: str) -> str:
        content = hashlib.sha256()
        for dependency in sorted(members[name]["dependencies"], key=lambda entry: entry["name"]):
            if dependency["name"] in members and dependency["kind"] != "dev":
                content.update(digest(dependency["name"]).encode())
        package = Path(members[name]["manifest_path"]).parent
        for file in sorted(package.rglob("*")):
            if file.is_file():
                content.update(f"\0{file.relative_to(package)}\0".encode())
                content.update(hashlib.sha256(file.read_bytes()).digest())
        return content.hexdigest()

    return {name: digest(name) for name in sorted(members)}
