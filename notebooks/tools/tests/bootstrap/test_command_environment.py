"""Variables that a shell, an IDE or CI sets, and their effect on the programs that we start."""

import os
import re
import subprocess

import pytest

from wearable_jupyter.bootstrap import command_environment
from wearable_jupyter.bootstrap.command_environment import tool_environment, user_environment
from wearable_jupyter.setup import build, cargo_configuration, entry_point, paths, toolchain

# These variables change how cargo, rustc, pip, uv, Python or Jupyter work.
HOSTILE = {
    "CARGO": "/no/cargo",
    "CARGO_BUILD_BUILD_DIR": "/no/build",
    "CARGO_BUILD_JOBS": "1",
    "CARGO_BUILD_RUSTC_WRAPPER": "/no/sccache",
    "CARGO_BUILD_TARGET": "wasm32-unknown-unknown",
    "CARGO_ENCODED_RUSTFLAGS": "--no-such-flag",
    "CARGO_INCREMENTAL": "0",
    "CARGO_LOG": "trace",
    "CARGO_MAKEFLAGS": "-j --jobserver-auth=3,4",
    "CARGO_MANIFEST_DIR": "/no/manifest",
    "CARGO_PROFILE_DEV_DEBUG": "2",
    "CARGO_PROFILE_DEV_PACKAGE_polars_OPT_LEVEL": "0",
    "CARGO_TARGET_DIR": "/no/target",
    "CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_LINKER": "/no/linker",
    "CARGO_TERM_COLOR": "always",
    "CARGO_TERM_VERBOSE": "true",
    "CARGO_UNSTABLE_BUILD_STD": "std",
    "CC": "/no/cc",
    "CFLAGS": "-DNO",
    "CLICOLOR_FORCE": "1",
    "CONDA_PREFIX": "/no/conda",
    "EVCXR_CONFIG_DIR": "/no/config",
    "EVCXR_TMPDIR": "/no/tmp",
    "GIT_DIR": "/no/.git",
    "JUPYTER_CONFIG_DIR": "/no/jupyter",
    "JUPYTER_PATH": "/no/jupyter",
    "MAKEFLAGS": "-j8",
    "NO_COLOR": "1",
    "PYTHONHOME": "/no/python",
    "PYTHONPATH": "/no/python",
    "RUSTC": "/no/rustc",
    "RUSTC_BOOTSTRAP": "1",
    "RUSTC_LOG": "trace",
    "RUSTC_WORKSPACE_WRAPPER": "/no/clippy",
    "RUSTC_WRAPPER": "",
    "RUSTDOC": "/no/rustdoc",
    "RUSTDOCFLAGS": "--no-such-flag",
    "RUSTFLAGS": "--no-such-flag",
    "RUSTUP_TOOLCHAIN": "1.0.0",
    "RUST_SRC_PATH": "/no/src",
    "VIRTUAL_ENV": "/no/venv",
}
# Variables for the network, and for the folders of tools.
NETWORK = {
    "ALL_PROXY": "socks5://proxy",
    "CARGO_HOME": "/cargo",
    "CARGO_HTTP_CAINFO": "/ca.pem",
    "CARGO_NET_GIT_FETCH_WITH_CLI": "true",
    "CARGO_REGISTRIES_MINE_TOKEN": "secret",
    "CARGO_SOURCE_MIRROR_REGISTRY": "sparse+file:///mirror/",
    "HTTPS_PROXY": "http://proxy",
    "RUSTUP_DIST_SERVER": "file:///mirror",
    "RUSTUP_HOME": "/rustup",
    "SSL_CERT_FILE": "/ca.pem",
    "no_proxy": "localhost",
}
FOR_PIP = {
    "PIP_CERT": "/ca.pem",
    "PIP_CONFIG_FILE": "/etc/pip.conf",
    "PIP_INDEX_URL": "file:///mirror",
    "UV_DEFAULT_INDEX": "file:///mirror",
    "UV_INDEX_MINE_PASSWORD": "secret",
}
USERS = {
    "AWS_SECRET_ACCESS_KEY": "secret",
    "DATABASE_URL": "postgres://me",
    "MY_ACC": "1",
    "RUST_LOG": "info",
    "TARGETS": "1",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_variable_reaches_neither_tools_nor_kernels(name):
    assert name not in user_environment({name: HOSTILE[name]})
    assert name not in tool_environment({name: HOSTILE[name]})


def test_networks_and_credentials_stay():
    for given, environment in (
        (NETWORK | FOR_PIP, tool_environment(NETWORK | FOR_PIP)),
        (NETWORK | USERS, user_environment(NETWORK | USERS)),
    ):
        assert given.items() <= environment.items()
    assert not USERS.keys() & tool_environment(USERS).keys()
    # Our commands first reduce their environment, and then start tools.
    assert (NETWORK | FOR_PIP).items() <= user_environment(NETWORK | FOR_PIP).items()
    assert "UV_PYTHON" not in tool_environment({"UV_PYTHON": "2.7"})


def test_commands_reduce_their_own_environment(monkeypatch):
    for name, value in (HOSTILE | USERS).items():
        monkeypatch.setenv(name, value)
    assert entry_point.exit_code(lambda: 3) == 3
    assert not HOSTILE.keys() & os.environ.keys() and os.environ.keys() >= USERS.keys()


@pytest.mark.parametrize("name", ["PIP_USER", "PIP_TARGET", "PIP_REQUIRE_VIRTUALENV", "PIP_PREFIX"])
def test_pip_installs_into_the_given_target(name):
    assert tool_environment({name: "/elsewhere"})[name] in ("", "0")


def test_missing_home_path_or_temporary_directory_is_replaced(tmp_path):
    environment = tool_environment({"HOME": "", "TMPDIR": str(tmp_path / "gone")})
    assert environment["HOME"] == os.path.expanduser("~") and environment["PATH"] == os.defpath
    assert "TMPDIR" not in environment
    spaced = tmp_path / "with a space"
    spaced.mkdir()
    assert tool_environment({"TMPDIR": str(spaced)})["TMPDIR"] == str(spaced)


def test_every_variable_that_a_build_script_reads_is_kept_out_of_kernels():
    """With another value, cargo would compile the package again, and polars after it."""
    outputs = [
        *paths.TARGET.glob("*/debug/build/*/output"),
        *paths.TARGET.glob("debug/build/*/output"),
    ]
    reported = re.findall(
        r"^cargo::?rerun-if-env-changed=(.+)$",
        "\n".join(file.read_text(errors="replace") for file in outputs),
        re.MULTILINE,
    )
    set_by_cargo = ("OUT_DIR", "HOST", "TARGET")
    names = set(reported) - set(set_by_cargo)
    assert "CC" in names
    read = {
        n for n in names if not command_environment.matches(n, command_environment.NOT_FOR_KERNELS)
    }
    assert not read


@pytest.fixture
def package(tmp_path):
    """Run cargo, in our environment, on a package below a directory with a configuration."""
    folder = tmp_path / "above" / "package"
    (folder / "src").mkdir(parents=True)
    (folder / "Cargo.toml").write_text(
        '[package]\nname = "some"\nversion = "1.0.0"\nedition = "2024"\n'
    )
    (folder / "src/lib.rs").write_text("")
    (tmp_path / "above/.cargo").mkdir()

    def compile_with(configuration: str = "") -> str:
        (tmp_path / "above/.cargo/config.toml").write_text(configuration)
        environment = build.cargo_variables({"CARGO_TARGET_DIR": str(tmp_path / "target")})
        command = ["cargo", "build", "--offline", "-v"]
        result = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True
        )
        assert result.returncode == 0, result.stderr
        return result.stderr

    return compile_with


CONFIGURATION = """
[build]
build-dir = "/no/build"
rustc = "/no/rustc"
rustc-wrapper = "/no/sccache"
rustflags = ["--no-such-flag"]
target-dir = "/no/target"
[net]
offline = true
[profile.dev]
codegen-units = 1
debug = 2
panic = "abort"
strip = false
[term]
color = "always"
quiet = true
"""


def test_users_cargo_configuration_changes_nothing(package):
    assert "Running `" in package()
    printed = package(CONFIGURATION)
    assert "Fresh some" in printed and "\x1b[" not in printed


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("patch", '[patch.crates-io]\nserde = { path = "/x" }'),
        ("paths", 'paths = ["/x"]'),
        ("profile.dev.package", "[profile.dev.package.polars]\nopt-level = 0"),
        ("profile.dev.build-override", "[profile.dev.build-override]\nopt-level = 3"),
    ],
)
def test_setting_that_no_variable_overrides_is_reported(key, text, tmp_path):
    clone, home = tmp_path / "above/clone", tmp_path / "home/.cargo"
    clone.mkdir(parents=True)
    for folder in (tmp_path / "above/.cargo", home):
        folder.mkdir(parents=True)
        file = folder / "config.toml"
        file.write_text(text)
        message = cargo_configuration.conflict(clone, home)
        assert message and f"`{key}` in {file}" in message and "Move the setting" in message
        file.write_text("[build\n")
        message = cargo_configuration.conflict(clone, home)
        assert message and f"{file} could not be read" in message
        file.write_text('[source.crates-io]\nreplace-with = "mirror"\n' + CONFIGURATION)
        assert cargo_configuration.conflict(clone, home) is None


def test_other_linker_has_another_key(tmp_path):
    home = tmp_path / ".cargo"
    home.mkdir()
    assert cargo_configuration.linkers(tmp_path / "clone", home) == []
    (home / "config.toml").write_text('[target.x86_64-unknown-linux-gnu]\nlinker = "clang"\n')
    assert cargo_configuration.linkers(tmp_path / "clone", home) == [
        "x86_64-unknown-linux-gnu=clang"
    ]


def test_pinned_toolchain_comes_before_another_rust(monkeypatch, tmp_path):
    """For example before Debian's cargo. `rustup override` would affect only rustup's cargo."""
    for name in ("cargo", "rustc"):
        (tmp_path / name).write_text("#!/bin/sh\nexit 1\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    toolchain.rustc.cache_clear()
    toolchain.find_rust()
    assert toolchain.rustc("--version").split()[1] == toolchain.pinned()["channel"]


def test_rust_of_another_version_is_reported():
    assert build.wrong_version("rustc 1.95.0 (abc 2026-04-14)", "1.95.0") is None
    assert build.wrong_version("rustc 1.99.0 (abc 2026-04-14)", "stable") is None
    message = build.wrong_version("rustc 1.85.0 (abc 2025-02-17)", "1.95.0")
    assert message == "Rust 1.95.0 is needed, but the PATH has rustc 1.85.0 (abc 2025-02-17)"
