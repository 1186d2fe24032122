"""A kernel's cargo: what the program in `crates/evcxr_shim` needs to know.

evcxr runs `cargo build` for every cell, and finds cargo through rustup. In a kernel both are that
program: it has each cell tell how it ended, and repeats a call of rustc that it knows instead of
asking cargo again. Here it is told the first call, that by which the template was compiled.
"""

import subprocess
from pathlib import Path

from ..setup import links, paths, toolchain

# A function of the library's, by which a cell is run so that an interrupt stops its query.
INTERRUPTIBLE = f"{paths.CRATE}::interrupt::interruptible"


def call_from_output(program: Path, library: Path, verbose: str) -> str | None:
    """The call of rustc for the cell's crate in what `cargo -vv` printed: words, zeros between.

    `program` is the kernels' cargo, `library` what it links cells with.
    """
    result = subprocess.run(
        [program, "words", library], input=verbose, capture_output=True, text=True, check=True
    )
    return result.stdout or None


def output_folder(call: str) -> Path:
    """Where a call puts what it compiles."""
    words = call.split("\0")
    return Path(words[words.index("--out-dir") + 1])


def key(flags: str, arguments: list[str], manifest: str) -> str:
    """What a call depends on: the flags, cargo's arguments, the manifest; as the program has it."""
    return f"{flags}\n{' '.join(arguments)}\n{manifest}".rstrip()


def install_wrappers(directory: Path, program: Path, library: Path, module: str) -> None:
    """Install cargo and rustup in `bin` of a kernel's directory, and write their settings.

    `program` and `library` are as in `call_from_output`; the library's source lies next to it.
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
        ("cell_runtime", library),
        ("source", library.with_name("cell.rs")),
        ("cell", toolchain.shared_library("ctx")),
        *(("link", word) for word in (*paths.PYTHON_MODULE, module, "--link", directory)),
    ]
    (directory / "settings").write_text("".join(f"{name}={value}\n" for name, value in settings))


def save_call(folder: Path, call_key: str, call: str, cell: Path) -> None:
    """Keep a call for the kernel's cargo: for which key, and where the compiled cell will be."""
    folder.mkdir(parents=True)
    (folder / "command").write_text(call)
    (folder / "cell").write_text(str(cell))
    (folder / "key").write_text(call_key)
