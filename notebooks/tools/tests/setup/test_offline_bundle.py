"""Small bundles: a valid bundle is installed completely, and an invalid one changes nothing.

The setup of another home from a real bundle takes minutes, so it was tested by hand; see
DESIGN.md.
"""

import errno
import hashlib
import io
import json
import os
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

from wearable_jupyter.bootstrap import trust, venv
from wearable_jupyter.setup import caches, entry_point, offline_bundle, toolchain
from wearable_jupyter.setup.errors import UserError

pytestmark = pytest.mark.skipif(
    shutil.which("zstd") is None and "CI" not in os.environ,
    reason="zstd is not installed: sudo apt install zstd",
)


@pytest.fixture
def bundle_file(tmp_path, monkeypatch):
    """A bundle of a few files, and an empty home: its cache and its cargo home."""
    made = {
        "dependencies-0123-4567/debug/deps/liba.rlib": b"compiled" * 1000,
        "evcxr_jupyter-0.22.0/bin/evcxr_jupyter": b"a program",
        "registry/cache/index/a-1.0.0.crate": b"a source",
        "wheels-0123/a.whl": b"a wheel",
    }
    return write(made, tmp_path, monkeypatch)


def write(made: dict[str, bytes], tmp_path, monkeypatch) -> Path:
    """A bundle of these files, and an empty home."""
    files = {}
    for name, content in made.items():
        files[name] = tmp_path / "from" / name
        files[name].parent.mkdir(parents=True, exist_ok=True)
        files[name].write_bytes(content)
        files[name].chmod(0o755 if "bin" in name.split("/") else 0o644)
    # Compiled programs have two names for one file.
    program = next(name for name in made if "/bin/" in name)
    second = str(Path(program).with_name("second"))
    files[second] = tmp_path / "from/second"
    os.link(files[program], files[second])
    packed = tmp_path / "packed.tar.zst"
    offline_bundle.pack(files, "2.2", ["3.11", "3.12"], packed)
    monkeypatch.setenv("WEARABLE_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("CARGO_HOME", str(tmp_path / "cargo"))
    return packed


def everything(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock")
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_valid_bundle_is_installed(bundle_file, tmp_path):
    source = tmp_path / "cargo/registry/cache/index/a-1.0.0.crate"
    source.parent.mkdir(parents=True)
    source.write_bytes(b"here already")
    offline_bundle.install(bundle_file)
    assert source.read_bytes() == b"here already"
    cache = everything(tmp_path / "cache")
    assert cache.pop("dependencies-0123-4567/debug/deps/liba.rlib") == b"compiled" * 1000
    assert cache.pop("evcxr_jupyter-0.22.0/bin/evcxr_jupyter") == b"a program"
    assert cache.pop("evcxr_jupyter-0.22.0/bin/second") == b"a program"
    assert cache.pop("wheels-0123/a.whl") == b"a wheel"
    assert not cache
    offline_bundle.install(bundle_file)  # a second call changes nothing
    assert len(everything(tmp_path / "cache")) == 4


def changed(manifest: dict, packed: Path) -> None:
    """Write the bundle again, with changes in its manifest."""
    folder = packed.parent / "anew"
    folder.mkdir()
    subprocess.run(["sh", "-c", f"zstd -dc {packed} | tar -x -C {folder}"], check=True)
    listed = folder / offline_bundle.MANIFEST
    listed.write_text(json.dumps(json.loads(listed.read_text()) | manifest))
    archive = packed.parent / "anew.tar"
    with tarfile.open(archive, "w") as tar:
        tar.add(listed, offline_bundle.MANIFEST)
        for path in sorted(folder.rglob("*")):
            if path.is_file() and path != listed:
                tar.add(path, str(path.relative_to(folder)))
    subprocess.run(["zstd", "-q", "-f", "-o", packed, archive], check=True)


@pytest.mark.parametrize(
    "manifest, message",
    [
        ({"key": "0"}, "from a clone with other lock file"),
        ({"platform": "riscv64gc-unknown-linux-gnu"}, "another platform"),
        ({"format": 99}, "another version of this project"),
        ({"glibc": "99.1"}, "needs glibc 99.1"),
        ({"files": {}}, "truncated or corrupted"),
        ({"files": {"a": "0", "../b": "0"}}, "truncated or corrupted"),
    ],
)
def test_incompatible_bundle_changes_nothing(bundle_file, tmp_path, manifest, message):
    changed(manifest, bundle_file)
    with pytest.raises(UserError, match=message):
        offline_bundle.install(bundle_file)
    assert not everything(tmp_path / "cache") and not (tmp_path / "cargo").exists()


def test_wheels_for_another_python_are_ignored(bundle_file, tmp_path, capsys):
    changed({"python": ["2.6", "2.7"]}, bundle_file)
    offline_bundle.install(bundle_file)
    assert "has packages for Python 2.6, 2.7" in capsys.readouterr().out
    assert len(everything(tmp_path / "cache")) == 4


def test_requirements_match_the_python_version():
    """The lock file has markers for versions, whichever Python runs the test."""
    older, newer = (
        offline_bundle.requirements_for(venv.REQUIREMENTS, python) for python in ("3.11", "3.14")
    )
    assert "\noverrides==" in older and "\noverrides==" not in newer
    for needed in (older, newer):
        assert needed.count("\nsoupsieve==") == 1
        assert "pywinpty" not in needed and ";" not in needed
        assert needed.count("--hash=") > 100 and needed.count("==") < needed.count("--hash=")


def test_wheels_of_a_bundle_are_used_only_for_their_python(tmp_path, monkeypatch):
    monkeypatch.setenv("WEARABLE_CACHE_DIR", str(tmp_path))
    assert venv.wheel_options() == ()
    wheels = venv.wheels()
    wheels.mkdir()
    lock, other = venv.REQUIREMENTS, offline_bundle.FOR_TESTS[0]
    this = venv.python_version()
    (wheels / venv.WHEEL_INDEX).write_text(f"{offline_bundle.digest(lock)} 2.7\nother {this}\n")
    assert venv.wheel_options() == ()
    (wheels / venv.WHEEL_INDEX).write_text(f"old {this}\n{offline_bundle.digest(lock)} {this}\n")
    assert venv.wheel_options() == ("--no-index", "--find-links", wheels)
    assert venv.wheel_options(other) == ()


@pytest.fixture
def no_rust(tmp_path, monkeypatch):
    """A machine with zstd and without Rust."""
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "zstd").symlink_to(shutil.which("zstd"))
    monkeypatch.setenv("PATH", str(programs))
    monkeypatch.setenv("RUSTUP_HOME", str(tmp_path / "rustup"))
    monkeypatch.delenv("RUSTUP_TOOLCHAIN", raising=False)


def test_bundle_can_include_the_toolchain(tmp_path, monkeypatch, no_rust):
    rustc = f"toolchains/{toolchain.toolchain().name}/bin/rustc"
    made = {rustc: b"#!/bin/sh\n", rustc.replace("rustc", "cargo"): b"#!/bin/sh\n"}
    packed = write(made, tmp_path, monkeypatch)
    assert not toolchain.has_rust()
    offline_bundle.install(packed)
    assert (tmp_path / "rustup" / rustc).is_file()
    # Without rustup, the toolchain is found in its folder.
    assert toolchain.has_rust() and shutil.which("cargo").startswith(str(tmp_path / "rustup"))


def test_bundle_without_rust_is_rejected_if_rust_is_missing(bundle_file, tmp_path, no_rust):
    with pytest.raises(UserError, match="Rust is not installed, and packed"):
        offline_bundle.install(bundle_file)
    assert not everything(tmp_path / "cache")


def expands_to_the_same(damaged: bytes, content: bytes) -> bool:
    expanded = subprocess.run(offline_bundle.EXPAND, input=damaged, capture_output=True)
    return expanded.returncode == 0 and expanded.stdout == content


def test_corrupted_bundle_changes_nothing(bundle_file, tmp_path):
    whole = bundle_file.read_bytes()
    content = subprocess.run(
        offline_bundle.EXPAND, input=whole, check=True, capture_output=True
    ).stdout
    ends = [whole[: len(whole) * n // 20] for n in range(20)]
    # The last bytes are zstd's own checksum, after all files.
    places = [*range(0, len(whole), 37), len(whole) - 1]
    turned = [bytes([*whole[:n], whole[n] ^ 1, *whole[n + 1 :]]) for n in places]
    for damaged in (*ends, whole[:-1], *turned, b"", b"not a bundle"):
        bundle_file.write_bytes(damaged)
        if expands_to_the_same(damaged, content):
            continue  # a bit without effect, for example in the padding of a compressed block
        with pytest.raises(UserError, match=r"corrupted|not an offline bundle"):
            offline_bundle.install(bundle_file)
        assert not everything(tmp_path / "cache"), len(damaged)
    with pytest.raises(UserError, match="does not exist"):
        offline_bundle.install(tmp_path / "none")


def archive(packed: Path, manifest: object, *members: tuple[tarfile.TarInfo, bytes]) -> None:
    """Write a bundle with these members after a manifest."""
    tarred = packed.parent / "made.tar"
    with tarfile.open(tarred, "w") as tar:
        text = manifest if isinstance(manifest, bytes) else json.dumps(manifest).encode()
        for member, content in ((tarfile.TarInfo(offline_bundle.MANIFEST), text), *members):
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    subprocess.run(["zstd", "-q", "-f", "-o", packed, tarred], check=True)


def manifest_for(files: dict[str, bytes]) -> dict:
    return {
        "format": offline_bundle.FORMAT,
        "key": caches.dependencies_key(),
        "platform": toolchain.host(),
        "rustc": toolchain.rustc_version(),
        "glibc": "2.2",
        "python": ["3.11"],
        "files": {name: hashlib.sha256(content).hexdigest() for name, content in files.items()},
    }


def member(name: str, kind: bytes = tarfile.REGTYPE, **settings) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.mtime = kind, 1_000_000_000
    for setting, value in settings.items():
        setattr(made, setting, value)
    return made


PROGRAM = "evcxr_jupyter-0.22.0/bin/evcxr_jupyter"


@pytest.mark.parametrize(
    "name",
    [
        "../outside",
        "dependencies-01-02/../../outside",
        "/tmp/outside-of-a-bundle",
        "dependencies-01-02//tmp/outside",
        "./dependencies-01-02/a",
        "dependencies-01-02/./a",
        "outside",
        "uv/archive-v0/a.py",
        "pip/http/a",
        ".dependencies.lock",
        ".bundle.staging/a",
        "dependencies-01-02",
        "manifest.json/a",
        "dependencies-01-02-03x/a",
        "",
    ],
)
def test_file_outside_the_known_folders_is_rejected(bundle_file, tmp_path, name):
    archive(bundle_file, manifest_for({name: b"evil"}), (member(name), b"evil"))
    before = {path.name for path in tmp_path.iterdir()}
    with pytest.raises(UserError, match="truncated or corrupted"):
        offline_bundle.install(bundle_file)
    assert not everything(tmp_path / "cache")
    assert not Path("/tmp/outside-of-a-bundle").exists()
    assert {path.name for path in tmp_path.iterdir()} - before <= {"cache"}


@pytest.mark.parametrize(
    "kind, target",
    [
        (tarfile.SYMTYPE, "/etc/passwd"),
        (tarfile.SYMTYPE, "../../../outside"),
        (tarfile.LNKTYPE, "/etc/passwd"),
        (tarfile.LNKTYPE, offline_bundle.MANIFEST),
        (tarfile.CHRTYPE, ""),
        (tarfile.BLKTYPE, ""),
        (tarfile.FIFOTYPE, ""),
        (tarfile.DIRTYPE, ""),
    ],
)
def test_links_and_devices_are_rejected(bundle_file, tmp_path, kind, target):
    made = member(PROGRAM, kind, linkname=target, devmajor=1, devminor=3, mode=0o4777)
    archive(bundle_file, manifest_for({PROGRAM: b""}), (made, b""))
    with pytest.raises(UserError, match="truncated or corrupted"):
        offline_bundle.install(bundle_file)
    assert not everything(tmp_path / "cache")
    # The manifest itself cannot be a link, either.
    archive(bundle_file, b"{}")
    with tarfile.open(bundle_file.parent / "link.tar", "w") as tar:
        tar.addfile(member(offline_bundle.MANIFEST, kind, linkname=target))
    subprocess.run(
        ["zstd", "-q", "-f", "-o", bundle_file, bundle_file.parent / "link.tar"], check=True
    )
    with pytest.raises(UserError, match="is not an offline bundle of this project"):
        offline_bundle.install(bundle_file)


@pytest.mark.parametrize("umask", [0o000, 0o002, 0o022, 0o077])
def test_owners_and_permissions_in_the_archive_are_ignored(bundle_file, tmp_path, umask):
    """Whatever the umask, only this user can change the cache."""
    text = "dependencies-01-02/debug/a.rlib"
    files = {PROGRAM: b"a program", text: b"compiled"}
    given = {"uid": 4242, "gid": 4242, "uname": "nobody", "gname": "nogroup"}
    before = os.umask(umask)
    try:
        archive(
            bundle_file,
            manifest_for(files),
            (member(PROGRAM, mode=0o6777, **given), files[PROGRAM]),
            (member(text, mode=0o666, **given), files[text]),
        )
        offline_bundle.install(bundle_file)
    finally:
        os.umask(before)
    cache = tmp_path / "cache"
    assert trust.find_fault(cache) is None
    assert all(path.stat().st_uid == os.geteuid() for path in cache.rglob("*"))
    # WEARABLE_CACHE_DIR names the cache, so other users may read it.
    assert (cache / PROGRAM).stat().st_mode & 0o7777 == 0o755
    assert (cache / text).stat().st_mode & 0o7777 == 0o644
    assert (cache / text).parent.stat().st_mode & 0o7777 == 0o755
    assert (cache / text).stat().st_mtime == 1_000_000_000


@pytest.mark.parametrize(
    "manifest",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"7",
        b"\xff\xfe",
        b"[" * 100_000,
        *({"files": value} for value in ([], None, "a", {PROGRAM: 7})),
        *({name: 7} for name in ("key", "platform", "glibc", "python", "rustc")),
        {"files": {"wheels-01/a": "0", "wheels-01/a/b": "0"}},
    ],
)
def test_invalid_manifest_is_rejected(bundle_file, tmp_path, manifest):
    if isinstance(manifest, dict):
        manifest = manifest_for({PROGRAM: b"a program"}) | manifest
    archive(bundle_file, manifest, (member(PROGRAM), b"a program"))
    with pytest.raises(UserError, match="truncated or corrupted"):
        offline_bundle.install(bundle_file)
    assert not everything(tmp_path / "cache")


def test_duplicate_file_in_an_archive_is_rejected(bundle_file, tmp_path):
    twice = [(member(PROGRAM), b"a program"), (member(PROGRAM), b"another")]
    archive(bundle_file, manifest_for({PROGRAM: b"a program"}), *twice)
    with pytest.raises(UserError, match="truncated or corrupted"):
        offline_bundle.install(bundle_file)
    assert not everything(tmp_path / "cache")


def test_full_disk_is_not_reported_as_a_corrupted_bundle(
    bundle_file, tmp_path, monkeypatch, capsys
):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "some file")

    monkeypatch.setattr(offline_bundle, "extract", full)
    assert entry_point.exit_code(lambda: offline_bundle.install(bundle_file)) == 1
    assert "No space left on device: some file. Free some disk space" in capsys.readouterr().err
    assert not everything(tmp_path / "cache")


def test_broken_toolchain_at_the_destination_is_reported(tmp_path, monkeypatch, no_rust):
    packed = write(
        {f"toolchains/{toolchain.toolchain().name}/bin/rustc": b""}, tmp_path, monkeypatch
    )
    toolchain.toolchain().mkdir(parents=True)
    with pytest.raises(UserError, match=r"exists, but does not work\. Run: rm -rf"):
        offline_bundle.install(packed)
    assert not list(toolchain.toolchain().iterdir())


def test_folder_on_another_disk_is_moved_atomically(tmp_path, monkeypatch):
    monkeypatch.setattr(offline_bundle, "same_disk", lambda *_: False)
    source = tmp_path / "source"
    (source / "deep").mkdir(parents=True)
    (source / "deep/file").write_text("content")
    offline_bundle.move(source, tmp_path / "destination" / "toolchain")
    assert everything(tmp_path / "destination") == {"toolchain/deep/file": b"content"}
    offline_bundle.merge(source, tmp_path / "registry")
    assert everything(tmp_path / "registry") == {"deep/file": b"content"}


def test_file_name_has_platform_and_key():
    assert (
        toolchain.host() in offline_bundle.name()
        and caches.dependencies_key() in offline_bundle.name()
    )
