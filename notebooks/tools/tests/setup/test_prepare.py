"""The cache of compiled dependencies, with a workspace that compiles in seconds."""

import os
import re
import shlex
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
DEPS = f"{layout.host()}/debug/deps"


class Clone:
    """A clone in miniature: our tools, and a workspace of one library with one dependency."""

    def __init__(self, root: Path, dependency: Path, cache: Path) -> None:
        self.root, self.cache, self.environment = root, cache, {}
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
            **self.environment,
        }
        return {
            "args": [sys.executable, "-m", "wearable_jupyter", "setup"],
            "env": os.environ | environment,
            "cwd": self.root,
        }

    def setup(self, *options: str) -> str:
        """Run `setup`; what it printed."""
        command = self.command()
        command["args"] += options
        result = subprocess.run(
            **command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
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
    return re.search(r"^[1-9]\d* packages compiled$", printed, re.MULTILINE) is not None


def folders(cache: Path) -> set[Path]:
    return set(cache.glob("dependencies-*"))


def contents(folder: Path) -> dict[Path, bytes]:
    """Every file in it."""
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


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
    taken = list((first / DEPS).glob("libdependency-*.r*"))
    assert taken and all(p.samefile(two.root / "target" / DEPS / p.name) for p in taken)
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


def test_dependencies_alone_leave_nothing_of_the_workspace(clone):
    """Its sources may come later and be older, as into an image."""
    one = clone("one")
    kept = one.root / "target/kernels/running"
    kept.mkdir(parents=True)
    source = one.root / "crates/wearable_demo/src/lib.rs"
    text = source.read_text()
    source.write_text("")
    assert compiles_dependency(one.setup("--dependencies"))
    assert list((one.root / "target" / DEPS).glob("libdependency-*.rlib"))
    assert not list((one.root / "target").rglob("*wearable_demo*"))
    assert kept.is_dir()
    source.write_text(text)
    os.utime(source, (0, 0))
    assert not compiles_dependency(one.setup())
    library = one.root / "target" / layout.host() / "debug/libwearable_demo.rlib"
    assert b"answer" in library.read_bytes()
    # In a clone that is set up, nothing is taken away.
    one.setup("--dependencies")
    assert list((one.root / "target").rglob("libwearable_demo.rlib"))


def test_a_setup_that_is_killed_leaves_nothing_that_is_taken_for_whole(clone):
    one = clone("one")
    build = one.root.parent / "dependency/build.rs"
    build.write_text("fn main() { std::thread::sleep(std::time::Duration::from_secs(600)) }\n")
    killed = subprocess.Popen(
        **one.command(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
    )
    lines = iter(killed.stdout.readline, b"")
    assert any(b"Compiling polars" in line for line in lines)
    compiled = one.root / "target/debug"
    while not list(compiled.rglob("build_script_build-*")):
        time.sleep(0.1)
    time.sleep(1)  # its script runs now
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

    before = contents(one.used())
    assert any(path.name == "probed" for path in before)
    shutil.rmtree(one.root / "target")
    one.setup()  # takes them from the cache
    command = one.command() | {"args": ["cargo", "build", "--workspace", "--quiet"]}
    command["env"] |= {"PROBED": "1", "RUSTFLAGS": layout.RUSTFLAGS}
    subprocess.run(**command, check=True)
    made = [p.read_text() for p in (one.root / "target").rglob("probed") if "build" in p.parts]
    assert "1" in made
    assert contents(one.used()) == before


@pytest.fixture
def first(clone, tmp_path):
    """A clone that is set up, and whose dependency has a build script."""
    (tmp_path / "dependency/build.rs").write_text(
        "fn main() {\n"
        '    println!("cargo:rustc-cfg=asked");\n'
        '    println!("cargo:rerun-if-changed=build.rs");\n'
        '    let out = std::path::PathBuf::from(std::env::var("OUT_DIR").unwrap());\n'
        '    std::fs::write(out.join("answer"), "42").unwrap();\n'
        "}\n"
    )
    first = clone("one")
    first.setup()
    return first


def assert_taken(clone, store: Path) -> None:
    """The files that rustc makes are those of the store, and a build script has left the same."""
    made = [path for path in (store / DEPS).glob("libdependency-*.r*")]
    assert len(made) >= 3  # a library, its metadata, and those of cargo check
    for path in made:
        here = clone.root / "target" / DEPS / path.name
        # A link to where the cache was mounted shows where it leads.
        leads_to = Path(os.readlink(here)) if here.is_symlink() else here
        assert leads_to.name == path.name
        assert "shared" in leads_to.parts or leads_to.samefile(path), path
    answers = (clone.root / "target").glob(f"{layout.host()}/debug/build/*/out/answer")
    assert [path.read_text() for path in answers] == ["42"]


def another_user(clone, tmp_path):
    """A clone of somebody whose sources lie elsewhere."""
    other = clone("two")
    home = tmp_path / "home" / ".cargo"
    home.mkdir(parents=True)
    other.environment = {"CARGO_HOME": str(home)}
    return other


def test_what_was_compiled_for_another_user_is_taken(first, clone, tmp_path):
    other = another_user(clone, tmp_path)
    printed = other.setup()
    assert f"Taking the compiled dependencies from {first.cache}" in printed, printed
    assert_taken(other, first.used())
    assert other.used() != first.used() and folders(first.cache) == {other.used(), first.used()}
    # cargo finds everything in order afterwards, and so does the first user.
    for again in (other.setup(), first.setup()):
        assert "Compiling" not in again and "Taking" not in again


def test_a_cache_that_is_only_read_serves_everybody(first, clone, tmp_path):
    """Mounted so that not even root may write there."""
    other = another_user(clone, tmp_path)
    own = tmp_path / "own"
    shared = tmp_path / "shared"
    shared.mkdir()
    other.environment |= {"WEARABLE_CACHE_DIR": str(shared), "XDG_CACHE_HOME": str(own)}
    command = other.command()
    mounts = f"mount --bind {first.cache} {shared} && mount -o remount,bind,ro {shared}"
    unshare = ["unshare", "--mount", "--map-root-user", "sh", "-ec"]
    if subprocess.run([*unshare, mounts], capture_output=True).returncode != 0:
        pytest.skip("this user may not mount anything")
    command["args"] = [*unshare, f"{mounts} && exec {shlex.join(command['args'])}"]
    before = contents(first.used())
    result = subprocess.run(**command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert result.returncode == 0, result.stdout
    assert f"Taking the compiled dependencies from {shared}" in result.stdout
    assert_taken(other, first.used())
    assert len(folders(own / "wearable_demo")) == 1
    assert not (own / "wearable_demo" / layout.evcxr().parent.parent.name).exists()
    assert contents(first.used()) == before


def test_a_cache_that_others_can_change_is_not_used(first, clone, tmp_path):
    other = another_user(clone, tmp_path)
    first.used().chmod(0o777)
    result = subprocess.run(
        **other.command(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert result.returncode == 0, result.stdout
    assert "can be changed by others, so nothing is taken from there" in result.stdout
    assert compiles_dependency(result.stdout)
