"""How quick the generator is, beside numpy and py-polars, and what its time is made of.

Not a test: times depend on the machine and on what else it does. Compare what one call prints.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from ..kernel.template import prepare
from ..setup import errors, paths, toolchain
from ..setup.venvs import ensure_venv

HERE = Path(__file__).parent
ROWS = 10_000_000
# For whether time and memory grow with the rows; the largest takes 2 GB of disk.
SIZES = (1_000_000, 10_000_000, 100_000_000)


@dataclass
class Run:
    """What one run of a generator took."""

    rows: int
    seconds: float
    peak_mb: float
    written_mb: float

    def __str__(self) -> str:
        rate, megabytes = self.rows / self.seconds, self.written_mb / self.seconds
        return (
            f"{self.seconds:>8.2f} s {rate / 1e6:>8.2f} M rows/s {megabytes:>7.0f} MB/s "
            f"{self.written_mb:>7.0f} MB {self.peak_mb:>7.0f} MB"
        )


def generate(rounds: int = 5) -> None:
    """Measure `rounds` times, in turns, and print medians.

    Whole processes, each into an empty folder on the disk of the project. Seconds are wall time;
    Python's without its own start.
    """
    prepare()
    os.environ |= toolchain.with_standard_library()
    python = ensure_venv("newest", HERE / "newest.txt") / "python"
    peer = [python, HERE / "python_generate.py"]
    runs: dict[str, list[Run]] = {"Rust": [], "Python": [], "floor": []}
    for turn in range(rounds):
        print(f"round {turn + 1} of {rounds}", flush=True)
        runs["Rust"].append(ours(ROWS))
        runs["Python"].append(measured([*peer, str(ROWS)], ROWS))
        runs["floor"].append(measured([*peer, "--floor", str(ROWS)], ROWS))
    print(f"\n{ROWS:,} rows{'':<20}{'time':>8}{'throughput':>28}{'written':>16}{'peak':>10}")
    for name, what in (
        ("Rust", "generate_demo_data"),
        ("Python", "numpy and py-polars"),
        ("floor", "py-polars, writing alone"),
    ):
        print(f"{what:<28}{middle(runs[name])}")
    ratios = [b.seconds / a.seconds for a, b in zip(runs["Rust"], runs["Python"], strict=True)]
    print(f"Rust is {statistics.median(ratios):.1f} times as quick (median of pairs)")

    print(f"\n{'what a row costs':<28}{'core ns':>10}{'bytes':>10}{'at 10 GB/s':>12}")
    for step in steps():
        limit = step["bytes"] / 10
        print(f"{step['step']:<28}{step['ns']:>10.1f}{step['bytes']:>10.1f}{limit:>9.1f} ns")

    print(f"\n{'rows and threads':<28}{'time':>10}{'ns a row':>12}{'peak':>10}")
    cores = os.cpu_count() or 1
    for rows, threads in [*((rows, cores) for rows in SIZES), (ROWS, 1)]:
        run = ours(rows, threads)
        per_row = run.seconds / rows * 1e9
        what = f"{rows:,}, {threads}"
        print(f"{what:<28}{run.seconds:>8.2f} s{per_row:>12.1f}{run.peak_mb:>7.0f} MB")


def middle(runs: list[Run]) -> Run:
    """The run with the median of the times."""
    return sorted(runs, key=lambda run: run.seconds)[len(runs) // 2]


def program(name: str) -> Path:
    """One of the workspace's programs."""
    return paths.TARGET / toolchain.host() / "debug" / name


def ours(rows: int, threads: int | None = None) -> Run:
    """A run of the generator."""
    options = ["--quiet", "--rows", str(rows)]
    if threads is not None:
        options += ["--threads", str(threads)]
    return measured([program("generate_demo_data"), *options, "--output-dir"], rows)


# A process takes its parent's peak of memory over when it starts, and this one's is large.
MEASURE = """
import os, resource, subprocess, sys, time
start = time.perf_counter()
done = subprocess.run(sys.argv[1:], stdout=subprocess.PIPE, text=True)
seconds = time.perf_counter() - start
# Kilobytes, on Linux.
peak_mb = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 / 1e6
print(done.returncode, seconds, peak_mb, *done.stdout.split())
"""


def measured(command: list, rows: int) -> Run:
    """Run `command` into a folder, its last argument."""
    paths.TARGET.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bench-", dir=paths.TARGET) as folder:
        target = Path(folder) / "data"
        launched = [sys.executable, "-S", "-c", MEASURE, *command, target]
        result = subprocess.run(launched, stdout=subprocess.PIPE, text=True, check=True)
        status, seconds, peak_mb, *its_own = map(float, result.stdout.split())
        if status != 0:
            raise errors.UserError(f"{command[0]} failed, see above")
        written = sum(file.stat().st_size for file in target.rglob("*.parquet")) / 1e6
        # Python says its own seconds, without its start.
        return Run(rows, its_own[0] if its_own else seconds, peak_mb, written)


def steps() -> list[dict]:
    """What the steps of a row cost on one core, by the example of the crate that does them."""
    example = program("examples/time_steps")
    result = subprocess.run([example], capture_output=True, text=True, check=True)
    return [json.loads(line) for line in result.stdout.splitlines()]
