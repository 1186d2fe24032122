"""A set-up in one file, for machines that shall neither compile nor have a network.

`create` packs the part of this user's cache and of cargo's registry that the clone needs: compiled
dependencies, the evcxr binary, the sources that cargo and rust-analyzer read, and Python wheels.
`install` unpacks it into another user's cache, where an ordinary set-up finds it
(`artifact_cache.py`).
"""

import hashlib
import json
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..bootstrap import trust
from ..bootstrap.venv import REQUIREMENTS, TOOLS, WHEEL_INDEX, is_shared, python_version, wheels
from . import caches, entry_point, paths, toolchain
from .build import compile_all, locked, move_into_cache, prerequisites, staging
from .errors import UserError

# Of what a bundle is made, in the first file of the archive.
MANIFEST = "manifest.json"
FORMAT = 3
# Versions of Python that the locked packages have wheels for. Most wheels are for all of them.
SUPPORTED = ("3.11", "3.12", "3.13", "3.14")
# What tests need besides; for this Python alone, for pyarrow is large and another for each.
FOR_TESTS = tuple(TOOLS / "tests" / name for name in ("kernel/clients.txt", "results/readers.txt"))
# Names in the archive.
REGISTRY = "registry"
TOOLCHAINS = "toolchains"
# With a window of 128 MB: much is there twice, in a library and in its metadata.
COMPRESS = ("zstd", "-T0", "-12", "--long=27", "--quiet", "--force", "-o")
EXPAND = ("zstd", "-d", "--long=27", "--quiet", "--stdout")
# The folders in a bundle: parts of the cache, and those two.
PARTS = re.compile(
    rf"{REGISTRY}|{TOOLCHAINS}|dependencies-[0-9a-f]+-[0-9a-f]+|evcxr_jupyter-[0-9.]+|wheels-[0-9a-f]+"
)


def name() -> str:
    """A bundle's name for this platform and clone."""
    return f"wearable-environment-{toolchain.host()}-{caches.dependencies_key()}.tar.zst"


def create(with_toolchain: bool) -> None:
    """Write `outputs/wearable-environment-PLATFORM-KEY.tar.zst`, and say what takes its room.

    With the Rust toolchain, if `with_toolchain`.
    """
    require_zstd()
    prerequisites()
    compile_all()
    paths.OUTPUTS.mkdir(exist_ok=True)
    bundle = paths.OUTPUTS / name()
    with tempfile.TemporaryDirectory(prefix="bundle-", dir=paths.TARGET) as folder:
        downloaded = Path(folder) / wheels().name
        pythons = download_wheels(downloaded)
        files = {
            **tree(caches.evcxr().parent.parent),
            **tree(caches.trusted(caches.compiled_dependencies())),
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
    print(f"glibc {oldest} or newer, Python {', '.join(pythons)}")


def pack(files: dict[str, Path], oldest_glibc: str, pythons: Sequence[str], bundle: Path) -> None:
    """Write `files` into a bundle, and before them what they are for and their checksums."""
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
            # What is linked to another name is a file of its own here.
            with tarfile.open(archive, "w", dereference=True) as tar:
                tar.add(listed, MANIFEST)
                for name_, path in sorted(files.items()):
                    tar.add(path.resolve(), name_, recursive=False)
            run(*COMPRESS, part, archive)
        part.rename(bundle)
    finally:
        part.unlink(missing_ok=True)


def tree(folder: Path) -> dict[str, Path]:
    """The files in a folder, by their names in the archive, where it lies at the top."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder.parent)): path for path in files}


def sources() -> dict[str, Path]:
    """Of cargo's registry, the locked packages, and what it asks of its index about them.

    Those of the standard library, too: rust-analyzer has cargo look at its workspace.
    """
    registry = toolchain.cargo_home() / "registry"
    standard = toolchain.sysroot() / "lib/rustlib/src/rust/library/Cargo.lock"
    locks = [tomllib.loads(lock.read_text()) for lock in (paths.ROOT / "Cargo.lock", standard)]
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
    """The pinned toolchain, without its manuals, as rustup has it."""
    found = tree(toolchain.sysroot())
    manuals = f"{toolchain.sysroot().name}/share/doc/"
    return {
        str(Path(TOOLCHAINS, toolchain.toolchain().name, *Path(name_).parts[1:])): path
        for name_, path in found.items()
        if not name_.startswith(manuals)
    }


def download_wheels(folder: Path) -> list[str]:
    """Get the locked Python packages as wheels; the versions of Python that those are for.

    Raises `UserError` if there are none for this one.
    """
    folder.mkdir()
    here = python_version()
    locks = [(lock, here) for lock in FOR_TESTS]
    locks += [(REQUIREMENTS, python) for python in dict.fromkeys((here, *SUPPORTED))]
    listed = []
    for lock, python in locks:
        print(f"Getting the Python packages of {lock.name} for Python {python}", flush=True)
        with tempfile.NamedTemporaryFile("w", suffix=".txt") as wanted:
            wanted.write(requirements_for(lock, python))
            wanted.flush()
            try:
                run(
                    *(*pip(), "download", "--quiet", "--disable-pip-version-check", "--no-deps"),
                    *("--only-binary=:all:", "--require-hashes", "-d", folder, "-r", wanted.name),
                    # Without its last digits it would be taken for the first of its releases.
                    *("--python-version", f"{python}.99"),
                )
                listed.append((lock, python))
            except UserError:
                if python == here:
                    raise
                print(f"Those for Python {python} are left out", flush=True)
    lines = (f"{digest(lock)} {python}\n" for lock, python in listed)
    (folder / WHEEL_INDEX).write_text("".join(lines))
    return [python for lock, python in listed if lock == REQUIREMENTS]


def pip() -> tuple[str, ...]:
    """pip, which is not in this environment."""
    here = (sys.executable, "-m", "pip")
    if subprocess.run([*here, "--version"], capture_output=True).returncode == 0:
        return here
    return (str(Path(sys.base_prefix) / "bin" / "python3"), "-m", "pip")


def requirements_for(lock: Path, python: str) -> str:
    """Of the locked packages with their hashes, those that a version of Python needs.

    pip would decide that by the version that it runs with.
    """
    from packaging.requirements import Requirement  # not where a bundle is about to be used

    environment = {"python_version": python, "python_full_version": f"{python}.99"}
    found = []
    for entry in re.split(r"^(?=[a-z])", lock.read_text(), flags=re.MULTILINE)[1:]:
        name_, backslash, hashes = entry.partition("\\\n")
        requirement = Requirement(name_)
        if requirement.marker is None or requirement.marker.evaluate(environment):
            found.append(f"{requirement.name}{requirement.specifier} {backslash}{hashes}")
    return "".join(found)


def install(bundle: Path) -> None:
    """Put a bundle into this user's cache and cargo's registry, after a look at all that is in it.

    Raises `UserError` for one that is not for this clone, platform or Python, cut off or damaged;
    then nothing has changed.
    """
    require_zstd()
    if not bundle.is_file():
        raise UserError(f"{bundle} is not there")
    if not os.access(bundle, os.R_OK):
        raise UserError(f"{bundle} cannot be read. Fix: chmod a+r {shlex.quote(str(bundle))}")
    with locked("bundle"), staging("bundle") as folder:
        print(f"Taking everything from {bundle.name}", flush=True)
        unpack(bundle, folder)
        # Also what goes to cargo's and rustup's folders.
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
    """Move a folder to where there must be none, also to another disk; never a part of it."""
    if destination.exists():
        fix = f"rm -rf {shlex.quote(str(destination))}"
        raise UserError(f"{destination} is there, and does not work. Fix: {fix}, then try again")
    destination.parent.mkdir(parents=True, exist_ok=True)
    if not same_disk(folder, destination.parent):
        part = destination.with_name(f".{destination.name}.part")
        shutil.rmtree(part, ignore_errors=True)
        folder = Path(shutil.copytree(folder, part, symlinks=True))
    folder.rename(destination)


def is_expected(name_: str) -> bool:
    """Whether a bundle may have a file of this name: in a part that this project makes, not above
    it or beside it."""
    top, *below = name_.split("/")
    return bool(below and PARTS.fullmatch(top)) and not {"", ".", ".."} & {*below}


def manifest_files(manifest: Any) -> dict[str, str]:
    """The files in a bundle with their checksums. Raises `ValueError` for a manifest that is none.

    Other things than this project's files are not in it, wherever they would go to.
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
    """Write a file of a bundle, which is not there yet; its SHA-256.

    Of what the archive says of it, only its content counts, and whether it is a program: no owner,
    no link, no device and no right that another user could have by it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    content, summed = tar.extractfile(member), hashlib.sha256()
    with path.open("xb") as file:
        while block := content.read(1 << 20):
            file.write(block)
            summed.update(block)
    path.chmod(0o755 if member.mode & 0o100 else 0o644)
    # cargo compares times.
    os.utime(path, (member.mtime, member.mtime))
    return summed.hexdigest()


def unpack(bundle: Path, folder: Path) -> None:
    """Unpack a bundle, and compare every file with what the manifest says of it."""
    broken = UserError(f"{bundle.name} is cut off or damaged; get it again")
    with subprocess.Popen([*EXPAND, bundle], stdout=-1, stderr=subprocess.DEVNULL) as expander:
        try:
            with tarfile.open(fileobj=expander.stdout, mode="r|") as tar:
                first = tar.next()
                if first is None or first.name != MANIFEST or not first.isfile():
                    raise UserError(f"{bundle.name} is no bundle of this project")
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
    """Raise `UserError` for a bundle of another version, whose manifest may have other entries."""
    if isinstance(manifest, dict) and manifest.get("format") not in (None, FORMAT):
        raise UserError(f"{bundle.name} is of another version of this project's tools")


def check_compatible(bundle: Path, manifest: dict) -> None:
    """Raise `UserError` for a bundle that is not for here."""
    has_toolchain = any(name_.startswith(f"{TOOLCHAINS}/") for name_ in manifest["files"])
    rust_here = toolchain.has_rust()
    if not (rust_here or has_toolchain):
        raise UserError(
            f"There is no Rust here, and none in {bundle.name}. Take one that was made by "
            "`./justw offline-bundle --toolchain`, or get rustup as https://rustup.rs says"
        )
    rustc = toolchain.rustc_version() if rust_here else manifest["rustc"]
    here = {
        "platform": toolchain.host() if rust_here else like_this(manifest["platform"]),
        "key": caches.dependencies_key(rustc),
    }
    words = {
        "platform": "another platform",
        "key": "another state of the clone (its lock file, manifests or toolchain)",
    }
    for what, wanted in here.items():
        if manifest[what] != wanted:
            raise UserError(
                f"{bundle.name} is for {words[what]}: {manifest[what]}, and here is {wanted}"
            )
    if version(glibc()) < version(manifest["glibc"]):
        raise UserError(f"{bundle.name} needs glibc {manifest['glibc']}, and here is {glibc()}")
    if python_version() not in manifest["python"]:
        print(
            f"Its Python packages are for Python {', '.join(manifest['python'])}, and here is "
            f"{python_version()}: those come from the network",
            flush=True,
        )


def like_this(platform_: str) -> str:
    """A platform that programs for `platform_` run on, if they run here, or another one."""
    return platform_.replace(platform_.split("-")[0], platform.machine(), 1)


def merge(source: Path, destination: Path) -> None:
    """Add the files that are not there."""
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
    """Whether a file can be moved there by its name alone."""
    return path.stat().st_dev == folder.stat().st_dev


def print_sizes(files: dict[str, Path]) -> None:
    """Print what takes the room, before it is compressed."""
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
    """The oldest C library that the programs and shared libraries among the files run on."""
    linked = (path for name_, path in files.items() if name_.endswith((".so", "/evcxr_jupyter")))
    return max((platform.libc_ver(str(path))[1] for path in linked), key=version)


def glibc() -> str:
    """The C library here."""
    return (os.confstr("CS_GNU_LIBC_VERSION") or "").removeprefix("glibc ")


def version(text: str) -> tuple[int, ...]:
    """A version to compare."""
    return tuple(int(part) for part in re.findall("[0-9]+", text))


def require_zstd() -> None:
    """Raise `UserError` where the program is not there."""
    if shutil.which("zstd") is None:
        raise UserError("There is no zstd. Debian and Ubuntu: sudo apt install zstd")


def run(*command: str | Path) -> None:
    if subprocess.run([str(part) for part in command]).returncode != 0:
        raise UserError(f"`{Path(command[0]).name}` failed, see above")


if __name__ == "__main__":
    sys.exit(entry_point.exit_code(lambda: install(Path(sys.argv[1]))))
