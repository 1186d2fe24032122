"""The template of kernels: a Cargo project in which everything is compiled."""

import fcntl
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import CompletedProcess
from typing import NamedTuple

from ..setup import caches, links, own_libraries, paths, toolchain
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

# The dependency that a kernel's start-up commands load.
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


# A file that lists the artifacts of the workspace's crates, relative to `target/`.
OWN = "own"


def own_in(folder: Path) -> list[Path]:
    """The listed artifacts of the workspace's crates, relative to `target/`."""
    return [Path(line) for line in (folder / OWN).read_text().splitlines()]


def own_crates(messages: str) -> list[Path]:
    """The artifacts of local crates, from cargo's `messages`."""
    artifacts = []
    for message in map(parse_message, messages.splitlines()):
        if not message.get("package_id", "").startswith("path+file:"):
            continue
        # cargo reports a copy of a shared library, so find it next to the rlib.
        for file in map(Path, message.get("filenames", [])):
            if file.suffix == ".rlib":
                siblings = file.parent.glob(f"{file.stem}.*")
                artifacts += sorted(path for path in siblings if path.suffix in COMPILED)
    return artifacts


class Project(NamedTuple):
    """A Cargo project like a kernel's, whose compilation shows how cargo calls rustc."""

    folder: Path
    manifest: str
    # The options that evcxr passes to cargo before `build`.
    options: tuple[str, ...]

    @property
    def target(self) -> Path:
        return self.folder / "target"

    def make(self, source: str) -> None:
        (self.folder / "src").mkdir(parents=True)
        (self.folder / "src" / "lib.rs").write_text(source)
        (self.folder / "Cargo.toml").write_text(self.manifest)

    def build(self, *options: str, **environment: str) -> CompletedProcess[str]:
        """Run `cargo build` in this project."""
        return run_cargo(
            *("build", "--offline", "--target", toolchain.host(), *options),
            cwd=self.folder,
            quiet=True,
            CARGO_TARGET_DIR="target",
            **environment,
        )

    def compile(self) -> None:
        """Compile changes, and store the artifacts of local crates and the call of rustc."""
        call = self.folder / "call"
        if not call.is_file():
            (
                self.folder / "src" / "lib.rs"
            ).touch()  # so that cargo compiles it and prints the call
        result = self.build("-vv", "--message-format=json-render-diagnostics")
        if (
            call_text := rustc_call.call_from_output(program(), cell_library(), result.stderr)
        ) is not None:
            call.write_text(call_text)
        if not call.is_file():
            raise UserError(
                "cargo compiled a cell without printing its call of rustc. Run: "
                "rm -rf target/kernel-template && ./justw setup"
            )
        own = (path.relative_to(self.target) for path in own_crates(result.stdout))
        (self.folder / OWN).write_text("".join(f"{path}\n" for path in own))

    def arguments(self) -> list[str]:
        """The arguments with which evcxr calls cargo."""
        return [*self.options, "build", "--target", toolchain.host(), "--message-format=json"]


TEMPLATE = Project(paths.TEMPLATE, manifest(0, LOADED), ("--offline",))
# The project of the two cells that evcxr compiles while it starts.
BARE = Project(paths.TEMPLATE / "bare", manifest(2, ""), ())


def state() -> str:
    """A hash of all crates and of this module: names, times and sizes."""
    folders = sorted(path.parent for path in paths.ROOT.glob("crates/*/Cargo.toml"))
    files = sorted(path for folder in folders for path in folder.rglob("*") if path.is_file())
    files.append(Path(__file__))
    return "\n".join(f"{f} {f.stat().st_mtime_ns} {f.stat().st_size}" for f in files)


def program() -> Path:
    """The cargo of kernels, which `build` compiles."""
    return paths.TEMPLATE / paths.EVCXR_SHIM.name


def cell_library() -> Path:
    """The library that is linked into cells to report how they end, which `build` compiles."""
    return paths.TEMPLATE / "libkernel_cell.rlib"


def build_program() -> None:
    """Compile the cargo of kernels, statically linked so that it runs from any folder."""
    target = paths.TARGET / "kernel-cargo"
    cargo(
        *("build", "--offline", "--package", paths.EVCXR_SHIM.name),
        quiet=True,
        CARGO_TARGET_DIR=str(target),
        RUSTFLAGS="",
    )
    for file in (program(), cell_library()):
        file.unlink(missing_ok=True)
        links.link(target / toolchain.host() / "debug" / file.name, file)


@contextmanager
def locked() -> Iterator[None]:
    """Hold the lock of the template."""
    paths.TARGET.mkdir(exist_ok=True)
    with (paths.TARGET / ".kernel-template.lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def seed() -> None:
    """Link the dependencies into the template. The caller must hold its lock."""
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
    """Compile the template with the current library.

    Dependencies are linked from the cache. If the library's source changed, it is compiled in the
    workspace, which takes seconds, and linked from there.
    """
    sources = paths.TEMPLATE / "sources"
    with locked():
        seed()
        while not sources.is_file() or sources.read_text() != state():
            now = state()
            build_program()
            with own_libraries.linked(cargo) as environment:
                TEMPLATE.build(**environment)
            TEMPLATE.compile()
            BARE.compile()
            if state() == now:
                sources.write_text(now)
            else:
                # The template would keep the library as it was compiled before this edit.
                shutil.rmtree(paths.TEMPLATE)
                seed()


def prepare(download: bool = True) -> None:
    """Prepare everything that a kernel needs; with `download`, from a release if possible."""
    prerequisites()
    if download:
        download_bundle()
    compile_all()
    build()


def prepare_dependencies(download: bool = True) -> None:
    """Prepare only third-party code, for an image or a shared cache."""
    prerequisites()
    if download:
        download_bundle()
    compile_all(only_dependencies)
    with locked():
        seed()


def download_bundle() -> None:
    """Download and install a bundle if something would have to be compiled."""
    # Each launch of a kernel imports this module, and none needs a bundle.
    from ..setup import release_download

    release_download.provide()
