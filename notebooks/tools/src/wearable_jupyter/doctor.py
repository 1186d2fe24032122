"""What is ready and what is not, and what mends it. Changes nothing, and takes some ten seconds."""

import importlib.util
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

# For compiling everything, and for a kernel afterwards.
NEEDED_GB = 6
NEEDED_GB_COMPILED = 1
JUPYTER = ("ipykernel", "jupyter_client", "jupyterlab", "nbclient", "nbconvert", "zmq")
# What a kernel leaves is deleted as it ends, but not in the same moment.
SECONDS_TO_TIDY = 2


class CreatedLater(UserError):
    """Something that is made when it is first needed."""


@dataclass(frozen=True)
class Finding:
    """One thing looked at; `ready` is None where it is made when it is first needed."""

    what: str
    ready: bool | None
    detail: str


def rust() -> str:
    prerequisites(fetch=False)
    release = toolchain.rustc_version().splitlines()[0]
    return f"{release}, with rust-src and a C compiler"


def kernel_binary() -> str:
    binary = caches.evcxr()
    if not binary.is_file():
        raise UserError("not installed. Run: ./justw setup")
    if not starts(binary):
        raise UserError(f"{binary} does not start. Run: ./justw setup")
    return f"evcxr_jupyter {caches.EVCXR_VERSION}"


def dependencies() -> str:
    compiled = caches.compiled_dependencies()
    if not compiled.is_dir() and (ready := artifact_cache.find_compatible()) is not None:
        raise CreatedLater(
            f"compiled already, in {ready.parent}; ./justw setup takes them from there"
        )
    if not compiled.is_dir():
        others = list(caches.cache_directory().glob("dependencies-*"))
        why = " (Cargo.lock, compiler or settings have changed)" if others else ""
        raise UserError(f"not compiled{why}. Run: ./justw setup")
    missing = [part for part in compiled_parts() if not (compiled / part).is_dir()]
    if missing:
        raise UserError(f"half of {compiled} is missing. Delete it and run: ./justw setup")
    return f"compiled, in {caches.trusted(compiled)}"


def template() -> str:
    made_for = dependencies_in(paths.TEMPLATE)
    if made_for is None:
        raise CreatedLater(
            "not made yet; ./justw setup makes it, or else the first kernel, in some 10 s"
        )
    if made_for != caches.compiled_dependencies().name:
        raise CreatedLater(
            "made for other dependencies; ./justw setup or the next kernel makes it anew"
        )
    return "compiled and ready"


def jupyter() -> str:
    missing = [name for name in JUPYTER if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(
            f"{', '.join(missing)} missing in .venv. Run: rm -rf .venv, then ./justw setup"
        )
    launcher = spec.project_kernelspec().argv
    return f"installed, with the kernel {launcher[launcher.index('-m') + 1]}"


def space() -> str:
    folder = next(p for p in (paths.TARGET, paths.ROOT) if p.is_dir())
    free = shutil.disk_usage(folder).free / 1e9
    needed = NEEDED_GB_COMPILED if caches.compiled_dependencies().is_dir() else NEEDED_GB
    if free < needed:
        raise UserError(f"{free:.1f} GB free, {needed} GB are needed. Free some")
    return f"{free:.0f} GB free"


def running_kernel() -> str:
    """Last, because it needs all the others."""
    started = time.monotonic()
    smoke.check_kernel()
    return f"a new kernel ran two cells, in {time.monotonic() - started:.0f} s"


def leftovers() -> str:
    for waited in range(SECONDS_TO_TIDY + 1):
        kernels = directories.list_kernels()
        running = sum(kernels.values())
        if running == len(kernels):
            prewarmed = sum(map(directories.is_prewarmed, kernels))
            counts = f"{running - prewarmed} running, nothing left of others"
            return f"{counts}; a spare one waits" if prewarmed else counts
        if waited < SECONDS_TO_TIDY:
            time.sleep(1)
    dead = len(kernels) - running
    raise UserError(
        f"{dead} directories of kernels that were killed; the next kernel deletes them. "
        f"Or: rm -r {paths.KERNELS}"
    )


def data() -> str:
    directory = paths.data_directory()
    parts = len(paths.sensor_files())
    tables = [directory / f"{name}.parquet" for name in ("user_profile", "sleep_diary")]
    there = sum(table.is_file() for table in tables) + (parts > 0)
    if there == 0:
        raise CreatedLater("no dataset yet; ./justw data small writes one, or else the notebook")
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
    ("kernels", leftovers),
    ("data", data),
    ("cells", running_kernel),
)


def findings() -> Iterator[Finding]:
    """Each check's finding, in order; one that fails does not stop the others."""
    for what, check in CHECKS:
        try:
            yield Finding(what, True, check())
        except CreatedLater as error:
            yield Finding(what, None, str(error))
        except UserError as error:
            yield Finding(what, False, str(error))
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            yield Finding(what, False, f"could not be checked: {error}")


def report() -> int:
    """Print all findings; 1 if something is to be mended."""
    marks = {True: "✔", None: "·", False: "✘"}
    ready = True
    for finding in findings():
        print(f"{marks[finding.ready]} {finding.what}: {finding.detail}", flush=True)
        ready = ready and finding.ready is not False
    return 0 if ready else 1
