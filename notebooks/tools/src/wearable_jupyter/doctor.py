"""Checks the setup and prints a fix for each fault. Changes nothing; takes about ten seconds."""

import importlib.util
import shlex
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from .kernel import directories, spec
from .runner import smoke
from .setup import artifact_cache, caches, paths, toolchain
from .setup.build import compiled_parts, dependencies_in, prerequisites, starts
from .setup.errors import UserError

# Disk space: for compiling everything, and for a kernel after that.
NEEDED_GB = 6
NEEDED_GB_COMPILED = 1
JUPYTER = ("ipykernel", "jupyter_client", "jupyterlab", "nbclient", "nbconvert", "zmq")
# A supervisor deletes a kernel's directory a moment after the kernel ends.
CLEANUP_SECONDS = 2


class CreatedLater(UserError):
    """Something that is missing now, and that the first use creates."""


@dataclass(frozen=True)
class Finding:
    """The result of one check; `ready` is None for something that the first use creates."""

    subject: str
    ready: bool | None
    detail: str


def rust() -> str:
    prerequisites(fetch=False)
    release = toolchain.rustc_version().splitlines()[0]
    return f"{release}, with rust-src and a C compiler"


def kernel_binary() -> str:
    binary = caches.evcxr()
    if not binary.is_file():
        raise UserError("evcxr_jupyter is not installed. Run: ./justw setup")
    if not starts(binary):
        raise UserError(f"{binary} does not start. Run: ./justw setup")
    return f"evcxr_jupyter {caches.EVCXR_VERSION}"


def dependencies() -> str:
    compiled = caches.compiled_dependencies()
    if not compiled.is_dir() and (ready := artifact_cache.find_compatible()) is not None:
        raise CreatedLater(f"compiled in {ready.parent}; ./justw setup links them from there")
    if not compiled.is_dir():
        others = list(caches.cache_directory().glob("dependencies-*"))
        these = " for the current Cargo.lock, compiler and settings" if others else ""
        raise UserError(f"not compiled{these}. Run: ./justw setup")
    missing = [part for part in compiled_parts() if not (compiled / part).is_dir()]
    if missing:
        raise UserError(f"{compiled} is incomplete. Delete it and run: ./justw setup")
    return f"compiled, in {caches.trusted(compiled)}"


def template() -> str:
    made_for = dependencies_in(paths.TEMPLATE)
    if made_for is None:
        raise CreatedLater(
            "not compiled yet; ./justw setup or the first kernel compiles it in about 10 s"
        )
    if made_for != caches.compiled_dependencies().name:
        raise CreatedLater(
            "compiled for other dependencies; ./justw setup or the next kernel compiles it again"
        )
    return "compiled and ready"


def jupyter() -> str:
    missing = [name for name in JUPYTER if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(f".venv lacks {', '.join(missing)}. Run: rm -rf .venv && ./justw setup")
    launcher = spec.project_kernelspec().argv
    return f"installed, with the kernel {launcher[launcher.index('-m') + 1]}"


def space() -> str:
    folder = next(p for p in (paths.TARGET, paths.ROOT) if p.is_dir())
    free = shutil.disk_usage(folder).free / 1e9
    needed = NEEDED_GB_COMPILED if caches.compiled_dependencies().is_dir() else NEEDED_GB
    if free < needed:
        raise UserError(
            f"{free:.1f} GB of disk space free, {needed} GB needed. Delete files, then try again"
        )
    return f"{free:.0f} GB free"


def running_kernel() -> str:
    """Run two cells in a new kernel. The last check, because it needs all others to pass."""
    started = time.monotonic()
    smoke.check_kernel()
    return f"a new kernel ran two cells, in {time.monotonic() - started:.0f} s"


def stale_kernels() -> str:
    for waited in range(CLEANUP_SECONDS + 1):
        kernels = directories.list_kernels()
        running = sum(kernels.values())
        if running == len(kernels):
            prewarmed = sum(map(directories.is_prewarmed, kernels))
            counts = f"{running - prewarmed} running, no stale directories"
            return f"{counts}; one prewarmed" if prewarmed else counts
        if waited < CLEANUP_SECONDS:
            time.sleep(1)
    stale = [directory for directory, runs in kernels.items() if not runs]
    raise UserError(
        f"{len(stale)} directories of killed kernels are left; the next kernel deletes them. "
        f"Start a kernel, or run: rm -r {shlex.join(map(str, stale))}"
    )


def data() -> str:
    directory = paths.data_directory()
    parts = len(paths.sensor_files())
    tables = [directory / f"{name}.parquet" for name in ("user_profile", "sleep_diary")]
    there = sum(table.is_file() for table in tables) + (parts > 0)
    if there == 0:
        raise CreatedLater("no dataset yet; ./justw data small or the notebook generates one")
    if there < 3:
        raise UserError("the dataset is incomplete. Run: ./justw data small")
    return f"a dataset with {parts} sensor parts"


CHECKS: tuple[tuple[str, Callable[[], str]], ...] = (
    ("Rust", rust),
    ("kernel", kernel_binary),
    ("dependencies", dependencies),
    ("kernel template", template),
    ("Jupyter", jupyter),
    ("disk", space),
    ("kernels", stale_kernels),
    ("data", data),
    ("cells", running_kernel),
)


def findings() -> Iterator[Finding]:
    """Run all checks in order. A failing check does not stop the others."""
    for subject, check in CHECKS:
        try:
            yield Finding(subject, True, check())
        except CreatedLater as error:
            yield Finding(subject, None, str(error))
        except UserError as error:
            yield Finding(subject, False, str(error))
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            yield Finding(subject, False, f"the check failed: {error}")


def report() -> int:
    """Print all findings; the exit code is 1 if there is a fault."""
    symbols = {True: "✔", None: "·", False: "✘"}
    ready = True
    for finding in findings():
        print(f"{symbols[finding.ready]} {finding.subject}: {finding.detail}", flush=True)
        ready = ready and finding.ready is not False
    return 0 if ready else 1
