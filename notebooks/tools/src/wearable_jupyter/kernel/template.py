"""A kernel's Cargo project with everything compiled, from which kernels start."""

import fcntl
import shutil
from pathlib import Path

from ..setup import layout
from ..setup.layout import Problem
from ..setup.prepare import (
    build_workspace,
    cargo,
    install_kernel,
    is_note,
    link_tree,
    prerequisites,
)
from . import cells


def kernel_project() -> str:
    """The Cargo.toml that evcxr would write for a kernel with our library."""
    return f"""
[package]
name = "ctx"
version = "1.0.0"
edition = "2024"

[lib]
crate-type = ["cdylib"]
path = "src/lib.rs"

[profile.dev]
opt-level = 0
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
{layout.CRATE} = {{ path = "{layout.LIBRARY}" }}
"""


def state() -> str:
    """What tells an edit: name, time and size of every file of the library and of kernel_cargo."""
    folders = (layout.LIBRARY, layout.KERNEL_CARGO)
    files = sorted(path for folder in folders for path in folder.rglob("*") if path.is_file())
    return "\n".join(f"{f} {f.stat().st_mtime_ns} {f.stat().st_size}" for f in files)


def program() -> Path:
    """The kernels' cargo, as it was compiled by `build`."""
    return layout.TEMPLATE / layout.KERNEL_CARGO.name


def cell_library() -> Path:
    """What cells are linked with to tell how they end, as it was compiled by `build`."""
    return layout.TEMPLATE / "libkernel_cell.rlib"


def build_program() -> None:
    """Compile the kernels' cargo: with the standard library in it, so that it can lie anywhere."""
    target = layout.TARGET / "kernel-cargo"
    cargo(
        *("build", "--offline", "--package", layout.KERNEL_CARGO.name),
        quiet=True,
        CARGO_TARGET_DIR=str(target),
        RUSTFLAGS="",
    )
    for made in (program(), cell_library()):
        made.unlink(missing_ok=True)
        layout.link(target / layout.host() / "debug" / made.name, made)


def build() -> None:
    """Compile a kernel's Cargo project with the library as it is now.

    Dependencies come from the cache's folder; the library is compiled anew if its source changed,
    which takes seconds.
    """
    template, compiled = layout.TEMPLATE, layout.compiled_dependencies()
    stamp = template / ".dependencies"
    layout.TARGET.mkdir(exist_ok=True)
    with (layout.TARGET / ".kernel-template.lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        if not (stamp.is_file() and stamp.read_text() == compiled.name):
            if not compiled.is_dir():
                raise Problem("The kernel's dependencies are not compiled. Run: ./justw setup")
            shutil.rmtree(template, ignore_errors=True)
            (template / "src").mkdir(parents=True)
            (template / "src" / "lib.rs").write_text(f"pub use {layout.CRATE};\n")
            (template / "Cargo.toml").write_text(kernel_project())
            shutil.copy(layout.ROOT / "Cargo.lock", template)
            link_tree(compiled, template / "target", copy=is_note)
            stamp.write_text(compiled.name)
        call, sources = template / "call", template / "sources"
        now = state()
        if call.is_file() and sources.is_file() and sources.read_text() == now:
            return
        build_program()
        if not call.is_file():
            (template / "src" / "lib.rs").touch()  # so that it is compiled, and seen how
        verbose = cargo(
            *("build", "--offline", "-vv", "--target", layout.host()),
            cwd=template,
            stderr=True,
            CARGO_TARGET_DIR="target",
            CARGO_BUILD_BUILD_DIR="target",
        )
        if (seen := cells.call_in(program(), cell_library(), verbose)) is not None:
            call.write_text(seen)
        sources.write_text(now)


def prepare() -> None:
    """Everything, in order."""
    prerequisites()
    install_kernel()
    build_workspace()
    build()
