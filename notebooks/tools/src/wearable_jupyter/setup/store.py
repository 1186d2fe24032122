"""Compiled dependencies from another place: another user's cache, or a bundle.

cargo takes a compiled package for its own only if it lies where it did when it was compiled: the
sources in the same CARGO_HOME, the workspace in the same folder. So cargo is not given the folder
as it is. It builds, with `take.sh` in rustc's place, which takes what the store has, by the name
that cargo gives it (a hash of package, features, profile, flags and compiler), and `replay.sh` in
the place of each build script. Then what cargo notes is of here, and nothing has been compiled.
"""

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from . import layout

HERE = Path(__file__).parent
# In a folder of compiled dependencies: where it was made.
ORIGIN = "origin.json"


def note_origin(compiled: Path) -> None:
    """Note in a folder of compiled dependencies what its files know of where they were made."""
    paths = {"target": str(layout.TARGET), "cargo_home": str(layout.cargo_home())}
    (compiled / ORIGIN).write_text(json.dumps(paths))


def found() -> Path | None:
    """Dependencies that were compiled alike, for another user or at another place."""
    name = layout.compiled_dependencies().name
    alike = re.sub("-[0-9a-f]+$", "-*", name)
    found = layout.in_caches(alike)
    return next((folder for folder in found if (folder / ORIGIN).is_file()), None)


@contextmanager
def taking_from(store: Path) -> Iterator[dict[str, str]]:
    """An environment in which cargo takes from `store` what it would compile."""
    origin = json.loads((store / ORIGIN).read_text())
    layout.TARGET.mkdir(exist_ok=True)
    paths = layout.TARGET / ".paths.sed"
    here = {"target": layout.TARGET, "cargo_home": layout.cargo_home()}
    lines = (f"s|{pattern(origin[name])}|{text(str(path))}|g\n" for name, path in here.items())
    paths.write_text("".join(lines))
    yield {
        "RUSTC_WRAPPER": str(HERE / "take.sh"),
        "WEARABLE_REPLAY": str(HERE / "replay.sh"),
        "WEARABLE_STORE": str(store),
        "WEARABLE_TARGET": str(layout.TARGET),
        "WEARABLE_PATHS": str(paths),
    }
    paths.unlink()
    keep_times(store)


def pattern(path: str) -> str:
    """A path as sed looks for it."""
    return re.sub(r"[\\.*^$\[\]|]", r"\\\g<0>", path)


def text(path: str) -> str:
    """A path as sed puts it in."""
    return re.sub(r"[\\&|]", r"\\\g<0>", path)


def keep_times(store: Path) -> None:
    """Give what is here the times that it has in the store.

    What build scripts left is of just now, and cargo would find what it took from the store too
    old for it.
    """
    for file in store.rglob("*"):
        here = layout.TARGET / file.relative_to(store)
        # A link has its time already, and may be another user's.
        if file.is_file() and here.is_file() and not (here.is_symlink() or here.samefile(file)):
            status = file.stat()
            os.utime(here, ns=(status.st_atime_ns, status.st_mtime_ns))
