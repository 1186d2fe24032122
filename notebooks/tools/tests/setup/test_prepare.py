"""The cache of compiled dependencies, with a workspace that compiles in seconds."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from wearable_jupyter.setup import layout

MANIFEST = """\
[workspace]
members = ["crates/*"]
exclude = ["target"]
resolver = "3"

[workspace.package]
version = "0.1.0"
edition = "2024"
rust-version = "1.95"
license = "MIT"
publish = false

[profile.dev]
opt-level = 2
debug = false
strip = "debuginfo"
rpath = true
panic = "unwind"
"""
LIBRARY = """\
[package]
name = "wearable_demo"
version = "0.1.0"
edition = "2024"

[lib]
crate-type = ["rlib", "dylib"]

[dependencies]
dependency = {{ path = "{dependency}" }}
"""
DEPENDENCY = '[package]\nname = "dependency"\nversion = "1.0.0"\nedition = "2024"\n'


class Clone:
    """A clone in miniature: our tools, and a workspace of one library with one dependency."""

    def __init__(self, root: Path, dependency: Path, cache: Path) -> None:
        self.root, self.cache = root, cache
        for source in ("notebooks/tools/src", "crates/kernel_cargo"):
            shutil.copytree(layout.ROOT / source, root / source)
        for file in (".cargo/config.toml", "rust-toolchain.toml"):
            (root / file).parent.mkdir(exist_ok=True)
            shutil.copy(layout.ROOT / file, root / file)
        (root / "Cargo.toml").write_text(MANIFEST)
        library = root / "crates/wearable_demo"
        (library / "src").mkdir(parents=True)
        (library / "Cargo.toml").write_text(LIBRARY.format(dependency=dependency))
        (library / "src/lib.rs").write_text("pub use dependency::answer;\n")
        subprocess.run(["cargo", "generate-lockfile", "--offline", "--quiet"], cwd=root, check=True)

    def optimise_less(self) -> None:
        """Another profile of dependencies, and so another key."""
        file = self.root / ".cargo/config.toml"
        before = file.read_text()
        file.write_text(before.replace("opt-level = 3", "opt-level = 1"))
        assert file.read_text() != before

    def command(self) -> dict:
        environment = {
            "PYTHONPATH": str(self.root / "notebooks/tools/src"),
            "XDG_CACHE_HOME": str(self.cache.parent),
        }
        return {
            "args": [sys.executable, "-m", "wearable_jupyter", "setup"],
            "env": os.environ | environment,
            "cwd": self.root,
        }

    def setup(self) -> str:
        """Run `setup`; what it printed."""
        result = subprocess.run(
            **self.command(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        assert result.returncode == 0, result.stdout
        return result.stdout

    def used(self) -> Path:
        """The folder of the cache that a kernel's cells are compiled with."""
        name = (self.root / "target/kernel-template/.dependencies").read_text()
        return self.cache / name


@pytest.fixture
def clone(tmp_path):
    """Make clones that share a cache, which holds the kernel's binary already."""
    cache = tmp_path / "cache" / "wearable_demo"
    binary = layout.evcxr().parent.parent
    cache.mkdir(parents=True)
    (cache / binary.name).symlink_to(binary)
    dependency = tmp_path / "dependency"
    (dependency / "src").mkdir(parents=True)
    (dependency / "Cargo.toml").write_text(DEPENDENCY)
    (dependency / "src/lib.rs").write_text("pub fn answer() -> u32 { 42 }\n")
    return lambda name: Clone(tmp_path / name, dependency, cache)


def compiles_dependency(printed: str) -> bool:
    return re.search(r"Compiling dependency v1", printed) is not None


def folders(cache: Path) -> set[Path]:
    return set(cache.glob("dependencies-*"))


def test_dependencies_are_compiled_once_for_all_clones_and_anew_for_another_key(clone):
    one, two = clone("one"), clone("two")
    printed = one.setup()
    assert "Compiling polars and some" in printed and compiles_dependency(printed)
    first = one.used()
    assert folders(one.cache) == {first}
    assert "Compiling" not in one.setup()

    printed = two.setup()
    assert "Taking the compiled dependencies from the cache" in printed
    assert not compiles_dependency(printed)
    assert two.used() == first

    # A stale key: compiled anew, with progress; the other clone's stay.
    two.optimise_less()
    printed = two.setup()
    assert "Compiling polars and some" in printed and compiles_dependency(printed)
    second = two.used()
    assert folders(two.cache) == {first, second} and first != second
    assert not compiles_dependency(one.setup())

    # What no clone has used for long is deleted, and is compiled again for one that wants it.
    long_ago = time.time() - 31 * 24 * 3600
    os.utime(first, (long_ago, long_ago))
    two.setup()
    assert folders(two.cache) == {second}
    assert one.setup()
    assert folders(two.cache) == {first, second}


def test_a_setup_that_is_killed_leaves_nothing_that_is_taken_for_whole(clone):
    one = clone("one")
    build = one.root.parent / "dependency/build.rs"
    build.write_text("fn main() { std::thread::sleep(std::time::Duration::from_secs(600)) }\n")
    killed = subprocess.Popen(
        **one.command(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
    )
    lines = iter(killed.stdout.readline, b"")
    assert any(b"Compiling dependency" in line for line in lines)
    time.sleep(1)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.wait()
    killed.stdout.close()
    assert not folders(one.cache)

    # One that was killed while it copied into the cache.
    half = one.cache / ".dependencies.staging" / "dependencies-half"
    half.mkdir(parents=True)
    build.unlink()
    assert compiles_dependency(one.setup())
    assert folders(one.cache) == {one.used()} and not half.parent.exists()


def test_a_build_script_that_runs_again_in_a_clone_changes_nothing_in_the_cache(clone):
    """Some look for a variable such as RUSTC_BOOTSTRAP, and leave other files if it is set."""
    one = clone("one")
    (one.root.parent / "dependency/build.rs").write_text(
        "fn main() {\n"
        '    println!("cargo:rerun-if-env-changed=PROBED");\n'
        '    let probed = std::env::var("PROBED").unwrap_or_default();\n'
        '    let out = std::path::PathBuf::from(std::env::var("OUT_DIR").unwrap());\n'
        '    std::fs::write(out.join("probed"), probed).unwrap();\n'
        "}\n"
    )
    one.setup()

    def left() -> dict[Path, bytes]:
        files = (path for path in one.used().rglob("*") if path.is_file())
        return {path: path.read_bytes() for path in files if "build" in path.parts}

    before = left()
    assert any(path.name == "probed" for path in before)
    shutil.rmtree(one.root / "target")
    one.setup()  # takes them from the cache
    command = one.command() | {"args": ["cargo", "build", "--workspace", "--quiet"]}
    command["env"] |= {"PROBED": "1", "RUSTFLAGS": layout.RUSTFLAGS}
    subprocess.run(**command, check=True)
    made = [p.read_text() for p in (one.root / "target").rglob("probed") if "build" in p.parts]
    assert "1" in made
    assert left() == before
