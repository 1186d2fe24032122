"""Creates what the kernel's rust-analyzer reads: a cargo home, and the standard library's source.

The cargo of this home omits packages that cells cannot use (`prune_metadata.py`). Compilation does
not change, because the kernel's start-up commands make evcxr build with the real cargo.

rust-analyzer also loads every file of the standard library's source: 60 MB, of which 27 MB are
stdarch's intrinsics. `make_library` creates a folder with links to the crates that it needs. evcxr
gets the folder in `RUST_SRC_PATH`.
"""

import os
import shlex
import sys
from pathlib import Path

from ..setup.atomic_write import replacing, write
from . import prune_metadata

# Folders that the standard library's crates include, next to their own.
INCLUDED = ("backtrace", "portable-simd")
# The module of `core` with stdarch's intrinsics, and a replacement without them.
INTRINSICS = Path("stdarch", "crates", "core_arch", "src", "mod.rs")
NO_INTRINSICS = "pub mod arch {}\n"


def make_home(home: Path, library: str, cargo: Path, real_home: Path) -> None:
    """Create a cargo home whose cargo runs `prune_metadata.py`, with the sources of `real_home`.

    Below the crate `library`, only packages that cells can name are kept.
    """
    (home / "bin").mkdir(parents=True, exist_ok=True)
    registry = home / "registry"
    if not registry.is_symlink():
        registry.symlink_to(real_home / "registry", target_is_directory=True)
    real = shlex.quote(str(cargo))
    rustc = cargo.with_name("rustc")
    filtering = " ".join(
        map(
            shlex.quote,
            (sys.executable, "-I", "-S", "-X", "utf8", prune_metadata.__file__, library),
        )
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
        with replacing(program) as part:
            part.write_text(script)
            part.chmod(0o755)


def make_library(folder: Path, library: Path) -> None:
    """Create a folder with the parts of `library`, the standard library's source, to be read.

    Links to directories follow an update of the toolchain, and cost nothing to create.
    """
    for name in (*prune_metadata.READ_STD, *INCLUDED, "Cargo.toml", "Cargo.lock"):
        link = folder / name
        if not link.is_symlink() or os.readlink(link) != str(library / name):
            with replacing(link) as part:
                part.symlink_to(library / name)
    module = folder / INTRINSICS
    if not module.is_file():
        write(module, NO_INTRINSICS)
