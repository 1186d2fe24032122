"""Reuses dependencies that were compiled elsewhere: in another user's cache, or in a bundle.

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

from . import caches, own_libraries, paths, toolchain

# A file in a folder of compiled dependencies, with the paths of the machine that compiled them.
ORIGIN = "origin.json"


def record_origin(compiled: Path) -> None:
    """Record the paths that the compiled files contain, in their folder."""
    origin = {"target": str(paths.TARGET), "cargo_home": str(toolchain.cargo_home())}
    (compiled / ORIGIN).write_text(json.dumps(origin))


def find_compatible() -> Path | None:
    """Compiled dependencies with the same KEY, and the HOME of another user or path."""
    name = caches.compiled_dependencies().name
    same_key = re.sub("-[0-9a-f]+$", "-*", name)
    return next(
        (folder for folder in caches.in_caches(same_key) if (folder / ORIGIN).is_file()), None
    )


@contextmanager
def wrapper_environment(cached: Path) -> Iterator[dict[str, str]]:
    """Variables with which cargo links artifacts from `cached` instead of compiling them."""
    origin = json.loads((cached / ORIGIN).read_text())
    here = {"target": str(paths.TARGET), "cargo_home": str(toolchain.cargo_home())}
    moved = [(origin[name], here[name]) for name in here]
    paths.TARGET.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".paths-", dir=paths.TARGET) as folder:
        dep_info, output = Path(folder, "dep-info.sed"), Path(folder, "output.sed")
        dep_info.write_bytes(os.fsencode(translate_dep_info(moved)))
        output.write_bytes(os.fsencode(translate(moved)))
        yield {
            "RUSTC_WRAPPER": str(own_libraries.WRAPPER),
            "WEARABLE_BUILD_SCRIPT": str(Path(__file__).with_name("replay_build_script.sh")),
            "WEARABLE_ARTIFACT_CACHE": str(cached),
            "WEARABLE_TARGET_DIR": str(paths.TARGET),
            "WEARABLE_DEP_INFO_SED": str(dep_info),
            "WEARABLE_OUTPUT_SED": str(output),
        }
    copy_times(cached)


Paths = list[tuple[str, str]]


def translate_dep_info(moved: Paths) -> str:
    """A sed script that replaces paths in a dep-info file (`.d`) of rustc.

    In file names, rustc escapes only spaces, and not in the target at the start of a line. In
    values of environment variables, it escapes backslashes.
    """
    in_variables = [tuple(path.replace("\\", "\\\\") for path in pair) for pair in moved]
    in_names = [tuple(path.replace(" ", "\\ ") for path in pair) for pair in moved]
    before = [f"/: /s|^{pattern(p)}/|\1-{n}\1/|\n" for n, (p, _) in enumerate(moved)]
    after = [f"s|\1-{n}\1|{text(p)}|\n" for n, (_, p) in enumerate(moved)]
    names = "".join([*before, translate(in_names), *after])
    return f"/^# env-dep:/{{\n{translate(in_variables)}b\n}}\n{names}"


def translate(moved: Paths) -> str:
    """A sed script that replaces each path, also where it is the start of a longer path.

    It does not replace a path that only shares a prefix of its last name. A new path may contain an
    old one, so the script first inserts placeholders.
    """
    searches, insertions = [], []
    for number, (before, after) in enumerate(moved):
        searched, place = pattern(before), f"\1{number}\1"
        for start in ("^[^/]*", "[ =:\"'][^/ =:\"']*"):
            for end in ("/", "$"):
                kept = "" if end == "$" else end
                # Twice, because of two adjacent paths, the first match consumes the start of the
                # second.
                searches += 2 * [f"s|\\({start}\\){searched}{end}|\\1{place}{kept}|g\n"]
        insertions.append(f"s|{place}|{text(after)}|g\n")
    return "".join(searches + insertions)


def pattern(path: str) -> str:
    """A path as a basic regular expression."""
    return re.sub(r"[\\.*^$\[|]", r"\\\g<0>", path)


def text(path: str) -> str:
    """A path as the replacement of a sed command."""
    return re.sub(r"[\\&|]", r"\\\g<0>", path)


def copy_times(cached: Path) -> None:
    """Copy the modification times from the cache.

    The outputs of build scripts are new, so cargo would treat the linked artifacts as outdated.
    """
    for file in cached.rglob("*"):
        here = paths.TARGET / file.relative_to(cached)
        # A link shares its time with the cache, and may belong to another user.
        if file.is_file() and here.is_file() and not (here.is_symlink() or here.samefile(file)):
            status = file.stat()
            os.utime(here, ns=(status.st_atime_ns, status.st_mtime_ns))
