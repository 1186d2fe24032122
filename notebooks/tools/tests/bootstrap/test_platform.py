"""Each mechanism of the operating system, also with the behaviour of another system."""

import ipaddress
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import wearable_jupyter
from wearable_jupyter.bootstrap import platform
from wearable_jupyter.kernel import directories, handoff, supervisor
from wearable_jupyter.setup import build, errors, links, offline_bundle, toolchain


@pytest.fixture(params=["linux", "darwin"])
def system(request, monkeypatch):
    """Linux, which these tests run on, and macOS."""
    monkeypatch.setattr(platform, "SYSTEM", request.param)
    return request.param


@pytest.fixture
def macos(monkeypatch):
    monkeypatch.setattr(platform, "SYSTEM", "darwin")


@pytest.fixture
def sleeping():
    """A process that sleeps for ten minutes, with a recognizable argument."""
    code = "import time; print(flush=True); time.sleep(600)"
    command = [sys.executable, "-c", code, "é x"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        process.stdout.readline()  # a process has no command line at its very start
        yield process
        process.kill()


def end_without_wait(process: subprocess.Popen) -> None:
    """Kill a process and leave it as a zombie."""
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)


def test_ended_process_and_zombie_are_not_alive(system, sleeping):
    assert platform.is_alive(sleeping.pid) and platform.is_alive(os.getpid())
    end_without_wait(sleeping)
    assert not platform.is_alive(sleeping.pid)
    sleeping.wait()
    assert not platform.is_alive(sleeping.pid)


def test_process_of_another_user_is_alive(system, monkeypatch):
    def denied(pid, number):
        raise PermissionError

    monkeypatch.setattr(os, "kill", denied)
    assert platform.is_alive(1)


def test_command_line_has_the_arguments(system, sleeping):
    assert platform.command_line(sleeping.pid).rstrip().endswith("time.sleep(600) é x")
    end_without_wait(sleeping)
    assert platform.command_line(sleeping.pid) == ""
    sleeping.wait()
    assert platform.command_line(sleeping.pid) == ""


def test_process_number_of_an_ended_evcxr_is_recognized(system, tmp_path, sleeping):
    """Another process has that number by now."""
    directory = tmp_path / "1-a"
    directory.mkdir()
    assert directories.evcxr(directory) is None
    (directory / directories.EVCXR).write_text(str(sleeping.pid))
    assert directories.evcxr(directory) is None
    named = tmp_path / "time.sleep"
    named.mkdir()
    (named / directories.EVCXR).write_text(str(sleeping.pid))
    assert directories.evcxr(named) == sleeping.pid


def test_signal_reaches_a_whole_group():
    command, start = ["sh", "-c", "sleep 20 & echo; wait"], time.monotonic()
    with subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True) as shell:
        shell.stdout.readline()
        platform.signal_group(shell.pid, signal.SIGKILL)
        shell.stdout.read()  # the output ends when both processes have ended
    assert time.monotonic() - start < 15
    platform.signal_group(shell.pid, signal.SIGKILL)


def test_group_of_zombies_is_ignored(monkeypatch):
    """macOS then denies permission."""

    def denied(group, number):
        raise PermissionError

    monkeypatch.setattr(os, "killpg", denied)
    platform.signal_group(1, signal.SIGKILL)


def test_end_of_a_process_is_noticed(system, sleeping):
    """On Linux at once, elsewhere after at most one interval of polling."""
    poller = select.poll()
    handoff.watch(poller, sleeping.pid)
    end_without_wait(sleeping)
    assert bool(poller.poll(0)) == (system == "linux")
    start = time.monotonic()
    supervisor.wait_for_end(sleeping.pid)
    assert time.monotonic() - start < 2 * handoff.POLL_SECONDS


def test_descriptor_of_an_ended_process_is_none():
    ended = subprocess.Popen(["true"])
    ended.wait()
    assert platform.end_descriptor(ended.pid) is None


@pytest.mark.parametrize("system_, found", [("linux", True), ("linux", False), ("darwin", True)])
def test_process_ends_with_its_parent_if_the_system_can_do_that(monkeypatch, system_, found):
    monkeypatch.setattr(platform, "SYSTEM", system_)
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}" if found else None)
    assert (platform.end_with_parent()[:1] == ("setpriv",)) == (system_ == "linux" and found)


def test_address_is_loopback(system):
    addresses = {platform.loopback_address() for _ in range(100)}
    assert all(ipaddress.ip_address(address).is_loopback for address in addresses)
    # Only 127.0.0.1 is configured on macOS.
    assert (addresses == {"127.0.0.1"}) == (system == "darwin")
    assert system == "darwin" or "127.0.0.1" not in addresses


def test_names_on_linux(monkeypatch):
    monkeypatch.setattr(platform, "SYSTEM", "linux")
    assert platform.shared_library("a") == "liba.so"
    assert platform.library_path_variable() == "LD_LIBRARY_PATH"
    assert platform.target_triple() == toolchain.host()
    assert links.COMPILED[-1] == ".so"


@pytest.mark.parametrize("machine, rust", [("arm64", "aarch64"), ("x86_64", "x86_64")])
def test_names_on_macos(macos, monkeypatch, machine, rust):
    uname = os.uname_result(("Darwin", "host", "25", "version", machine))
    monkeypatch.setattr(os, "uname", lambda: uname)
    assert platform.shared_library("a") == "liba.dylib"
    assert platform.library_path_variable() == "DYLD_LIBRARY_PATH"
    assert platform.target_triple() == f"{rust}-apple-darwin"
    assert toolchain.toolchain().name == f"{toolchain.pinned()['channel']}-{rust}-apple-darwin"


def test_triple_of_arm_linux(monkeypatch):
    uname = os.uname_result(("Linux", "host", "6", "version", "aarch64"))
    monkeypatch.setattr(os, "uname", lambda: uname)
    assert platform.target_triple() == "aarch64-unknown-linux-gnu"


def test_library_path_keeps_the_users_folders(macos, monkeypatch):
    monkeypatch.setenv("DYLD_LIBRARY_PATH", "/theirs")
    (variable,) = toolchain.with_standard_library().items()
    assert variable[0] == "DYLD_LIBRARY_PATH" and variable[1].startswith("/theirs:")


def test_peak_memory_is_in_bytes(system):
    """`ru_maxrss` is in kilobytes on Linux, and in bytes on macOS."""
    assert platform.peak_memory(3) == (3072 if system == "linux" else 3)


def test_glibc_is_compared_only_where_programs_use_it(system):
    here, needed = platform.glibc(), platform.needed_glibc(sys.executable)
    assert bool(here) == bool(needed) == (system == "linux")
    assert offline_bundle.version(here) >= offline_bundle.version(needed)


def test_bundle_needs_no_glibc_on_macos(macos):
    files = {"evcxr_jupyter-1/bin/evcxr_jupyter": sys.executable, "libstd.dylib": sys.executable}
    assert offline_bundle.needed_glibc(files) == ""


def test_unsupported_system_is_reported(monkeypatch):
    monkeypatch.setattr(platform, "SYSTEM", "win32")
    with pytest.raises(errors.UserError, match=r"win32 is not supported\. Use Linux, or WSL2"):
        build.prerequisites()


def test_hints_name_the_systems_own_package_manager(system):
    for program in platform.INSTALL:
        hint = platform.install_hint(program)
        assert ("apt install" in hint) == (system == "linux"), hint


def test_chrome_is_found_outside_the_path_on_macos(system):
    assert any(os.path.isabs(name) for name in platform.browsers()) == (system == "darwin")


def test_no_other_module_distinguishes_operating_systems():
    """Otherwise a module could depend on Linux without a defined behaviour elsewhere."""
    names = r"sys\.platform|os\.uname|/proc/|setpriv|pidfd|libc_ver|confstr|\.so\b|\.dylib"
    package = Path(wearable_jupyter.__file__).parent
    found = {file.name for file in package.rglob("*.py") if re.search(names, file.read_text())}
    assert found == {"platform.py"}


def test_cores_are_those_that_a_container_allows(tmp_path, monkeypatch):
    own, groups = tmp_path / "own", tmp_path / "groups"
    (groups / "a" / "b").mkdir(parents=True)
    own.write_text("0::/a/b\n")
    (groups / "a" / "b" / "cpu.max").write_text("max 100000\n")
    assert platform.quotas(groups, own) == [float("inf")]
    (groups / "a" / "cpu.max").write_text("250000 100000\n")
    assert min(platform.quotas(groups, own)) == 2.5
    own.write_text("1:cpu:/\n")
    (groups / "cpu").mkdir()
    for name, number in (("quota", 300000), ("period", 100000)):
        (groups / "cpu" / f"cpu.cfs_{name}_us").write_text(f"{number}\n")
    assert min(platform.quotas(groups, own)) == 3.0
    (groups / "cpu" / "cpu.cfs_quota_us").write_text("-1\n")
    assert min(platform.quotas(groups, own)) == float("inf")

    monkeypatch.setattr(platform.os, "sched_getaffinity", lambda _: set(range(64)))
    for allowed, cores in (([2.5], 2), ([0.5], 1), ([float("inf")], 64)):
        monkeypatch.setattr(platform, "quotas", lambda allowed=allowed: allowed)
        assert platform.cores() == cores
    monkeypatch.setattr(platform, "SYSTEM", platform.MACOS)
    monkeypatch.setattr(platform.os, "cpu_count", lambda: 8)
    assert platform.cores() == 8
