"""The cache of compiled dependencies, with a workspace that compiles in seconds."""

import json
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
from users import ATTACKER, IS_ROOT, REASON, VICTIM

from wearable_jupyter.kernel import template
from wearable_jupyter.setup import caches, paths, toolchain

MANIFEST = """\
[workspace]
members = ["crates/evcxr_shim", "crates/generic", "crates/wearable_demo"]
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
lto = false
debug-assertions = true
codegen-units = 16
panic = "unwind"
incremental = true
overflow-checks = true

[workspace.dependencies]
proc-macro2 = { version = "1", default-features = false }
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
generic = {{ path = "../generic" }}
"""
GENERIC = '[package]\nname = "generic"\nversion = "0.1.0"\nedition = "2024"\n'
DEPENDENCY = '[package]\nname = "dependency"\nversion = "1.0.0"\nedition = "2024"\n'
# Replaces `crates/evcxr_shim/src/main.rs`, which takes most of a setup's time, by a program that
# runs the real one. It keeps a dependency with a build script in cargo's home.
SHIM_DEPENDENCIES = "[dependencies]\nproc-macro2 = { workspace = true }\n"
SHIM = """\
use std::os::unix::process::CommandExt;

fn main() {
    let mut arguments = std::env::args_os();
    let name = arguments.next().unwrap();
    let error = std::process::Command::new(PROGRAM).arg0(name).args(arguments).exec();
    panic!("{error}");
}
"""
# `setup` without its last step, because the small workspace has no kernel.
SETUP = """
import sys
from wearable_jupyter.kernel import template
from wearable_jupyter.setup import caches, entry_point, paths, toolchain
only = "--dependencies" in sys.argv
code = entry_point.exit_code(template.prepare_dependencies if only else template.prepare)
print("ready" if code == 0 else "not ready")
sys.exit(code)
"""
COMPILED = f"{toolchain.host()}/debug"
# The layout of cargo 1.100, as far as the pinned cargo has it: no `deps/`, one folder per package.
NEW_LAYOUT = "\n[unstable]\nbuild-dir-new-layout = true\n"


class Clone:
    """A small clone: our tools, and a workspace of one library with one dependency.

    With `new_layout`, cargo stores artifacts in other places. The setting stays inside the clone,
    because it changes the fingerprint of all artifacts.
    """

    def __init__(self, root: Path, dependency: Path, cache: Path, new_layout: bool) -> None:
        self.root, self.cache, self.environment = root, cache, {}
        shutil.copytree(paths.ROOT / "notebooks/tools/src", root / "notebooks/tools/src")
        shim = paths.EVCXR_SHIM.relative_to(paths.ROOT)
        for file in (".cargo/config.toml", "rust-toolchain.toml", shim / "src/cell.rs"):
            (root / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(paths.ROOT / file, root / file)
        package = (paths.EVCXR_SHIM / "Cargo.toml").read_text().split("[dependencies]")[0]
        (root / shim / "Cargo.toml").write_text(package + SHIM_DEPENDENCIES)
        program = json.dumps(str(template.program()), ensure_ascii=False)
        (root / shim / "src/main.rs").write_text(SHIM.replace("PROGRAM", program))
        if new_layout:
            self.environment["RUSTC_BOOTSTRAP"] = "1"
            settings = (
                root / "notebooks/tools/src/wearable_jupyter/bootstrap/command_environment.py"
            )
            with settings.open("a") as file:
                file.write('SETTINGS["RUSTC_BOOTSTRAP"] = "1"\n')
            with (root / ".cargo/config.toml").open("a") as config:
                config.write(NEW_LAYOUT)
        (root / "Cargo.toml").write_text(MANIFEST)
        library, generic = root / "crates/wearable_demo", root / "crates/generic"
        for crate in (library, generic):
            (crate / "src").mkdir(parents=True)
        (generic / "Cargo.toml").write_text(GENERIC)
        (generic / "src/lib.rs").write_text("pub fn twice(x: u32) -> u32 { 2 * x }\n")
        (library / "Cargo.toml").write_text(LIBRARY.format(dependency=dependency))
        (library / "src/lib.rs").write_text(
            "pub use dependency::answer;\npub fn double() -> u32 { generic::twice(answer()) }\n"
        )
        # Tests with the names of files that cargo keeps of a build script, and of a dependency.
        (library / "tests").mkdir()
        for name in ("dependency", "out", "output", "root-output", "stderr"):
            (library / f"tests/{name}.rs").write_text("")
        lock = ["cargo", "generate-lockfile", "--offline", "--quiet"]
        subprocess.run(lock, cwd=root, check=True, env=os.environ | self.environment)

    def optimise_less(self) -> None:
        """Change the profile of dependencies, and so KEY."""
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
            "args": [sys.executable, "-c", SETUP],
            "env": os.environ | environment,
            "cwd": self.root,
        }

    def setup(self, *options: str) -> str:
        """Run `setup` and return its output."""
        command = self.command()
        command["args"] += options
        result = subprocess.run(
            **command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        assert result.returncode == 0, result.stdout
        return result.stdout

    def compiled(self, pattern: str) -> list[Path]:
        """The artifacts for this platform, independent of cargo's layout."""
        return below(self.root / "target", pattern)

    def used(self) -> Path:
        """The folder of the cache that a kernel's cells use."""
        name = (self.root / "target/kernel-template/.dependencies").read_text()
        return self.cache / name


def below(folder: Path, pattern: str) -> list[Path]:
    """The artifacts for this platform below a folder like `target/`."""
    return list((folder / COMPILED).rglob(pattern))


# The second layout belongs to a later cargo. Its tests take as long as those of the first.
@pytest.fixture(
    params=[False, pytest.param(True, marks=pytest.mark.long)],
    ids=["layout-of-1.95", "layout-of-1.100"],
)
def clone(request, tmp_path):
    """Create clones that share a cache, which contains the kernel's binary."""
    cache = tmp_path / "cache" / "wearable_demo"
    binary = caches.evcxr().parent.parent
    cache.mkdir(parents=True)
    (cache / binary.name).symlink_to(binary)
    dependency = tmp_path / "dependency"
    (dependency / "src").mkdir(parents=True)
    (dependency / "Cargo.toml").write_text(DEPENDENCY)
    (dependency / "src/lib.rs").write_text("pub fn answer() -> u32 { 42 }\n")
    return lambda name: Clone(tmp_path / name, dependency, cache, request.param)


def compiles_dependency(printed: str) -> bool:
    return re.search(r"^[1-9]\d* packages compiled$", printed, re.MULTILINE) is not None


def folders(cache: Path) -> set[Path]:
    return set(cache.glob("dependencies-*"))


def contents(folder: Path) -> dict[Path, bytes]:
    """The contents of all files in a folder."""
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_dependencies_are_compiled_once_per_key(clone):
    one, two = clone("one"), clone("two")
    printed = one.setup()
    assert "Compiling polars and about" in printed and compiles_dependency(printed)
    first = one.used()
    assert folders(one.cache) == {first}
    assert "Compiling" not in one.setup()

    printed = two.setup()
    assert "Linking the compiled dependencies from the cache" in printed
    assert not compiles_dependency(printed)
    assert two.used() == first
    taken = below(first, "libdependency-*.r*")
    here = two.root / "target"
    assert taken and all(path.samefile(here / path.relative_to(first)) for path in taken)
    # With another KEY, dependencies are compiled again. Those of the other clone stay.
    two.optimise_less()
    printed = two.setup()
    assert "Compiling polars and about" in printed and compiles_dependency(printed)
    second = two.used()
    assert folders(two.cache) == {first, second} and first != second
    assert not compiles_dependency(one.setup())

    # Dependencies that no clone has used for a month are deleted, and compiled again when needed.
    long_ago = time.time() - 31 * 24 * 3600
    os.utime(first, (long_ago, long_ago))
    two.setup()
    assert folders(two.cache) == {second}
    assert one.setup()
    assert folders(two.cache) == {first, second}


def test_dependencies_option_leaves_no_artifacts_of_the_workspace(clone):
    """Sources that are copied later can be older, as in a container image."""
    one = clone("one")
    kept = one.root / "target/kernels/running"
    kept.mkdir(parents=True)
    source = one.root / "crates/wearable_demo/src/lib.rs"
    text = source.read_text()
    source.write_text("")
    assert compiles_dependency(one.setup("--dependencies"))
    assert one.compiled("libdependency-*.rlib")
    assert not list((one.root / "target").rglob("*wearable_demo*"))
    assert kept.is_dir()
    source.write_text(text)
    os.utime(source, (0, 0))
    assert not compiles_dependency(one.setup())
    assert all(b"answer" in made.read_bytes() for made in one.compiled("libwearable_demo.rlib"))
    # A clone that is set up keeps its artifacts.
    one.setup("--dependencies")
    assert list((one.root / "target").rglob("libwearable_demo.rlib"))


# Creates a kernel's directory, compiles a cell with the cached call, and then with cargo.
CELL = """\
import json, subprocess
from wearable_jupyter.kernel import directories, template
directories.prepare()
kernel = directories.create()
project = kernel / "project"
(project / "src").mkdir(parents=True)
(project / "src" / "lib.rs").write_text("pub fn cell() -> u32 { wearable_demo::answer() }")
(project / "Cargo.toml").write_text(template.TEMPLATE.manifest)
call = (kernel / "calls/with_library/command").read_text().split("\\0")
subprocess.run(["env", *call], cwd=project, check=True)
print("cell", (kernel / "calls/with_library/artifact_path").read_text())
directories.link_compiled(kernel)
(project / "src" / "lib.rs").touch()
arguments = template.TEMPLATE.arguments()
result = template.run_cargo(*arguments, cwd=project, quiet=True, CARGO_TARGET_DIR="target")
artifacts = [a for a in map(json.loads, result.stdout.splitlines()) if "fresh" in a]
print("fresh", *sorted(a["target"]["name"] for a in artifacts if a["fresh"]))
print("compiled", *(a["target"]["name"] for a in artifacts if not a["fresh"]))
"""


def test_kernel_starts_from_compiled_dependencies(clone):
    """The cached call compiles a cell without cargo. With cargo, only the cell is compiled."""
    one = clone("one")
    one.setup()
    command = one.command()
    command["args"] = [sys.executable, "-c", CELL]
    result = subprocess.run(**command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    report = dict(line.split(" ", 1) for line in result.stdout.splitlines())
    cell = Path(report["cell"])
    assert cell.stat().st_size and cell.is_relative_to(one.root / "target/kernels")
    assert report["fresh"] == "dependency generic wearable_demo" and report["compiled"] == "ctx"
    # The kernel has its own copy of the library, which an edit does not change.
    kept = next((one.root / "target/kernels").glob("*/library/libwearable_demo.so"))
    before = kept.read_bytes()
    (one.root / "crates/wearable_demo/src/lib.rs").write_text("pub fn other() {}\n")
    one.setup()
    assert kept.read_bytes() == before


def own(clone, pattern: str) -> Path:
    """A compiled library of the workspace itself, not of the kernels' template."""
    files = (file for file in clone.compiled(pattern) if file.parent.name in ("deps", "out"))
    (found,) = {file.resolve(): file for file in files}.values()
    return found


def test_kernels_link_the_libraries_of_the_workspace(clone):
    """An edit of the library is compiled once, in the workspace."""
    one = clone("one")
    one.setup()
    template = one.root / "target/kernel-template/target"
    for edited in ("libgeneric-*.rlib", "libwearable_demo.rlib", "libwearable_demo.so"):
        (linked,) = {file.stat().st_ino for file in below(template, edited)}
        assert linked == own(one, edited).stat().st_ino, edited
    # Cells are compiled without the wrapper that linked the libraries.
    assert "rustc_from_cache" not in (template.parent / "call").read_text()
    source = one.root / "crates/generic/src/lib.rs"
    source.write_text(source.read_text().replace("2 * x", "x + x + 7000"))
    one.setup()
    (linked,) = {file.stat().st_ino for file in below(template, "libgeneric-*.rlib")}
    assert linked == own(one, "libgeneric-*.rlib").stat().st_ino
    # The error of the compiler is shown.
    source.write_text("pub fn twice(x: u32) -> u32 { missing(x) }\n")
    failed = subprocess.run(**one.command(), capture_output=True, text=True)
    assert failed.returncode == 1 and "cannot find function `missing`" in failed.stderr
    assert "Traceback" not in failed.stderr


# Adds the workspace's libraries to the compiled dependencies, as `offline-bundle` does.
BUNDLE = """\
from pathlib import Path
from wearable_jupyter.setup import caches, own_libraries
from wearable_jupyter.setup.build import cargo
own_libraries.bundle(cargo, caches.compiled_dependencies() / own_libraries.BUNDLED)
"""


@pytest.mark.parametrize("same_home, edited", [(True, False), (False, False), (False, True)])
def test_libraries_in_a_bundle_are_used_if_their_sources_are_unchanged(
    clone, tmp_path, same_home, edited
):
    one = clone("one")
    one.setup()
    command = one.command() | {"args": [sys.executable, "-c", BUNDLE]}
    subprocess.run(**command, check=True)
    bundled = one.used() / "own/link"
    # The library contains the path of its clone, so it is never in a bundle.
    assert {file.name for file in bundled.iterdir()} >= {"generic.rlib", "generic.rmeta"}
    assert not list(bundled.glob("*wearable_demo*"))

    two = clone("two") if same_home else another_user(clone, tmp_path)
    if edited:
        source = two.root / "crates/generic/src/lib.rs"
        source.write_text(source.read_text().replace("2 * x", "x + x"))
        os.utime(source, (0, 0))
    two.setup()
    library = own(two, "libgeneric-*.rlib")
    assert library.samefile(bundled / "generic.rlib") != edited and not library.is_symlink()
    assert "Compiling" not in two.setup()


def test_killed_setup_leaves_no_incomplete_cache(clone):
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
    time.sleep(1)  # the build script runs now
    os.killpg(killed.pid, signal.SIGKILL)
    killed.wait()
    killed.stdout.close()
    assert not folders(one.cache)

    # The folder of a setup that was killed while it copied into the cache.
    partial = one.cache / ".dependencies.staging" / "dependencies-partial"
    partial.mkdir(parents=True)
    build.unlink()
    assert compiles_dependency(one.setup())
    assert folders(one.cache) == {one.used()} and not partial.parent.exists()


def test_build_script_that_runs_again_does_not_change_the_cache(clone):
    """Some build scripts write other files if a variable such as RUSTC_BOOTSTRAP is set."""
    one = clone("one")
    (one.root.parent / "dependency/build.rs").write_text(
        "fn main() {\n"
        '    println!("cargo:rerun-if-env-changed=WEARABLE_PROBED");\n'
        '    let probed = std::env::var("WEARABLE_PROBED").unwrap_or_default();\n'
        '    let out = std::path::PathBuf::from(std::env::var("OUT_DIR").unwrap());\n'
        '    std::fs::write(out.join("probed"), probed).unwrap();\n'
        "}\n"
    )
    one.setup()

    before = contents(one.used())
    assert any(path.name == "probed" for path in before)
    shutil.rmtree(one.root / "target")
    one.setup()  # links them from the cache
    command = one.command() | {"args": ["cargo", "build", "--workspace", "--quiet"]}
    command["env"] |= {"WEARABLE_PROBED": "1", "RUSTFLAGS": toolchain.RUSTFLAGS}
    subprocess.run(**command, check=True)
    outputs = [p.read_text() for p in (one.root / "target").rglob("probed") if "build" in p.parts]
    assert "1" in outputs
    assert contents(one.used()) == before


@pytest.fixture
def first(clone, tmp_path):
    """A clone after setup. Its dependency has a build script."""
    (tmp_path / "dependency/build.rs").write_text(
        "fn main() {\n"
        '    println!("cargo:rustc-cfg=asked");\n'
        '    println!("cargo:rerun-if-changed=build.rs");\n'
        '    let out = std::path::PathBuf::from(std::env::var("OUT_DIR").unwrap());\n'
        '    std::fs::write(out.join("answer"), "42").unwrap();\n'
        "}\n"
    )
    # The library then depends on a file below `target/` and on a variable, and rustc records both.
    (tmp_path / "dependency/src/lib.rs").write_text(
        'pub fn answer() -> u32 { include!(concat!(env!("OUT_DIR"), "/answer")) }\n'
    )
    first = clone("one")
    first.setup()
    return first


def assert_reused(clone, cached: Path) -> None:
    """Assert that the clone uses the cached artifacts and the build script's output."""
    artifacts = below(cached, "libdependency-*.r*")
    assert len(artifacts) >= 3  # a library, its metadata, and the metadata of cargo check
    for path in artifacts:
        own = clone.root / "target" / path.relative_to(cached)
        # A link may lead to a mount of the cache that no longer exists.
        target = Path(os.readlink(own)) if own.is_symlink() else own
        assert target.name == path.name
        assert "shared" in target.parts or target.samefile(path), path
    assert [path.read_text() for path in clone.compiled("answer")] == ["42"]


def another_user(clone, tmp_path, name="two"):
    """A clone of a user with another home of cargo, so that sources have other paths."""
    other = clone(name)
    home = other.root.parent / "home" / ".cargo"
    home.mkdir(parents=True)
    other.environment |= {"CARGO_HOME": str(home)}
    return other


def test_artifacts_of_another_user_are_reused(first, clone, tmp_path):
    other = another_user(clone, tmp_path)
    printed = other.setup()
    assert f"Linking the compiled dependencies from {first.cache}" in printed, printed
    assert_reused(other, first.used())
    assert other.used() != first.used() and folders(first.cache) == {other.used(), first.used()}
    # Afterwards, cargo compiles nothing again, for both users.
    for again in (other.setup(), first.setup()):
        assert "Compiling" not in again and "Taking" not in again


def test_workspace_is_found_at_a_path_with_brackets(tmp_path):
    """cargo treats a pattern in `members` as a pattern of the whole path."""
    root = tmp_path / "a [clone] of *mine?"
    manifests = [path for path in paths.ROOT.glob("crates/*/Cargo.toml") if caches.is_member(path)]
    for manifest in (paths.ROOT / "Cargo.toml", *manifests):
        copied = root / manifest.relative_to(paths.ROOT)
        copied.parent.mkdir(parents=True)
        shutil.copy(manifest, copied)
        (copied.parent / "src").mkdir()
        for source in manifest.parent.glob("src/**/*.rs"):
            empty = copied.parent / source.relative_to(manifest.parent)
            empty.parent.mkdir(parents=True, exist_ok=True)
            empty.touch()
    listing = ["cargo", "metadata", "--no-deps", "--offline", "--format-version=1"]
    listed = subprocess.run(listing, cwd=root, check=True, capture_output=True, text=True)
    members = {package["name"] for package in json.loads(listed.stdout)["packages"]}
    assert members == {manifest.parent.name for manifest in manifests}


# Reads all files, and writes as that user. Needed because the toolchain is in root's home here.
AS_VICTIM = (
    *("setpriv", f"--reuid={VICTIM}", f"--regid={VICTIM}", "--clear-groups"),
    *("--securebits=+no_setuid_fixup", "--inh-caps=-all,+dac_read_search"),
    "--ambient-caps=-all,+dac_read_search",
)


@pytest.mark.skipif(not IS_ROOT, reason=REASON)
@pytest.mark.parametrize("clone", [False], indirect=True)
def test_shared_cache_is_used_only_if_no_other_user_can_change_it(
    first, clone, tmp_path, monkeypatch
):
    other = another_user(clone, tmp_path)
    home = other.root.parent / "home"
    other.environment |= {
        "HOME": str(home),
        "RUSTUP_HOME": str(toolchain.toolchain().parent.parent),
        "WEARABLE_CACHE_DIR": str(first.cache),
        "XDG_CACHE_HOME": str(home / ".cache"),
    }
    for path in (home, *home.rglob("*"), other.root, *other.root.rglob("*")):
        os.chown(path, VICTIM, VICTIM)
    plain = other.command
    monkeypatch.setattr(
        other, "command", lambda: plain() | {"args": [*AS_VICTIM, *plain()["args"]]}
    )
    look = other.command()
    code = (
        "from wearable_jupyter.setup import artifact_cache; print(artifact_cache.find_compatible())"
    )
    look["args"] = [*AS_VICTIM, sys.executable, "-c", code]

    def compatible_cache() -> str:
        return subprocess.run(**look, capture_output=True, text=True, check=True).stdout.strip()

    assert compatible_cache() == str(first.used())
    below = next(path for path in first.used().rglob("deps") if path.is_dir())
    for path in (below, next(below.iterdir()), first.used(), first.cache, tmp_path):
        mode = path.stat().st_mode
        for change in (lambda p: p.chmod(0o777), lambda p: os.chown(p, ATTACKER, 0)):
            change(path)
            assert compatible_cache() == "None", path
            os.chown(path, 0, 0)
            path.chmod(mode)

    printed = other.setup()
    assert f"Linking the compiled dependencies from {first.cache}" in printed, printed
    assert "Ignoring the shared cache" not in printed and "Compiling" not in printed
    taken = list((other.root / "target").rglob("libdependency-*.rlib"))
    assert taken and all(path.is_symlink() or path.stat().st_uid == 0 for path in taken)
    assert "Taking" not in other.setup()
    # The user's own folder contains links to the shared cache, which are checked each time.
    below.chmod(0o777)
    shutil.rmtree(other.root / "target")
    refused = subprocess.run(**other.command(), capture_output=True, text=True)
    assert refused.returncode == 1 and f"{below} can be changed by every user" in refused.stderr


def test_paths_with_special_characters_compile_nothing_again(first, clone, tmp_path):
    """The paths of the clone, of cargo's home and of the cache; the result serves others again."""
    special = tmp_path / 'a space\'s "quotes" [b] #d $HOME & f=g ü \\h'
    other = another_user(clone, tmp_path, f"{special.name}/two")
    # The user's own configuration sets other directories.
    (special / "home/.cargo/config.toml").write_text(
        '[build]\nbuild-dir = "elsewhere"\ntarget-dir = "elsewhere-too"\n'
    )
    other.environment |= {
        "WEARABLE_CACHE_DIR": str(special / "cache"),
        "XDG_CACHE_HOME": str(first.cache.parent),
    }
    # The user can reach the first cache only through this copy.
    shutil.move(first.cache, tmp_path / "kept")
    shutil.copytree(tmp_path / "kept", special / "cache", symlinks=True)
    name = first.used().name
    printed = other.setup()
    assert f"Linking the compiled dependencies from {special / 'cache'}" in printed, printed
    assert_reused(other, special / "cache" / name)
    again = other.setup()
    assert "Compiling" not in again and "Taking" not in again
    assert_reused(other, special / "cache" / name)
    assert not list(special.rglob("elsewhere*"))

    # Reuse with a plain path, after the first user's folder is deleted.
    third = another_user(clone, tmp_path, "plain/three")
    third.cache = special / "cache"
    third.environment |= {"WEARABLE_CACHE_DIR": str(special / "cache")}
    shutil.rmtree(special / "cache" / name)
    printed = third.setup()
    assert f"Linking the compiled dependencies from {special / 'cache'}" in printed, printed
    (cached,) = folders(special / "cache") - {third.used()}
    assert "Compiling" not in third.setup()
    assert_reused(third, cached)


def test_read_only_cache_serves_all_users(first, clone, tmp_path):
    """The mount is read-only, even for root."""
    other = another_user(clone, tmp_path)
    own = tmp_path / "own"
    shared = tmp_path / "shared"
    shared.mkdir()
    other.environment |= {"WEARABLE_CACHE_DIR": str(shared), "XDG_CACHE_HOME": str(own)}
    command = other.command()
    mounts = f"mount --bind {first.cache} {shared} && mount -o remount,bind,ro {shared}"
    unshare = ["unshare", "--mount", "--map-root-user", "sh", "-ec"]
    if subprocess.run([*unshare, mounts], capture_output=True).returncode != 0:
        pytest.skip("this user may not mount a file system")
    command["args"] = [*unshare, f"{mounts} && exec {shlex.join(command['args'])}"]
    before = contents(first.used())
    result = subprocess.run(**command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert result.returncode == 0, result.stdout
    assert f"Linking the compiled dependencies from {shared}" in result.stdout
    assert_reused(other, first.used())
    assert len(folders(own / "wearable_demo")) == 1
    assert not (own / "wearable_demo" / caches.evcxr().parent.parent.name).exists()
    assert contents(first.used()) == before


def test_cache_writable_by_others_is_not_used(first, clone, tmp_path):
    other = another_user(clone, tmp_path)
    first.used().chmod(0o777)
    result = subprocess.run(
        **other.command(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert result.returncode == 0, result.stdout
    message = (
        f"Ignoring the shared cache {first.used()}: {first.used()} can be changed by every user"
    )
    assert message in result.stdout
    assert compiles_dependency(result.stdout)
