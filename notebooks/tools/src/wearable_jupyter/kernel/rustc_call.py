"""Stores calls of rustc for a kernel's cargo, the program in `crates/evcxr_shim`.

evcxr runs `cargo build` for every cell, and finds cargo through rustup. In a kernel, both are that
program. It instruments each cell to report how it ended, and repeats a stored call of rustc instead
of running cargo again. This module stores the first call, which compiled the template.
"""

import subprocess
from pathlib import Path

from ..bootstrap import platform
from ..setup import links, paths, toolchain

# The library's function that runs a cell so that an interrupt stops its query.
INTERRUPTIBLE = f"{paths.CRATE}::interrupt::interruptible"


def call_from_output(program: Path, runtime: Path, verbose: str) -> str | None:
    """The call of rustc for the cell's crate in the output of `cargo -vv`, separated by NUL.

    `program` is the kernels' cargo, and `runtime` is linked into cells.
    """
    result = subprocess.run(
        (program, "parse-rustc-call", runtime),
        input=verbose,
        capture_output=True,
        text=True,
        check=True,
    )
    return result.stdout or None


def output_folder(call: str) -> Path:
    """The output folder of a call."""
    arguments = call.split("\0")
    return Path(arguments[arguments.index("--out-dir") + 1])


def key(flags: str, arguments: list[str], manifest: str) -> str:
    """The key of a call, in the program's format: flags, cargo's arguments and the manifest."""
    return f"{flags}\n{' '.join(arguments)}\n{manifest}".rstrip()


def install_wrappers(directory: Path, program: Path, runtime: Path, module: str) -> None:
    """Install cargo and rustup in `bin` of a kernel's directory, and write their settings.

    `program` and `runtime` are as in `call_from_output`; the runtime's source lies next to it.
    `module` is the Python module that links compiled dependencies into a kernel's directory.
    """
    programs = directory / "bin"
    programs.mkdir(parents=True)
    for name in ("cargo", "rustup"):
        links.link(program, programs / name)
    settings = [
        ("cargo", toolchain.cargo()),
        ("rustc", toolchain.sysroot() / "bin" / "rustc"),
        ("library", paths.CRATE),
        ("interruptible", INTERRUPTIBLE),
        ("cell_runtime", runtime),
        ("source", runtime.with_name("cell.rs")),
        ("artifact_name", platform.shared_library("ctx")),
        *(("link", argument) for argument in (*paths.PYTHON_MODULE, module, "--link", directory)),
    ]
    (directory / "settings").write_text("".join(f"{name}={value}\n" for name, value in settings))


def save_call(folder: Path, call_key: str, call: str, artifact: Path) -> None:
    """Store a call for the kernel's cargo, with its key and the path of the compiled cell."""
    folder.mkdir(parents=True)
    (folder / "command").write_text(call)
    (folder / "artifact_path").write_text(str(artifact))
    (folder / "key").write_text(call_key)
