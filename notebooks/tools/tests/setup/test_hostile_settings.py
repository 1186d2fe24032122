"""Results do not depend on the settings of a shell, an IDE, CI or a user's home.

A passing and a failing notebook run under each setting, with the README's command. Output, exit
status and executed notebooks must be the same as without the setting. `./justw test-long`, and CI
every week, test each setting alone, which takes long. `./justw test` tests many settings at once.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest

from wearable_jupyter.runner.clean import KERNELSPEC
from wearable_jupyter.setup import caches, paths, toolchain

PASSES = (
    'use wearable_demo::prelude::*;\nprintln!("loaded");',
    'let frame = df!["x" => [1i64, 2, 3]]?;\nframe',
    'let total = frame.column("x")?.i64()?.sum();\nprintln!("{total:?} ü");',
    'ensure(total == Some(6), "the sum is six")?;',
)
FAILS = (
    'use wearable_demo::prelude::*;\nprintln!("loaded");',
    'ensure(1 == 2, "one is two")?;',
    'println!("it runs on");',
)


def write(folder: Path, root: Path) -> list[Path]:
    """The two notebooks, for the clone in `root`."""
    library = paths.toml_string(root / "crates" / paths.CRATE)
    found = []
    for name, sources in (("passes", PASSES), ("fails", FAILS)):
        load = f":dep {paths.CRATE} = {{ path = {library} }}"
        notebook = nbformat.v4.new_notebook(metadata={"kernelspec": KERNELSPEC})
        for number, source in enumerate((load, *sources)):
            notebook.cells.append(nbformat.v4.new_code_cell(source, id=f"cell-{number}"))
        found.append(folder / f"{name}.ipynb")
        nbformat.write(notebook, found[-1])
    return found


def result(root: Path, notebooks: list[Path], variables: dict[str, str], **options) -> dict:
    """The output of `./justw run` without times and paths, its exit status, and cells' outputs."""
    ran = subprocess.run(
        [root / "justw", "run", *notebooks],
        env={name: value for name, value in variables.items() if value is not None},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        **options,
    )
    printed = ran.stdout.decode()
    executed = [root / line.strip() for line in printed.splitlines() if line.endswith(".ipynb")]
    outputs = {}
    for path in (path for path in executed if path.is_file()):
        read = nbformat.read(path, as_version=4)
        outputs[path.stem] = [
            [{k: v for k, v in output.items() if k != "metadata"} for output in cell.outputs]
            for cell in read.cells
        ]
    text = printed.replace(str(notebooks[0].parent), "FOLDER").replace(str(root), "CLONE")
    text = re.sub(r"\d+\.\d|\d+ s\b", "TIME", text)
    text = re.sub(r"(?m)[ \t-]+", " ", text)
    text = re.sub(r"\d+ \(cell \d+\), TIME s", "the slowest cell", text).splitlines()
    return {"status": ran.returncode, "text": text, "outputs": json.loads(json.dumps(outputs))}


@pytest.fixture(scope="module")
def plain(small_data) -> dict[str, str]:
    """The environment without a hostile setting."""
    wanted = ("PATH", "HOME", "CARGO_HOME", "RUSTUP_HOME", "XDG_CACHE_HOME", "WEARABLE_CACHE_DIR")
    given = {name: os.environ[name] for name in wanted if name in os.environ}
    network = re.compile("(?i).*_proxy$|ssl_cert|^pip_(cert|index|find)|^cargo_(http|source)|^ci$")
    given |= {name: value for name, value in os.environ.items() if network.match(name)}
    return given | {"WEARABLE_DATA_DIR": str(small_data), "LANG": "C.UTF-8"}


@pytest.fixture(scope="module")
def expected(plain, tmp_path_factory) -> dict:
    folder = tmp_path_factory.mktemp("plain")
    found = result(paths.ROOT, write(folder, paths.ROOT), plain)
    text = "\n".join(found["text"])
    assert found["status"] == 1, text
    assert "1 of 2 notebooks passed" in text and "one is two" in text
    assert set(found["outputs"]) == {"passes", "fails"}, text
    passed, failed = found["outputs"]["passes"], found["outputs"]["fails"]
    assert "Some(6) ü" in json.dumps(passed, ensure_ascii=False)
    assert "✓" in json.dumps(passed, ensure_ascii=False)
    assert failed[-1] == []
    return found


def stock_kernel(folder: Path) -> Path:
    """A kernel named `rust` that runs nothing and reports success for every cell."""
    spec = folder / "kernels" / "rust"
    spec.mkdir(parents=True)
    module = folder / "stock.py"
    module.write_text(
        "from ipykernel.kernelapp import IPKernelApp\n"
        "from ipykernel.kernelbase import Kernel\n"
        "class Stock(Kernel):\n"
        "    implementation = 'stock'\n    implementation_version = '0'\n    banner = ''\n"
        "    language_info = {'name': 'Rust', 'mimetype': 'text/rust', 'file_extension': '.rs'}\n"
        "    async def do_execute(self, code, silent, *_, **__):\n"
        "        return {'status': 'ok', 'execution_count': self.execution_count}\n"
        "IPKernelApp.launch_instance(kernel_class=Stock)\n"
    )
    argv = [sys.executable, str(module), "-f", "{connection_file}"]
    kernel = {"argv": argv, "display_name": "Rust", "language": "rust"}
    (spec / "kernel.json").write_text(json.dumps(kernel))
    return folder


def module_that_fails(folder: Path) -> Path:
    """Python modules that must not be imported."""
    folder.mkdir(parents=True)
    for name in ("json", "zmq", "nbformat", "sitecustomize", "wearable_jupyter"):
        (folder / f"{name}.py").write_text(f"raise SystemExit('a foreign {name} was imported')\n")
    return folder


def programs(folder: Path, *names: str) -> Path:
    """Programs that fail."""
    folder.mkdir(parents=True)
    for name in names:
        (folder / name).write_text(f"#!/bin/sh\necho a foreign {name} >&2\nexit 1\n")
        (folder / name).chmod(0o755)
    return folder


def home(folder: Path, plain: dict[str, str]) -> dict[str, str]:
    """A home with hostile configuration files. It uses the same compiled packages."""
    real = Path(plain["HOME"])
    for name, text in {
        ".config/pip/pip.conf": "[global]\nuser = true\ntarget = /no/target\n"
        "[install]\nno-binary = :all:\n",
        ".config/uv/uv.toml": '[pip]\npython-version = "3.8"\n',
        ".jupyter/jupyter_config.json": '{"KernelManager": {"shutdown_wait_time": "x"}}',
        ".jupyter/jupyter_server_config.py": "raise SystemExit('configuration')\n",
        ".jupyter/jupyter_nbconvert_config.py": "raise SystemExit('configuration')\n",
        ".ipython/profile_default/startup/x.py": "raise SystemExit('startup')\n",
        ".config/evcxr/init.evcxr": 'let broken: u8 = "";\n',
        ".config/evcxr.toml": "broken",
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    stock_kernel(folder / ".local/share/jupyter")
    return {
        "HOME": str(folder),
        "CARGO_HOME": plain.get("CARGO_HOME", str(real / ".cargo")),
        "RUSTUP_HOME": plain.get("RUSTUP_HOME", str(real / ".rustup")),
        "XDG_CACHE_HOME": plain.get("XDG_CACHE_HOME", str(real / ".cache")),
    }


def first(folder: Path, plain: dict[str, str]) -> dict[str, str]:
    """Put a folder first on the PATH."""
    return {"PATH": f"{folder}{os.pathsep}{plain['PATH']}"}


# Without the characters in `venv.IMPOSSIBLE`, because setup refuses such paths.
ODD = "a [b] 'c' \"d\" ü$e #f&g=h, i!j`k`(l)~m*n?o|p<q>r\\s"


def odd_directory(tmp: Path, name: str = ODD) -> Path:
    folder = tmp / name
    folder.mkdir()
    return folder


# The effect of each setting by name, on an empty directory and the plain environment.
Setting = Callable[[Path, dict[str, str]], dict[str, str]]
VARIABLES = {
    "CARGO_TERM_COLOR": "always",
    "CLICOLOR_FORCE": "1",
    "NO_COLOR": "1",
    "CARGO_TERM_VERBOSE": "true",
    "CARGO_TERM_QUIET": "true",
    "CARGO_TERM_PROGRESS_WHEN": "always",
    "CARGO_LOG": "debug",
    "RUST_LOG": "trace",
    "RUSTC_LOG": "info",
    "RUSTC_WRAPPER": "",
    "RUSTC_WORKSPACE_WRAPPER": "/no/wrapper",
    "RUSTFLAGS": "--cfg hostile",
    "RUSTDOCFLAGS": "--no-such-flag",
    "CARGO_ENCODED_RUSTFLAGS": "--cfg\x1fhostile",
    "CARGO_BUILD_BUILD_DIR": "/no/build",
    "CARGO_BUILD_TARGET": "wasm32-unknown-unknown",
    "CARGO_BUILD_TARGET_DIR": "/no/target",
    "CARGO_BUILD_RUSTFLAGS": "--cfg hostile",
    "CARGO_BUILD_RUSTC_WRAPPER": "/no/wrapper",
    "CARGO_INCREMENTAL": "0",
    "CARGO_NET_OFFLINE": "true",
    "CARGO_PROFILE_DEV_DEBUG": "2",
    "CARGO_PROFILE_DEV_OPT_LEVEL": "3",
    "CARGO_PROFILE_DEV_PANIC": "abort",
    "CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_LINKER": "/no/linker",
    "CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUSTFLAGS": "--cfg hostile",
    "CARGO": "/no/cargo",
    "RUSTC": "/no/rustc",
    "RUSTDOC": "/no/rustdoc",
    "RUSTC_BOOTSTRAP": "1",
    "RUSTUP_TOOLCHAIN": "nightly",
    "RUST_SRC_PATH": "/no/source",
    "CC": "/no/cc",
    "CFLAGS": "--no-such-flag",
    "MAKEFLAGS": "-j8 --jobserver-auth=98,99",
    "EVCXR_TMPDIR": "/no/tmp",
    "EVCXR_CONFIG_DIR": "/no/config",
    "JUPYTER_CONFIG_DIR": "/no/jupyter",
    "JUPYTER_PREFER_ENV_PATH": "0",
    "JUPYTER_DEFAULT_PROVISIONER_NAME": "no-such-provisioner",
    "JUPYTER_PLATFORM_DIRS": "1",
    "PYTHONHOME": "/no/python",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONOPTIMIZE": "2",
    "PYTHONSAFEPATH": "1",
    "PYTHONSTARTUP": "/no/startup",
    "PYTHONIOENCODING": "ascii",
    "PYTHONWARNINGS": "error",
    "PIP_USER": "1",
    "PIP_TARGET": "/no/target",
    "PIP_REQUIRE_VIRTUALENV": "1",
    "PIP_CONFIG_FILE": "/no/pip.conf",
    "UV_PYTHON": "2.7",
    "UV_OFFLINE": "1",
    "VIRTUAL_ENV": "/no/venv",
    "CONDA_PREFIX": "/no/conda",
    "LC_ALL": "C",
    "LANG": "C",
    "LC_CTYPE": "no_such.locale",
    "TERM": "dumb",
    "CDPATH": "/",
    "GIT_DIR": "/no/.git",
    "GIT_WORK_TREE": "/no",
    "JUST_JUSTFILE": "/no/justfile",
    "TMPDIR": "/no/tmp",
    "HOME": None,
}
SETTINGS: dict[str, Setting] = {
    **{name: lambda tmp, plain, n=name, v=v: {n: v} for name, v in VARIABLES.items()},
    "RUSTC_WRAPPER that fails": lambda tmp, plain: {
        "RUSTC_WRAPPER": str(programs(tmp / "w", "sccache") / "sccache")
    },
    "CARGO_TARGET_DIR": lambda tmp, plain: {"CARGO_TARGET_DIR": str(tmp / "target")},
    "another cargo": lambda tmp, plain: first(programs(tmp / "b", "cargo", "rustc"), plain),
    "another just": lambda tmp, plain: first(programs(tmp / "b", "just"), plain),
    "another Python": lambda tmp, plain: first(programs(tmp / "b", "python3", "pip"), plain),
    "another Jupyter": lambda tmp, plain: first(programs(tmp / "b", "jupyter"), plain),
    "JUPYTER_PATH with a kernel named rust": lambda tmp, plain: {
        "JUPYTER_PATH": str(stock_kernel(tmp / "jupyter"))
    },
    "JUPYTER_DATA_DIR with a kernel named rust": lambda tmp, plain: {
        "JUPYTER_DATA_DIR": str(stock_kernel(tmp / "jupyter"))
    },
    "JUPYTER_RUNTIME_DIR": lambda tmp, plain: {
        "JUPYTER_RUNTIME_DIR": str(odd_directory(tmp, f"{ODD}%{{t}};:u"))
    },
    "PYTHONPATH with foreign modules": lambda tmp, plain: {
        "PYTHONPATH": str(module_that_fails(tmp / "modules"))
    },
    "TMPDIR with odd letters": lambda tmp, plain: {
        "TMPDIR": str(odd_directory(tmp, f"{ODD}%{{t}};:u"))
    },
    "a home with hostile files": lambda tmp, plain: home(tmp / "home", plain),
}
# Settings that once broke something.
QUICK = (
    *("CARGO_TERM_COLOR", "CLICOLOR_FORCE", "RUSTC_WRAPPER", "RUSTFLAGS", "RUSTC"),
    *("CARGO_BUILD_BUILD_DIR", "CARGO_PROFILE_DEV_DEBUG", "CARGO_TARGET_DIR", "RUSTUP_TOOLCHAIN"),
    *("PYTHONPATH with foreign modules", "PYTHONOPTIMIZE", "PIP_USER", "LC_ALL", "TERM"),
    *("another just", "JUPYTER_PATH with a kernel named rust", "TMPDIR with odd letters"),
    "EVCXR_TMPDIR",
)


def test_result_is_the_same_under_all_settings_that_once_broke_it(expected, plain, tmp_path):
    variables = dict(plain)
    for setting in QUICK:
        variables |= SETTINGS[setting](tmp_path, plain)
    notebooks = write(tmp_path, paths.ROOT)
    assert result(paths.ROOT, notebooks, variables, umask=0o002) == expected


@pytest.mark.long
@pytest.mark.parametrize("name", SETTINGS)
def test_result_is_the_same_under_a_setting(name, expected, plain, tmp_path):
    variables = plain | SETTINGS[name](tmp_path, plain)
    assert result(paths.ROOT, write(tmp_path, paths.ROOT), variables) == expected


@pytest.mark.long
@pytest.mark.parametrize("umask", [0o002, 0o077])
def test_result_is_the_same_under_a_umask(umask, expected, plain, tmp_path):
    notebooks = write(tmp_path, paths.ROOT)
    assert result(paths.ROOT, notebooks, plain, umask=umask) == expected


def clone(root: Path) -> Path:
    """A clone with the current files."""
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=paths.ROOT, check=True, capture_output=True).stdout
    for name in filter(None, names.decode().split("\0")):
        if (paths.ROOT / name).is_file():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(paths.ROOT / name, root / name)
    return root


def is_from_cache(root: Path) -> bool:
    """Whether the clone's polars is a link to the compiled one in the cache."""
    found = list((root / "target").glob("*/debug/deps/libpolars_core-*.rlib"))
    cached = caches.compiled_dependencies().glob("*/debug/deps/libpolars_core-*.rlib")
    inodes = {file.stat().st_ino for file in cached}
    return bool(found) and all(file.stat().st_ino in inodes for file in found)


CONFIGURATION = """
[build]
build-dir = "/no/build"
rustc = "/no/rustc"
rustc-wrapper = "/no/sccache"
rustflags = ["--no-such-flag"]
target-dir = "/no/target"
[profile.dev]
debug = 2
panic = "abort"
strip = false
[term]
color = "always"
"""


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_result_is_the_same_in_a_clone_with_an_odd_path(expected, plain, tmp_path):
    """The clone is below a directory with another cargo configuration and another toolchain."""
    folder = odd_directory(tmp_path)
    (folder / ".cargo").mkdir()
    (folder / ".cargo/config.toml").write_text(CONFIGURATION)
    (folder / "rust-toolchain.toml").write_text('[toolchain]\nchannel = "nightly"\n')
    root = clone(folder / "the clone")
    first_time = result(root, write(tmp_path, root), plain)
    assert is_from_cache(root), first_time["text"]
    assert result(root, write(tmp_path, root), plain) == expected
    doctor = subprocess.run([root / "justw", "doctor"], env=plain, capture_output=True, text=True)
    assert doctor.returncode == 0 and "✘" not in doctor.stdout, doctor.stdout


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_result_is_the_same_in_a_home_with_an_odd_path(expected, plain, tmp_path):
    """The home has a copy of the compiled packages, which are not compiled again."""
    folder = odd_directory(tmp_path)
    for name, source in ((".cargo", toolchain.cargo_home()), (".rustup", toolchain.toolchain())):
        if name == ".rustup":
            (folder / name / "toolchains").mkdir(parents=True)
            (folder / name / "toolchains" / source.name).symlink_to(source.resolve())
        else:
            (folder / name).mkdir()
            for part in source.iterdir():
                (folder / name / part.name).symlink_to(part)
    cache = folder / ".cache/wearable_demo"
    cache.parent.mkdir()
    cache.mkdir()
    for source in (caches.compiled_dependencies(), caches.evcxr().parent.parent):
        subprocess.run(["cp", "-al", source, cache], check=True)
    variables = {k: v for k, v in plain.items() if k not in ("CARGO_HOME", "RUSTUP_HOME")}
    variables = {k: v for k, v in variables.items() if k != "XDG_CACHE_HOME"}
    variables["HOME"] = str(folder)
    root = clone(folder / "clone")
    first_time = result(root, write(tmp_path, root), variables)
    assert is_from_cache(root), first_time["text"]
    assert result(root, write(tmp_path, root), variables) == expected
