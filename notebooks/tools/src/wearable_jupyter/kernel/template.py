"""A kernel's Cargo project with everything compiled, from which kernels start."""

import fcntl
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from ..setup import caches, links, paths, toolchain
from ..setup.build import (
    DEPENDENCIES,
    cargo,
    check_compiled,
    compile_all,
    dependencies_in,
    link_compiled,
    only_dependencies,
    prerequisites,
    run_cargo,
)
from ..setup.errors import UserError
from ..setup.links import COMPILED
from ..setup.progress import parse_message
from . import rustc_call

# What evcxr starts with, and with our library after a kernel's start-up commands.
LOADED = f"{paths.CRATE} = {{ path = {paths.toml_string(paths.LIBRARY)} }}\n"


def manifest(opt_level: int, dependencies: str) -> str:
    """The Cargo.toml that evcxr writes for a kernel."""
    return f"""
[package]
name = "ctx"
version = "1.0.0"
edition = "2024"

[lib]
crate-type = ["cdylib"]
path = "src/lib.rs"

[profile.dev]
opt-level = {opt_level}
debug = false
strip = "debuginfo"
rpath = true
lto = false
debug-assertions = true
codegen-units = 16
panic = 'unwind'
incremental = true
overflow-checks = true

[dependencies]
{dependencies}
"""


# In a project, and in what a kernel takes of it: paths of own crates' files, from `target/` on.
OWN = "own"


def own_in(folder: Path) -> list[Path]:
    """What is noted there of own crates' files: their paths from `target/` on."""
    return [Path(line) for line in (folder / OWN).read_text().splitlines()]


def own_crates(messages: str) -> list[Path]:
    """What is compiled of crates that lie in a folder, as this project's do, by cargo's `messages`.

    Their names have a hash of where that is, so they are compiled here and for nobody else.
    """
    found = []
    for message in map(parse_message, messages.splitlines()):
        if not message.get("package_id", "").startswith("path+file:"):
            continue
        # Beside the one form that is always there. Of a shared library, cargo names another copy.
        for made in map(Path, message.get("filenames", [])):
            if made.suffix == ".rlib":
                beside = made.parent.glob(f"{made.stem}.*")
                found += sorted(path for path in beside if path.suffix in COMPILED)
    return found


class Project(NamedTuple):
    """A Cargo project as a kernel has it, from whose compilation rustc's call is learnt."""

    folder: Path
    manifest: str
    # What evcxr says to cargo before `build`.
    options: tuple[str, ...]

    @property
    def target(self) -> Path:
        return self.folder / "target"

    def make(self, source: str) -> None:
        (self.folder / "src").mkdir(parents=True)
        (self.folder / "src" / "lib.rs").write_text(source)
        (self.folder / "Cargo.toml").write_text(self.manifest)

    def compile(self) -> None:
        """Compile what has changed, and keep what cargo says of it: which files are this project's
        own crates, and if the cell itself was compiled, by which call."""
        call = self.folder / "call"
        if not call.is_file():
            (self.folder / "src" / "lib.rs").touch()  # so that it is compiled, and seen how
        result = run_cargo(
            *("build", "--offline", "-vv", "--target", toolchain.host()),
            "--message-format=json-render-diagnostics",
            cwd=self.folder,
            quiet=True,
            CARGO_TARGET_DIR="target",
        )
        if (
            call_text := rustc_call.call_from_output(program(), cell_library(), result.stderr)
        ) is not None:
            call.write_text(call_text)
        if not call.is_file():
            raise UserError(
                "cargo compiled a cell and did not print how it called rustc. Run: "
                "rm -rf target/kernel-template, then ./justw setup"
            )
        own = (path.relative_to(self.target) for path in own_crates(result.stdout))
        (self.folder / OWN).write_text("".join(f"{path}\n" for path in own))

    def arguments(self) -> list[str]:
        """With what evcxr calls cargo."""
        return [*self.options, "build", "--target", toolchain.host(), "--message-format=json"]


TEMPLATE = Project(paths.TEMPLATE, manifest(0, LOADED), ("--offline",))
# The two cells that evcxr compiles while it starts.
BARE = Project(paths.TEMPLATE / "bare", manifest(2, ""), ())


def state() -> str:
    """What tells an edit: name, time and size of every file of the library and of evcxr_shim, and
    of this one, which says what is kept of them."""
    folders = sorted(path.parent for path in paths.ROOT.glob("crates/*/Cargo.toml"))
    files = sorted(path for folder in folders for path in folder.rglob("*") if path.is_file())
    files.append(Path(__file__))
    return "\n".join(f"{f} {f.stat().st_mtime_ns} {f.stat().st_size}" for f in files)


def program() -> Path:
    """The kernels' cargo, as it was compiled by `build`."""
    return paths.TEMPLATE / paths.KERNEL_CARGO.name


def cell_library() -> Path:
    """What cells are linked with to tell how they end, as it was compiled by `build`."""
    return paths.TEMPLATE / "libkernel_cell.rlib"


def build_program() -> None:
    """Compile the kernels' cargo: with the standard library in it, so that it can lie anywhere."""
    target = paths.TARGET / "kernel-cargo"
    cargo(
        *("build", "--offline", "--package", paths.KERNEL_CARGO.name),
        quiet=True,
        CARGO_TARGET_DIR=str(target),
        RUSTFLAGS="",
    )
    for made in (program(), cell_library()):
        made.unlink(missing_ok=True)
        links.link(target / toolchain.host() / "debug" / made.name, made)


@contextmanager
def locked() -> Iterator[None]:
    """Let one process at a time change the template."""
    paths.TARGET.mkdir(exist_ok=True)
    with (paths.TARGET / ".kernel-template.lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def seed() -> None:
    """Have the dependencies in the template; its lock must be held."""
    template, compiled = paths.TEMPLATE, caches.compiled_dependencies()
    if dependencies_in(template) == compiled.name:
        return
    if not compiled.is_dir():
        raise UserError("The kernel's dependencies are not compiled. Run: ./justw setup")
    check_compiled(compiled)
    shutil.rmtree(template, ignore_errors=True)
    TEMPLATE.make(f"pub use {paths.CRATE};\n")
    BARE.make("")
    shutil.copy(paths.ROOT / "Cargo.lock", template)
    link_compiled(compiled, template / "target")
    (template / DEPENDENCIES).write_text(compiled.name)


def build() -> None:
    """Compile a kernel's Cargo project with the library as it is now.

    Dependencies come from the cache's folder; the library is compiled anew if its source changed,
    which takes seconds.
    """
    with locked():
        seed()
        sources, now = paths.TEMPLATE / "sources", state()
        if sources.is_file() and sources.read_text() == now:
            return
        build_program()
        TEMPLATE.compile()
        BARE.compile()
        sources.write_text(now)


def prepare() -> None:
    """Everything, in order."""
    prerequisites()
    compile_all()
    build()


def prepare_dependencies() -> None:
    """What an edit of this project's own code does not change, for an image or a shared cache."""
    prerequisites()
    compile_all(only_dependencies)
    with locked():
        seed()
