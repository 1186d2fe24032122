"""The environment variables of the programs that this project starts.

A shell, an IDE or CI sets variables that change how cargo, rustc, pip or Jupyter work. Results must
not depend on them, so this module creates two environments:

- `tool_environment`: for cargo, rustc, rustup, pip and uv. It contains only the variables in
  `FOR_TOOLS` and the project's settings.
- `user_environment`: for kernels, JupyterLab and the project's programs. It contains all variables
  of the user, such as credentials and proxies, except those in `NOT_FOR_KERNELS`. Commands and the
  kernel's launcher reduce their own environment to it first.

Uses the standard library only, and no syntax that Python 3.8 rejects, because `venv.py` imports
this before it has checked Python's version.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path

from . import platform

# Shell patterns of names.
FOR_TOOLS = (
    # The user and the machine.
    *("PATH", "HOME", "USER", "LOGNAME", "SHELL", "TERM", "TZ", "TMPDIR", "XDG_*"),
    # Compilers of module systems and Nix find their libraries through these.
    *(*platform.LIBRARY_PATH_VARIABLES.values(), "SDKROOT", "DEVELOPER_DIR", "NIX_*"),
    # Networks: proxies, certificates, mirrors and credentials.
    *("[Hh][Tt][Tt][Pp]_[Pp][Rr][Oo][Xx][Yy]", "[Hh][Tt][Tt][Pp][Ss]_[Pp][Rr][Oo][Xx][Yy]"),
    *("[Aa][Ll][Ll]_[Pp][Rr][Oo][Xx][Yy]", "[Nn][Oo]_[Pp][Rr][Oo][Xx][Yy]"),
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "NETRC"),
    *("SSH_AUTH_SOCK", "SSH_ASKPASS", "GIT_SSL_*", "GIT_SSH", "GIT_SSH_COMMAND", "GIT_ASKPASS"),
    *("CARGO_HOME", "CARGO_HTTP_*", "CARGO_NET_*", "CARGO_REGISTR*", "CARGO_SOURCE_*"),
    *("RUSTUP_HOME", "RUSTUP_DIST_*", "RUSTUP_UPDATE_ROOT", "RUSTUP_USE_*"),
    *("PIP_CONFIG_FILE", "PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS", "PIP_NO_INDEX"),
    *("PIP_CERT", "PIP_CLIENT_CERT", "PIP_TRUSTED_HOST", "PIP_PROXY", "PIP_KEYRING_PROVIDER"),
    *("PIP_DEFAULT_TIMEOUT", "PIP_TIMEOUT", "PIP_RETRIES"),
    *("UV_DEFAULT_INDEX", "UV_INDEX", "UV_INDEX_*", "UV_EXTRA_INDEX_URL", "UV_FIND_LINKS"),
    *("UV_CONFIG_FILE", "UV_NATIVE_TLS", "UV_SYSTEM_CERTS", "UV_INSECURE_HOST"),
    *("UV_HTTP_*", "UV_KEYRING_PROVIDER"),
    # Our own settings.
    "WEARABLE_*",
)

NOT_FOR_KERNELS = (
    # cargo and rustc, but not the directories and network settings of cargo.
    *("CARGO", "CARGO_LOG", "CARGO_INCREMENTAL", "CARGO_MAKEFLAGS", "CARGO_PRIMARY_PACKAGE"),
    *(
        f"CARGO_{part}_*"
        for part in (
            *("ALIAS", "BIN", "BUILD", "CACHE", "CFG", "CRATE", "ENCODED", "FEATURE"),
            *("FUTURE", "INSTALL", "MANIFEST", "PKG", "PROFILE", "RESOLVER", "TARGET", "TERM"),
            *("UNSTABLE",),
        )
    ),
    *("RUSTC", "RUSTC_*", "RUSTDOC", "RUSTDOCFLAGS", "RUSTFLAGS", "RUST_SRC_PATH"),
    *("RUST_TARGET_PATH", "RUST_RECURSION_COUNT", "RUSTUP_TOOLCHAIN", "RUSTUP_AUTO_INSTALL"),
    *("RUSTUP_FORCE_ARG0", "__CARGO_*", "SCCACHE_*"),
    # Variables that build scripts read: another value recompiles polars. A test compares these
    # patterns with the names that the build scripts report.
    *("CC", "CC_*", "CXX", "CXX_*", "AR", "AR_*", "ARFLAGS", "ARFLAGS_*", "RANLIB", "RANLIB_*"),
    *("CFLAGS", "CFLAGS_*", "CXXFLAGS", "CXXFLAGS_*", "CPPFLAGS", "LDFLAGS", "HOST_*", "TARGET_*"),
    *("CPATH", "*_INCLUDE_PATH", "LIBRARY_PATH", "COMPILER_PATH", "GCC_EXEC_PREFIX"),
    *("CRATE_CC_*", "PKG_CONFIG", "PKG_CONFIG_*", "CMAKE_*", "NUM_JOBS", "SOURCE_DATE_EPOCH"),
    *("ICU4X_DATA_DIR", "LIBC_BUILD_VERBOSE", "RING_*", "RUST_LIBC_*", "ZSTD_SYS_*"),
    *("MAKEFLAGS", "MFLAGS", "MAKELEVEL"),
    # evcxr and Jupyter, but not the directories that Jupyter writes to.
    *("EVCXR_*", "JUPYTER_CONFIG_*", "JUPYTER_PATH", "JUPYTER_PREFER_ENV_PATH"),
    *("JUPYTER_NO_CONFIG", "JUPYTER_GATEWAY_*", "JUPYTER_DEFAULT_*", "JUPYTER_PLATFORM_DIRS"),
    *("JUPYTER_USE_*", "JUPYTERLAB_*", "IPYTHONDIR", "JPY_SESSION_NAME"),
    # Python and its environments.
    *("PYTHON*", "VIRTUAL_ENV*", "CONDA_*", "PIPENV_*", "POETRY_*", "__PYVENV_*"),
    *("PYTEST_ADDOPTS", "PYTEST_PLUGINS", "PYTEST_DISABLE_PLUGIN_AUTOLOAD"),
    # Colours in compiler messages.
    *("CLICOLOR", "CLICOLOR_FORCE", "FORCE_COLOR", "NO_COLOR"),
    # Another repository, or another recipe of just.
    *("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_CEILING_DIRECTORIES", "JUST_*"),
)

# For all tools. Variables override configuration files. An empty value resets a setting of pip.
SETTINGS = {
    "LANG": platform.utf8_locale(),
    "LC_ALL": platform.utf8_locale(),
    "PYTHONUTF8": "1",
    "PIP_BREAK_SYSTEM_PACKAGES": "0",
    "PIP_CONSTRAINT": "",
    "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    "PIP_DRY_RUN": "0",
    "PIP_IGNORE_INSTALLED": "0",
    "PIP_NO_BINARY": "",
    "PIP_NO_INPUT": "1",
    "PIP_PREFIX": "",
    "PIP_PYTHON": "",
    "PIP_REQUIRE_VIRTUALENV": "0",
    "PIP_ROOT": "",
    "PIP_TARGET": "",
    "PIP_USER": "0",
    "RUSTUP_AUTO_INSTALL": "0",
}


def matches(name: str, patterns: Iterable[str]) -> bool:
    """Whether a variable's name matches one of the patterns."""
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def tool_environment(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment for cargo, rustc, rustup, pip and uv."""
    given = usable(os.environ if environ is None else environ)
    chosen = {name: value for name, value in given.items() if matches(name, FOR_TOOLS)}
    return {**chosen, **SETTINGS}


def user_environment(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """The user's variables, without those that change how cargo, rustc, Python or Jupyter work."""
    given = usable(os.environ if environ is None else environ)
    return {name: value for name, value in given.items() if not matches(name, NOT_FOR_KERNELS)}


def use_user_environment() -> None:
    """Reduce this process's environment, and so its children's, to `user_environment`."""
    wanted = user_environment()
    for name in set(os.environ) - set(wanted):
        del os.environ[name]
    os.environ.update(wanted)


def usable(environ: Mapping[str, str]) -> dict[str, str]:
    """The variables, with unusable values of HOME, PATH and TMPDIR replaced or removed."""
    given = dict(environ)
    if not given.get("HOME"):
        given["HOME"] = str(Path.home())
    given["PATH"] = given.get("PATH") or os.defpath
    # rustc fails if this directory does not exist.
    temporary = given.get("TMPDIR")
    if temporary is not None and not os.access(temporary, os.W_OK | os.X_OK):
        del given["TMPDIR"]
    return given


def cargo_settings(
    *, flags: str, target: Path, toolchain: str, profile: Mapping[str, object]
) -> dict[str, str]:
    """Variables that override the user's cargo configuration, also in a kernel.

    `flags` are rustc's, and `target` is the build directory. `profile` is `[profile.dev]` of
    `Cargo.toml`; evcxr writes the same into a kernel's manifest.
    """
    return {
        "CARGO_BUILD_BUILD_DIR": str(target),
        "CARGO_NET_OFFLINE": "false",
        "CARGO_TARGET_DIR": str(target),
        "CARGO_TERM_COLOR": "never",
        "CARGO_TERM_PROGRESS_WHEN": "never",
        "CARGO_TERM_QUIET": "false",
        "CARGO_TERM_VERBOSE": "false",
        # Empty values disable a wrapper that a configuration file sets.
        "RUSTC_WORKSPACE_WRAPPER": "",
        "RUSTC_WRAPPER": "",
        "RUSTDOCFLAGS": "",
        "RUSTFLAGS": flags,
        "RUSTUP_AUTO_INSTALL": "0",
        "RUSTUP_TOOLCHAIN": toolchain,
        **{
            f"CARGO_PROFILE_DEV_{key.replace('-', '_').upper()}": str(value).lower()
            for key, value in profile.items()
            # Kernels, the workspace and dependencies have different optimisation levels.
            if isinstance(value, (bool, int, str)) and key != "opt-level"
        },
    }
