"""All differences between operating systems: what this package does on Linux, and what elsewhere.

| mechanism | Linux | macOS and others |
| --- | --- | --- |
| state and command line of a process | `/proc` | psutil |
| end of a process | wakes up a poller | is noticed up to a second later |
| a cluster's process ends with its parent | always, by `setpriv` | unless the parent is killed |
| address for evcxr's ports | a random loopback address | 127.0.0.1, which Jupyter also uses |
| minimum glibc of an offline bundle | compared | not compared |
| cores for compilers | the process's, and a container's quota | the machine's |
| line of a panic outside a cell's code | from ELF files, by `line_table.py` | none |

`SYSTEM` selects the column; tests replace it. Uses the standard library only, and no syntax that
Python 3.8 rejects, because `venv.py` imports this before any package is installed. Only functions
about processes load psutil, where there is no `/proc`.
"""

from __future__ import annotations

import os
import secrets
import shutil
import sys
from contextlib import suppress
from pathlib import Path

LINUX, MACOS = "linux", "darwin"
SYSTEM = sys.platform
LOOPBACK = "127.0.0.1"
# For each system, the variable with additional folders of shared libraries.
LIBRARY_PATH_VARIABLES = {LINUX: "LD_LIBRARY_PATH", MACOS: "DYLD_LIBRARY_PATH"}
# For each program, the commands that install it: on Debian and Ubuntu, and on macOS.
INSTALL = {
    "cc": ("sudo apt install build-essential", "xcode-select --install"),
    "chromium": ("sudo apt install chromium", "brew install --cask google-chrome"),
    "java": ("sudo apt install openjdk-17-jre-headless", "brew install openjdk@17"),
    "pip": ("sudo apt install python3-pip", "brew install python"),
    "python": ("sudo apt install python3", "brew install python"),
    "zstd": ("sudo apt install zstd", "brew install zstd"),
}
# Applications on macOS are not on the PATH.
MACOS_CHROME = "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome"


def is_macos() -> bool:
    return SYSTEM == MACOS


def fault() -> str | None:
    """Why this project cannot run on this system, with the fix; None if it can."""
    if SYSTEM in (LINUX, MACOS):
        return None
    return f"{SYSTEM} is not supported. Use Linux, or WSL2 on Windows; macOS is not tested."


def install_hint(program: str) -> str:
    """The command that installs a program of `INSTALL`, with the systems that it is for."""
    debian, macos = INSTALL[program]
    return f"macOS: {macos}" if is_macos() else f"Debian and Ubuntu: {debian}"


def browsers() -> tuple[str, ...]:
    """Names and paths of Chromium and Chrome."""
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    return (*names, MACOS_CHROME) if is_macos() else names


def utf8_locale() -> str:
    """A locale with UTF-8 that the system always has."""
    return "en_US.UTF-8" if is_macos() else "C.UTF-8"


def target_triple() -> str:
    """Rust's name for this platform, such as `x86_64-unknown-linux-gnu`."""
    processor = os.uname().machine
    if is_macos():
        return f"{processor.replace('arm64', 'aarch64')}-apple-darwin"
    return f"{processor}-unknown-linux-gnu"


def shared_library(crate: str) -> str:
    """The file name of a crate's shared library."""
    return f"lib{crate}{shared_library_suffix()}"


def shared_library_suffix() -> str:
    """The suffix of shared libraries, such as `.so`."""
    return ".dylib" if is_macos() else ".so"


def library_path_variable() -> str:
    """The variable with additional folders of shared libraries."""
    return LIBRARY_PATH_VARIABLES[MACOS if is_macos() else LINUX]


def loopback_address() -> str:
    """A random loopback address; elsewhere than on Linux, the only one that is configured.

    Jupyter chooses free ports of 127.0.0.1 and passes them to a kernel, which binds them later. On
    an address of its own, evcxr cannot take one of these ports in between.
    """
    if SYSTEM != LINUX:
        return LOOPBACK
    return f"127.{1 + secrets.randbelow(254)}.{secrets.randbelow(256)}.{1 + secrets.randbelow(254)}"


def is_alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return not is_zombie(pid)


def is_zombie(pid: int) -> bool:
    """Whether a process has ended, but its parent has not read its exit status."""
    if SYSTEM == LINUX:
        with suppress(OSError):
            return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
        return False
    import psutil  # not installed yet when .venv is created

    with suppress(psutil.Error):
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    return False


def command_line(pid: int) -> str:
    """A process's program and arguments; empty if it has ended, or another user hides it."""
    if SYSTEM == LINUX:
        with suppress(OSError):
            return Path(f"/proc/{pid}/cmdline").read_text(errors="replace").replace("\0", " ")
        return ""
    import psutil

    with suppress(psutil.Error):
        return " ".join(psutil.Process(pid).cmdline())
    return ""


def signal_group(group: int, number: int) -> None:
    """Send a signal to a process group, if it still runs.

    macOS denies permission if all processes of the group are zombies.
    """
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def end_descriptor(pid: int) -> int | None:
    """A descriptor that becomes readable when a process ends, if the system has such descriptors.

    None elsewhere than on Linux, and if the process has ended. So callers poll, too.
    """
    if SYSTEM == LINUX:
        with suppress(OSError):
            return os.pidfd_open(pid)
    return None


def end_with_parent() -> tuple[str, ...]:
    """A prefix for a command: the system kills the command's process when this process ends.

    This process may end before the child requests that signal. So the child checks its parent after
    the request. Without `setpriv`, as on macOS, the prefix is empty: if this process is killed, its
    child continues.
    """
    if SYSTEM != LINUX or shutil.which("setpriv") is None:
        return ()
    script = '[ "$PPID" = "$0" ] && exec "$@"'
    return ("setpriv", "--pdeathsig", "KILL", "sh", "-c", script, str(os.getpid()))


def cores() -> int:
    """The number of cores that this process may use, at least 1; cargo counts the same."""
    if SYSTEM != LINUX:
        return os.cpu_count() or 1
    return max(1, int(min(len(os.sched_getaffinity(0)), *quotas())))


def quotas(
    groups: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")
) -> list[float]:
    """The cores that the control groups of this process allow, as a list; see cgroups(7)."""
    listed = own.read_text().splitlines() if own.is_file() else []
    # Version 2 has one line, with the path of the group. A container sees its group at the top.
    path = next((line[4:] for line in listed if line.startswith("0::/")), "")
    found = [float("inf")]
    for folder in (groups / path, *(groups / path).parents):
        with suppress(OSError, ValueError):
            quota, period = map(int, (folder / "cpu.max").read_text().split())
            found.append(quota / period)
    with suppress(OSError, ValueError):
        quota, period = (
            int((groups / "cpu" / f"cpu.cfs_{name}_us").read_text()) for name in ("quota", "period")
        )
        found += [quota / period] if quota > 0 else []
    return found


def peak_memory(maxrss: int) -> int:
    """Bytes of a process's peak memory. `maxrss` is the system's `ru_maxrss`; see getrusage(2)."""
    return maxrss if is_macos() else 1024 * maxrss


def glibc() -> str:
    """The version of this machine's glibc; empty without glibc."""
    if SYSTEM != LINUX:
        return ""
    with suppress(ValueError, OSError):
        return (os.confstr("CS_GNU_LIBC_VERSION") or "").removeprefix("glibc ")
    return ""


def needed_glibc(program: Path) -> str:
    """The oldest glibc with which a program or shared library runs; empty without glibc."""
    import platform

    return platform.libc_ver(str(program))[1] if SYSTEM == LINUX else ""
