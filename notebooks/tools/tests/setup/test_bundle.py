"""Bundles in miniature: what is whole comes into its place, and nothing of what is not.

That the real one sets up another home without a network takes minutes, and was done by hand; see
DESIGN.md.
"""

import json
import os
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

from wearable_jupyter.setup import bundle, environment, layout
from wearable_jupyter.setup.layout import Problem

pytestmark = pytest.mark.skipif(
    shutil.which("zstd") is None and "CI" not in os.environ,
    reason="there is no zstd: sudo apt install zstd",
)


@pytest.fixture
def there(tmp_path, monkeypatch):
    """A bundle of a few files, and a home without anything: its cache and its cargo home."""
    made = {
        "dependencies-0123-4567/debug/deps/liba.rlib": b"compiled" * 1000,
        "evcxr_jupyter-0.22.0/bin/evcxr_jupyter": b"a program",
        "registry/cache/index/a-1.0.0.crate": b"a source",
        "wheels-0123/a.whl": b"a wheel",
    }
    return write(made, tmp_path, monkeypatch)


def write(made: dict[str, bytes], tmp_path, monkeypatch) -> Path:
    """A bundle of these files, and a home without anything."""
    files = {}
    for name, content in made.items():
        files[name] = tmp_path / "from" / name
        files[name].parent.mkdir(parents=True, exist_ok=True)
        files[name].write_bytes(content)
        files[name].chmod(0o755 if "bin" in name.split("/") else 0o644)
    # As compiled programs have it: two names of one file.
    program = next(name for name in made if "/bin/" in name)
    second = str(Path(program).with_name("second"))
    files[second] = tmp_path / "from/second"
    os.link(files[program], files[second])
    packed = tmp_path / "packed.tar.zst"
    bundle.pack(files, "2.2", ["3.11", "3.12"], packed)
    monkeypatch.setenv("WEARABLE_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("CARGO_HOME", str(tmp_path / "cargo"))
    return packed


def everything(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock")
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_a_whole_bundle_comes_into_its_places(there, tmp_path):
    source = tmp_path / "cargo/registry/cache/index/a-1.0.0.crate"
    source.parent.mkdir(parents=True)
    source.write_bytes(b"here already")
    bundle.use(there)
    assert source.read_bytes() == b"here already"
    cache = everything(tmp_path / "cache")
    assert cache.pop("dependencies-0123-4567/debug/deps/liba.rlib") == b"compiled" * 1000
    assert cache.pop("evcxr_jupyter-0.22.0/bin/evcxr_jupyter") == b"a program"
    assert cache.pop("evcxr_jupyter-0.22.0/bin/second") == b"a program"
    assert cache.pop("wheels-0123/a.whl") == b"a wheel"
    assert not cache
    bundle.use(there)  # once more changes nothing
    assert len(everything(tmp_path / "cache")) == 4


def changed(manifest: dict, packed: Path) -> None:
    """Write the bundle anew, with other words in its manifest."""
    folder = packed.parent / "anew"
    folder.mkdir()
    subprocess.run(["sh", "-c", f"zstd -dc {packed} | tar -x -C {folder}"], check=True)
    listed = folder / bundle.MANIFEST
    listed.write_text(json.dumps(json.loads(listed.read_text()) | manifest))
    archive = packed.parent / "anew.tar"
    with tarfile.open(archive, "w") as tar:
        tar.add(listed, bundle.MANIFEST)
        for path in sorted(folder.rglob("*")):
            if path.is_file() and path != listed:
                tar.add(path, str(path.relative_to(folder)))
    subprocess.run(["zstd", "-q", "-f", "-o", packed, archive], check=True)


@pytest.mark.parametrize(
    "manifest, says",
    [
        ({"key": "0"}, "another state of the clone"),
        ({"platform": "riscv64gc-unknown-linux-gnu"}, "another platform"),
        ({"format": 99}, "another version of this project's tools"),
        ({"glibc": "99.1"}, "needs glibc 99.1"),
        ({"files": {}}, "cut off or damaged"),
        ({"files": {"a": "0", "../b": "0"}}, "cut off or damaged"),
    ],
)
def test_a_foreign_bundle_changes_nothing(there, tmp_path, manifest, says):
    changed(manifest, there)
    with pytest.raises(Problem, match=says):
        bundle.use(there)
    assert not everything(tmp_path / "cache") and not (tmp_path / "cargo").exists()


def test_for_another_python_its_packages_come_from_the_network(there, tmp_path, capsys):
    changed({"python": ["2.6", "2.7"]}, there)
    bundle.use(there)
    assert "are for Python 2.6, 2.7" in capsys.readouterr().out
    assert len(everything(tmp_path / "cache")) == 4


def test_each_python_gets_the_packages_it_needs():
    """As the lock has them for it, whichever Python asks."""
    older, newer = (bundle.needed(environment.REQUIREMENTS, python) for python in ("3.11", "3.14"))
    assert "\noverrides==" in older and "\noverrides==" not in newer
    for needed in (older, newer):
        assert needed.count("\nsoupsieve==") == 1
        assert "pywinpty" not in needed and ";" not in needed
        assert needed.count("--hash=") > 100 and needed.count("==") < needed.count("--hash=")


def test_packages_are_taken_from_a_bundle_only_if_they_are_for_this_python(tmp_path, monkeypatch):
    monkeypatch.setenv("WEARABLE_CACHE_DIR", str(tmp_path))
    assert environment.from_wheels() == ()
    wheels = environment.wheels()
    wheels.mkdir()
    lock, other = environment.REQUIREMENTS, bundle.FOR_TESTS[0]
    this = environment.python_version()
    (wheels / environment.LISTED).write_text(f"{bundle.digest(lock)} 2.7\nother {this}\n")
    assert environment.from_wheels() == ()
    (wheels / environment.LISTED).write_text(f"old {this}\n{bundle.digest(lock)} {this}\n")
    assert environment.from_wheels() == ("--no-index", "--find-links", wheels)
    assert environment.from_wheels(other) == ()


@pytest.fixture
def no_rust(tmp_path, monkeypatch):
    """A machine that has zstd and no Rust."""
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "zstd").symlink_to(shutil.which("zstd"))
    monkeypatch.setenv("PATH", str(programs))
    monkeypatch.setenv("RUSTUP_HOME", str(tmp_path / "rustup"))
    monkeypatch.delenv("RUSTUP_TOOLCHAIN", raising=False)


def test_a_bundle_may_bring_the_toolchain(tmp_path, monkeypatch, no_rust):
    rustc = f"toolchains/{layout.toolchain().name}/bin/rustc"
    made = {rustc: b"#!/bin/sh\n", rustc.replace("rustc", "cargo"): b"#!/bin/sh\n"}
    packed = write(made, tmp_path, monkeypatch)
    assert not layout.has_rust()
    bundle.use(packed)
    assert (tmp_path / "rustup" / rustc).is_file()
    # Without rustup, it is found where it lies.
    assert layout.has_rust() and shutil.which("cargo").startswith(str(tmp_path / "rustup"))


def test_without_rust_one_that_does_not_bring_it_is_refused(there, tmp_path, no_rust):
    with pytest.raises(Problem, match="There is no Rust here, and none in"):
        bundle.use(there)
    assert not everything(tmp_path / "cache")


def test_a_damaged_bundle_changes_nothing(there, tmp_path):
    whole = there.read_bytes()
    ends = [whole[: len(whole) * n // 20] for n in range(20)]
    turned = [bytes([*whole[:n], whole[n] ^ 1, *whole[n + 1 :]]) for n in range(0, len(whole), 37)]
    for damaged in (*ends, *turned, b"", b"no bundle at all"):
        there.write_bytes(damaged)
        with pytest.raises(Problem, match=r"damaged|no bundle"):
            bundle.use(there)
        assert not everything(tmp_path / "cache"), len(damaged)
    with pytest.raises(Problem, match="is not there"):
        bundle.use(tmp_path / "none")


def test_its_name_says_what_it_is_for():
    assert layout.host() in bundle.name() and layout.dependencies_key() in bundle.name()
