"""Settings in the user's cargo configuration that change how dependencies are compiled.

cargo reads `.cargo/config.toml` in every directory above the clone, and in `CARGO_HOME`. Variables
override most settings (`command_environment.py`). Some settings have no variable; if one of these
is set, setup stops with a message before it compiles anything.
"""

import tomllib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

# Paths in the file. Variables override the other settings of a profile.
NOT_OVERRIDABLE = (
    ("patch",),
    ("paths",),
    ("profile", "dev", "build-override"),
    ("profile", "dev", "package"),
    ("unstable",),
)


def conflict(root: Path, cargo_home: Path) -> str | None:
    """The error message for a setting that no variable overrides, or None."""
    for file in files(root, cargo_home):
        try:
            settings = tomllib.loads(file.read_text())
        except (OSError, ValueError) as error:
            return f"cargo's configuration {file} could not be read: {error}. Fix the file"
        for path in NOT_OVERRIDABLE:
            if value(settings, path):
                return (
                    f"`{'.'.join(path)}` in {file} changes how the dependencies of this clone are "
                    "compiled. Move the setting to the projects that need it"
                )
    return None


def linkers(root: Path, cargo_home: Path) -> list[str]:
    """The configured linkers; cargo recompiles packages for another linker."""
    configured = []
    for file in files(root, cargo_home):
        with suppress(OSError, ValueError):
            targets = tomllib.loads(file.read_text()).get("target", {})
            configured += [f"{name}={t['linker']}" for name, t in targets.items() if "linker" in t]
    return configured


def jobs(root: Path, cargo_home: Path) -> int | None:
    """The user's limit for concurrent compilers, `build.jobs`, if it is a positive number."""
    for file in files(root, cargo_home):
        with suppress(OSError, ValueError):
            limit = value(tomllib.loads(file.read_text()), ("build", "jobs"))
            if isinstance(limit, int) and limit > 0:
                return limit
    return None


def files(root: Path, cargo_home: Path) -> Iterator[Path]:
    """The configuration files that cargo reads for the clone, except the clone's own."""
    folders = [*(folder / ".cargo" for folder in root.parents), cargo_home]
    for folder in dict.fromkeys(folders):
        # cargo prefers the name without an extension.
        candidates = (folder / name for name in ("config", "config.toml"))
        yield from [file for file in candidates if file.is_file()][:1]


def value(settings: dict[str, Any], path: tuple[str, ...]) -> Any:
    """The value at a path in the settings, or None."""
    node: Any = settings
    for part in path:
        node = node.get(part) if isinstance(node, dict) else None
    return node
