"""The user's cargo configuration: settings that would compile polars again, or something else.

cargo reads `.cargo/config.toml` in every directory above the clone, and in `CARGO_HOME`. Variables
go before most settings there (`command_environment.py`). For the rest there is no variable, so
set-up stops with a message before anything is compiled.
"""

import tomllib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

# By their path in the file. A profile's other settings are given by variables.
NOT_OVERRIDABLE = (
    ("patch",),
    ("paths",),
    ("profile", "dev", "build-override"),
    ("profile", "dev", "package"),
    ("unstable",),
)


def conflict(root: Path, cargo_home: Path) -> str | None:
    """What to say of a setting that changes what is compiled and that no variable overrides."""
    for file in files(root, cargo_home):
        try:
            settings = tomllib.loads(file.read_text())
        except (OSError, ValueError) as error:
            return f"cargo's configuration {file} cannot be read: {error}. Repair it"
        for path in NOT_OVERRIDABLE:
            if value(settings, path):
                return (
                    f"`{'.'.join(path)}` in {file} applies to this clone too, and changes how its "
                    "dependencies are compiled. Move the setting into the projects that need it"
                )
    return None


def linkers(root: Path, cargo_home: Path) -> list[str]:
    """The configured linkers: cargo does not reuse a package compiled for another one."""
    found = []
    for file in files(root, cargo_home):
        with suppress(OSError, ValueError):
            targets = tomllib.loads(file.read_text()).get("target", {})
            found += [f"{name}={t['linker']}" for name, t in targets.items() if "linker" in t]
    return found


def files(root: Path, cargo_home: Path) -> Iterator[Path]:
    """Configuration files that cargo reads for the clone, besides the clone's own."""
    folders = [*(folder / ".cargo" for folder in root.parents), cargo_home]
    for folder in dict.fromkeys(folders):
        # cargo prefers the name without an ending.
        found = (folder / name for name in ("config", "config.toml"))
        yield from [file for file in found if file.is_file()][:1]


def value(settings: dict[str, Any], path: tuple[str, ...]) -> Any:
    """What a file sets there, None if nothing."""
    found: Any = settings
    for part in path:
        found = found.get(part) if isinstance(found, dict) else None
    return found
