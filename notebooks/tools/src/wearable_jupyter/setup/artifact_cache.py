"""Compiled dependencies from another place: another user's cache, or a bundle.

cargo rejects artifacts that were built elsewhere: it records the paths of CARGO_HOME and of the
workspace. So cargo runs an ordinary build with `rustc_from_cache.sh` as its rustc wrapper. The
wrapper links each artifact that the cache has, by the name that cargo gives it (a hash of package,
features, profile, flags and compiler). It installs `replay_build_script.sh` as each build script,
which prints what the original printed. cargo then records local paths, and nothing is compiled.
"""

import json
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from . import caches, paths, toolchain

HERE = Path(__file__).parent
# In a folder of compiled dependencies: where it was made.
ORIGIN = "origin.json"


def record_origin(compiled: Path) -> None:
    """Note in a folder of compiled dependencies what its files know of where they were made."""
    origin = {"target": str(paths.TARGET), "cargo_home": str(toolchain.cargo_home())}
    (compiled / ORIGIN).write_text(json.dumps(origin))


def find_compatible() -> Path | None:
    """Dependencies that were compiled alike, for another user or at another place."""
    name = caches.compiled_dependencies().name
    alike = re.sub("-[0-9a-f]+$", "-*", name)
    found = caches.in_caches(alike)
    return next((folder for folder in found if (folder / ORIGIN).is_file()), None)


@contextmanager
def wrapper_environment(cached: Path) -> Iterator[dict[str, str]]:
    """An environment in which cargo takes from `cached` what it would compile."""
    origin = json.loads((cached / ORIGIN).read_text())
    here = {"target": str(paths.TARGET), "cargo_home": str(toolchain.cargo_home())}
    moved = [(origin[name], here[name]) for name in here]
    paths.TARGET.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".paths-", dir=paths.TARGET) as folder:
        dep_info, output = Path(folder, "dep-info.sed"), Path(folder, "output.sed")
        dep_info.write_bytes(os.fsencode(translate_dep_info(moved)))
        output.write_bytes(os.fsencode(translate(moved)))
        yield {
            "RUSTC_WRAPPER": str(HERE / "rustc_from_cache.sh"),
            "WEARABLE_BUILD_SCRIPT": str(HERE / "replay_build_script.sh"),
            "WEARABLE_ARTIFACT_CACHE": str(cached),
            "WEARABLE_TARGET_DIR": str(paths.TARGET),
            "WEARABLE_DEP_INFO_SED": str(dep_info),
            "WEARABLE_OUTPUT_SED": str(output),
        }
    copy_times(cached)


Paths = list[tuple[str, str]]


def translate_dep_info(moved: Paths) -> str:
    """A script for sed that replaces paths in a dep-info file (`.d`), as rustc writes it.

    In a file's name rustc escapes spaces only, and not even those where a line starts with the file
    that depends on others. In an environment variable's value it escapes backslashes.
    """
    in_variables = [tuple(path.replace("\\", "\\\\") for path in pair) for pair in moved]
    in_names = [tuple(path.replace(" ", "\\ ") for path in pair) for pair in moved]
    before = [f"/: /s|^{pattern(p)}/|\1-{n}\1/|\n" for n, (p, _) in enumerate(moved)]
    after = [f"s|\1-{n}\1|{text(p)}|\n" for n, (_, p) in enumerate(moved)]
    names = "".join([*before, translate(in_names), *after])
    return f"/^# env-dep:/{{\n{translate(in_variables)}b\n}}\n{names}"


def translate(moved: Paths) -> str:
    """A script for sed that replaces each path with another, as a whole or with more after it.

    A path may be the beginning of another path's name, or part of another path. And one that is put
    in may contain one that is looked for, so they are put in last.
    """
    searches, insertions = [], []
    for number, (before, after) in enumerate(moved):
        searched, place = pattern(before), f"\1{number}\1"
        for start in ("^[^/]*", "[ =:\"'][^/ =:\"']*"):
            for end in ("/", "$"):
                kept = "" if end == "$" else end
                # Twice, because of two that follow each other the second has no start of its own.
                searches += 2 * [f"s|\\({start}\\){searched}{end}|\\1{place}{kept}|g\n"]
        insertions.append(f"s|{place}|{text(after)}|g\n")
    return "".join(searches + insertions)


def pattern(path: str) -> str:
    """A path as sed looks for it."""
    return re.sub(r"[\\.*^$\[|]", r"\\\g<0>", path)


def text(path: str) -> str:
    """A path as sed puts it in."""
    return re.sub(r"[\\&|]", r"\\\g<0>", path)


def copy_times(cached: Path) -> None:
    """Give what is here the times that it has in the cached.

    What build scripts left is of just now, and cargo would find what it took from the cached too
    old for it.
    """
    for file in cached.rglob("*"):
        here = paths.TARGET / file.relative_to(cached)
        # A link has its time already, and may be another user's.
        if file.is_file() and here.is_file() and not (here.is_symlink() or here.samefile(file)):
            status = file.stat()
            os.utime(here, ns=(status.st_atime_ns, status.st_mtime_ns))
