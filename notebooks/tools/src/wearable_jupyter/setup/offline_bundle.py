"""An offline bundle: one file that sets up another machine without compiling or a network.

`create` packs the part of this user's cache and of cargo's registry that the clone needs: compiled
dependencies, the evcxr binary, the sources that cargo and rust-analyzer read, and Python wheels. It
adds the workspace's libraries (`own_libraries.py`).
`install` unpacks it into another user's cache, where an ordinary setup finds it
(`artifact_cache.py`).
"""

import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..bootstrap import platform, trust
from ..bootstrap.venv import REQUIREMENTS, TOOLS, WHEEL_INDEX, is_shared, python_version, wheels
from . import caches, entry_point, own_libraries, paths, toolchain
from .build import cargo, compile_all, locked, move_into_cache, prerequisites, staging
from .errors import UserError

# The first file of the archive, which describes the others.
MANIFEST = "manifest.json"
FORMAT = 3
# Versions of Python for which the locked packages have wheels. Most wheels serve all versions.
SUPPORTED = ("3.11", "3.12", "3.13", "3.14")
# More packages, for tests. Only for this Python, because pyarrow is large and has a wheel for each.
FOR_TESTS = tuple(TOOLS / "tests" / name for name in ("kernel/clients.txt", "results/readers.txt"))
# Names in the archive.
REGISTRY = "registry"
TOOLCHAINS = "toolchains"
# With a window of 128 MB, because libraries and their metadata contain the same data.
COMPRESS = ("zstd", "-T0", "-12", "--long=27", "--quiet", "--force", "-o")
EXPAND = ("zstd", "-d", "--long=27", "--quiet", "--stdout")
# The folders in a bundle: parts of the cache, cargo's registry and toolchains.
PARTS = re.compile(
    rf"{REGISTRY}|{TOOLCHAINS}|dependencies-[0-9a-f]+-[0-9a-f]+|evcxr_jupyter-[0-9.]+|wheels-[0-9a-f]+"
)


def name() -> str:
    """The file name of a bundle for this platform and clone."""
    return f"wearable-environment-{toolchain.host()}-{caches.dependencies_key()}.tar.zst"


def create(with_toolchain: bool) -> None:
    """Write `outputs/wearable-environment-PLATFORM-KEY.tar.zst`, and print the sizes of its parts.

    `with_toolchain` includes the Rust toolchain.
    """
    require_zstd()
    prerequisites()
    compile_all()
    paths.OUTPUTS.mkdir(exist_ok=True)
    bundle = paths.OUTPUTS / name()
    with tempfile.TemporaryDirectory(prefix="bundle-", dir=paths.TARGET) as folder:
        downloaded = Path(folder) / wheels().name
        pythons = download_wheels(downloaded)
        compiled = caches.trusted(caches.compiled_dependencies())
        # Named as it will be in the cache.
        own = Path(folder) / compiled.name / own_libraries.BUNDLED
        own_libraries.bundle(cargo, own)
        files = {
            **tree(caches.evcxr().parent.parent),
            **tree(compiled),
            **tree(own.parent),
            **sources(),
            **tree(downloaded),
            **(rust() if with_toolchain else {}),
        }
        print_sizes(files)
        print("Compressing", flush=True)
        oldest = needed_glibc(files)
        pack(files, oldest, pythons, bundle)
    size = bundle.stat().st_size / 1e6
    print(f"\n{paths.display_path(bundle)}: {size:.0f} MB, for {toolchain.host()},")
    print(f"{f'glibc {oldest} or newer, ' if oldest else ''}Python {', '.join(pythons)}")


def pack(files: dict[str, Path], oldest_glibc: str, pythons: Sequence[str], bundle: Path) -> None:
    """Write a bundle: a manifest with requirements and checksums, then `files`."""
    manifest = {
        "format": FORMAT,
        "key": caches.dependencies_key(),
        "platform": toolchain.host(),
        "rustc": toolchain.rustc_version(),
        "glibc": oldest_glibc,
        "python": list(pythons),
        "files": {name_: digest(path) for name_, path in files.items()},
    }
    part = bundle.with_name(f".{bundle.name}.part")
    try:
        with tempfile.TemporaryDirectory(prefix="bundle-", dir=bundle.parent) as folder:
            archive, listed = Path(folder) / "archive.tar", Path(folder) / MANIFEST
            listed.write_text(json.dumps(manifest))
            # Store links as files.
            with tarfile.open(archive, "w", dereference=True) as tar:
                tar.add(listed, MANIFEST)
                for name_, path in sorted(files.items()):
                    tar.add(path.resolve(), name_, recursive=False)
            run(*COMPRESS, part, archive)
        part.rename(bundle)
    finally:
        part.unlink(missing_ok=True)


def tree(folder: Path) -> dict[str, Path]:
    """The files in a folder, by their names in the archive."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder.parent)): path for path in files}


def sources() -> dict[str, Path]:
    """The locked packages in cargo's registry, with their index entries.

    Includes those of the standard library, because rust-analyzer runs cargo on its workspace.
    """
    registry = toolchain.cargo_home() / "registry"
    standard = toolchain.standard_library() / "Cargo.lock"
    locks = map(paths.read_toml, (paths.ROOT / "Cargo.lock", standard))
    packages = [p for lock in locks for p in lock["package"] if "source" in p]
    crates = {f"{package['name']}-{package['version']}.crate" for package in packages}
    names = {package["name"] for package in packages}
    found = {}
    for path in registry.rglob("*"):
        parts = path.relative_to(registry).parts
        in_index = parts[0] == "index" and (path.name in names or path.name == "config.json")
        if path.is_file() and (in_index or (parts[0] == "cache" and path.name in crates)):
            found[str(Path(REGISTRY, *parts))] = path
    return found


def rust() -> dict[str, Path]:
    """The pinned toolchain as rustup installs it, without its documentation."""
    found = tree(toolchain.sysroot())
    manuals = f"{toolchain.sysroot().name}/share/doc/"
    return {
        str(Path(TOOLCHAINS, toolchain.toolchain().name, *Path(name_).parts[1:])): path
        for name_, path in found.items()
        if not name_.startswith(manuals)
    }


def download_wheels(folder: Path) -> list[str]:
    """Download the locked Python packages as wheels, and return the versions of Python they serve.

    Raises `UserError` if there are none for this version.
    """
    folder.mkdir()
    here = python_version()
    locks = [(lock, here) for lock in FOR_TESTS]
    locks += [(REQUIREMENTS, python) for python in dict.fromkeys((here, *SUPPORTED))]
    listed = []
    for lock, python in locks:
        print(f"Downloading the packages of {lock.name} for Python {python}", flush=True)
        with tempfile.NamedTemporaryFile("w", suffix=".txt") as wanted:
            wanted.write(requirements_for(lock, python))
            wanted.flush()
            try:
                run(
                    *(*pip(), "download", "--quiet", "--disable-pip-version-check", "--no-deps"),
                    *("--only-binary=:all:", "--require-hashes", "-d", folder, "-r", wanted.name),
                    # Without a patch number, pip assumes the first release.
                    *("--python-version", f"{python}.99"),
                )
                listed.append((lock, python))
            except UserError:
                if python == here:
                    raise
                print(f"The bundle will contain no packages for Python {python}", flush=True)
    lines = (f"{digest(lock)} {python}\n" for lock, python in listed)
    (folder / WHEEL_INDEX).write_text("".join(lines))
    return [python for lock, python in listed if lock == REQUIREMENTS]


def pip() -> tuple[str, ...]:
    """The command for pip, which .venv does not contain."""
    here = (sys.executable, "-m", "pip")
    if subprocess.run([*here, "--version"], capture_output=True).returncode == 0:
        return here
    return (str(Path(sys.base_prefix) / "bin" / "python3"), "-m", "pip")


def requirements_for(lock: Path, python: str) -> str:
    """The locked packages, with hashes, that a version of Python needs.

    pip would evaluate markers for the Python that it runs on.
    """
    from packaging.requirements import Requirement  # a setup from a bundle has no packages yet

    environment = {"python_version": python, "python_full_version": f"{python}.99"}
    found = []
    for entry in re.split(r"^(?=[a-z])", lock.read_text(), flags=re.MULTILINE)[1:]:
        name_, backslash, hashes = entry.partition("\\\n")
        requirement = Requirement(name_)
        if requirement.marker is None or requirement.marker.evaluate(environment):
            found.append(f"{requirement.name}{requirement.specifier} {backslash}{hashes}")
    return "".join(found)


def install(bundle: Path) -> None:
    """Verify a bundle, then install it into this user's cache and cargo's registry.

    Raises `UserError` for a bundle that is incompatible, truncated or corrupted, and changes
    nothing then.
    """
    require_zstd()
    if not bundle.is_file():
        raise UserError(f"{bundle} does not exist. Check the path")
    if not os.access(bundle, os.R_OK):
        raise UserError(f"{bundle} is not readable. Run: chmod a+r {shlex.quote(str(bundle))}")
    with locked("bundle"), staging("bundle") as folder:
        print(f"Installing from {bundle.name}", flush=True)
        unpack(bundle, folder)
        # Also protects the files for cargo's and rustup's folders.
        trust.protect(folder, readable=is_shared())
        for part in sorted(folder.iterdir()):
            if part.name == REGISTRY:
                merge(part, toolchain.cargo_home() / REGISTRY)
            elif part.name == TOOLCHAINS:
                if not toolchain.has_rust():
                    move(part / toolchain.toolchain().name, toolchain.toolchain())
            elif part.is_dir():
                move_into_cache(part, caches.cache_directory() / part.name)


def move(folder: Path, destination: Path) -> None:
    """Move a folder atomically to a path that must not exist, also to another disk."""
    if destination.exists():
        fix = f"rm -rf {shlex.quote(str(destination))}"
        raise UserError(f"{destination} exists, but does not work. Run: {fix}, then try again")
    destination.parent.mkdir(parents=True, exist_ok=True)
    if not same_disk(folder, destination.parent):
        part = destination.with_name(f".{destination.name}.part")
        shutil.rmtree(part, ignore_errors=True)
        folder = Path(shutil.copytree(folder, part, symlinks=True))
    folder.rename(destination)


def is_expected(name_: str) -> bool:
    """Whether a bundle may contain a file of this name: inside a folder that `PARTS` allows."""
    top, *below = name_.split("/")
    return bool(below and PARTS.fullmatch(top)) and not {"", ".", ".."} & {*below}


def manifest_files(manifest: Any) -> dict[str, str]:
    """The files of a manifest with their checksums. Raises `ValueError` if it is not valid.

    Rejects files outside the known folders.
    """
    texts = ("key", "platform", "rustc", "glibc")
    if not isinstance(manifest, dict) or not isinstance(manifest.get("files"), dict):
        raise ValueError
    if not all(isinstance(manifest.get(name_), str) for name_ in texts):
        raise ValueError
    if not isinstance(manifest.get("python"), list):
        raise ValueError
    files = dict(manifest["files"])
    folders = {str(parent) for name_ in files for parent in Path(name_).parents}
    if not all(map(is_expected, files)) or folders & files.keys():
        raise ValueError
    return files


def extract(tar: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> str:
    """Extract a file of a bundle, and return its SHA-256.

    Uses only the content, the time and the executable bit: no owners, links, devices or other
    permissions.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    content, checksum = tar.extractfile(member), hashlib.sha256()
    with path.open("xb") as file:
        while block := content.read(1 << 20):
            file.write(block)
            checksum.update(block)
    path.chmod(0o755 if member.mode & 0o100 else 0o644)
    # cargo compares modification times.
    os.utime(path, (member.mtime, member.mtime))
    return checksum.hexdigest()


def unpack(bundle: Path, folder: Path) -> None:
    """Unpack a bundle and verify the checksum of every file."""
    broken = UserError(f"{bundle.name} is truncated or corrupted. Download or create it again")
    with subprocess.Popen([*EXPAND, bundle], stdout=-1, stderr=subprocess.DEVNULL) as expander:
        try:
            with tarfile.open(fileobj=expander.stdout, mode="r|") as tar:
                first = tar.next()
                if first is None or first.name != MANIFEST or not first.isfile():
                    raise UserError(f"{bundle.name} is not an offline bundle of this project")
                manifest = json.load(tar.extractfile(first))
                check_format(bundle, manifest)
                expected = manifest_files(manifest)
                check_compatible(bundle, manifest)
                while (member := tar.next()) is not None:
                    if not member.isfile() or member.name not in expected:
                        raise broken
                    if extract(tar, member, folder / member.name) != expected.pop(member.name):
                        raise broken
            while expander.stdout.read(1 << 20):
                pass
            if expander.wait() != 0:
                raise broken
        except (tarfile.TarError, ValueError, EOFError, RecursionError) as error:
            raise broken from error
        finally:
            expander.stdout.close()
            expander.terminate()
    if expected:
        raise broken


def check_format(bundle: Path, manifest: Any) -> None:
    """Raise `UserError` for a bundle of another format, whose manifest may have other entries."""
    if isinstance(manifest, dict) and manifest.get("format") not in (None, FORMAT):
        raise UserError(
            f"{bundle.name} was created by another version of this project. "
            "Create it again: ./justw offline-bundle"
        )


def check_compatible(bundle: Path, manifest: dict) -> None:
    """Raise `UserError` for a bundle that is incompatible with this clone or machine."""
    has_toolchain = any(name_.startswith(f"{TOOLCHAINS}/") for name_ in manifest["files"])
    rust_here = toolchain.has_rust()
    if not (rust_here or has_toolchain):
        raise UserError(
            f"Rust is not installed, and {bundle.name} does not contain it. Use a bundle of "
            "`./justw offline-bundle --toolchain`, or install rustup from https://rustup.rs"
        )
    rustc = toolchain.rustc_version() if rust_here else manifest["rustc"]
    here = {
        "platform": toolchain.host() if rust_here else platform.target_triple(),
        "key": caches.dependencies_key(rustc),
    }
    descriptions = {
        "platform": "for another platform",
        "key": "from a clone with other lock file, manifests or toolchain",
    }
    for field, wanted in here.items():
        if manifest[field] != wanted:
            raise UserError(
                f"{bundle.name} was created {descriptions[field]} ({manifest[field]} instead of "
                f"{wanted}). Create one that matches: ./justw offline-bundle"
            )
    here_glibc = platform.glibc()
    if version(here_glibc) < version(manifest["glibc"]):
        raise UserError(
            f"{bundle.name} needs glibc {manifest['glibc']} or newer; this machine has "
            f"{here_glibc or 'another C library'}. Create a bundle on an older system"
        )
    if python_version() not in manifest["python"]:
        print(
            f"The bundle has packages for Python {', '.join(manifest['python'])}, but this is "
            f"Python {python_version()}: setup downloads its packages",
            flush=True,
        )


def merge(source: Path, destination: Path) -> None:
    """Add the files that do not exist yet."""
    for path in source.rglob("*"):
        target = destination / path.relative_to(source)
        if path.is_file() and not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            if same_disk(path, target.parent):
                path.rename(target)
            else:
                part = target.with_name(f".{target.name}.part")
                shutil.copy2(path, part)
                part.rename(target)


def same_disk(path: Path, folder: Path) -> bool:
    """Whether a rename can move a file into a folder."""
    return path.stat().st_dev == folder.stat().st_dev


def print_sizes(files: dict[str, Path]) -> None:
    """Print the uncompressed size of each part."""
    sizes: dict[str, int] = {}
    for name_, path in files.items():
        top = name_.split("/")[0]
        part = re.sub("-[0-9a-f]{8,}.*$", "", top)
        sizes[part] = sizes.get(part, 0) + path.stat().st_size
    for part, size in sorted(sizes.items(), key=lambda item: -item[1]):
        print(f"{part:<28}{size / 1e6:>8.0f} MB")


def digest(path: Path) -> str:
    """The SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def needed_glibc(files: dict[str, Path]) -> str:
    """The oldest glibc that the programs and shared libraries run on; empty without glibc."""
    linked = (platform.shared_library_suffix(), "/evcxr_jupyter")
    paths_ = (path for name_, path in files.items() if name_.endswith(linked))
    return max(map(platform.needed_glibc, paths_), key=version)


def version(text: str) -> tuple[int, ...]:
    """A version as a comparable tuple."""
    return tuple(int(part) for part in re.findall("[0-9]+", text))


def require_zstd() -> None:
    """Raise `UserError` if zstd is not installed."""
    if shutil.which("zstd") is None:
        raise UserError(f"zstd is not installed. {platform.install_hint('zstd')}")


def run(*command: str | Path) -> None:
    if subprocess.run([str(part) for part in command]).returncode != 0:
        raise UserError(f"`{Path(command[0]).name}` failed; see above")


if __name__ == "__main__":
    sys.exit(entry_point.exit_code(lambda: install(Path(sys.argv[1]))))
