"""`./justw bench generate`: time the data generator against numpy with py-polars, and by step.

Not a test: times depend on the machine and its load. Compare only numbers of one run.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from ..bootstrap import platform
from ..kernel.template import prepare
from ..setup import errors, paths, toolchain
from ..setup.venvs import ensure_venv

HERE = Path(__file__).parent
ROWS = 10_000_000
# Shows how time and memory grow with the rows. The largest dataset needs 2 GB on disk.
SIZES = (1_000_000, 10_000_000, 100_000_000)


@dataclass
class Run:
    """Wall time, peak memory and output size of one run of a generator."""

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
    """Run the generators alternately, `rounds` times, and print the medians.

    Each run is a process of its own that writes into an empty folder on the project's disk.
    Seconds are wall time, for Python without the interpreter's start.
    """
    prepare()
    os.environ |= toolchain.with_standard_library()
    python = ensure_venv("newest", HERE / "newest.txt") / "python"
    peer = [python, HERE / "python_generate.py"]
    runs: dict[str, list[Run]] = {"Rust": [], "Python": [], "write": []}
    for turn in range(rounds):
        print(f"round {turn + 1} of {rounds}", flush=True)
        runs["Rust"].append(rust_run(ROWS))
        runs["Python"].append(measured([*peer, str(ROWS)], ROWS))
        runs["write"].append(measured([*peer, "--write-only", str(ROWS)], ROWS))
    print(f"\n{ROWS:,} rows{'':<20}{'time':>8}{'throughput':>28}{'written':>16}{'peak':>10}")
    for name, what in (
        ("Rust", "generate_demo_data"),
        ("Python", "numpy and py-polars"),
        ("write", "py-polars, only writing"),
    ):
        print(f"{what:<28}{median_run(runs[name])}")
    ratios = [b.seconds / a.seconds for a, b in zip(runs["Rust"], runs["Python"], strict=True)]
    print(f"Rust is {statistics.median(ratios):.1f} times as fast (median of the ratios per round)")

    print(f"\n{'per row, on one core':<28}{'time':>13}{'memory traffic':>18}{'at 10 GB/s':>12}")
    for step in steps():
        limit = step["bytes"] / 10
        print(
            f"{step['step']:<28}{step['ns']:>10.1f} ns{step['bytes']:>12.1f} bytes{limit:>9.1f} ns"
        )

    print(f"\n{'rows and threads':<28}{'time':>10}{'ns/row':>12}{'peak':>10}")
    cores = os.cpu_count() or 1
    for rows, threads in [*((rows, cores) for rows in SIZES), (ROWS, 1)]:
        run = rust_run(rows, threads)
        per_row = run.seconds / rows * 1e9
        what = f"{rows:,}, {threads}"
        print(f"{what:<28}{run.seconds:>8.2f} s{per_row:>12.1f}{run.peak_mb:>7.0f} MB")


def median_run(runs: list[Run]) -> Run:
    """Return the run with the median wall time."""
    return sorted(runs, key=lambda run: run.seconds)[len(runs) // 2]


def rust_run(rows: int, threads: int | None = None) -> Run:
    """Run the Rust generator once."""
    options = ["--quiet", "--rows", str(rows)]
    if threads is not None:
        options += ["--threads", str(threads)]
    return measured([toolchain.program("generate_demo_data"), *options, "--output-dir"], rows)


# A child process starts with its parent's peak memory, and this process's peak is large. So a small
# process starts and measures the generator.
MEASURE = """
import resource, subprocess, sys, time
start = time.perf_counter()
process = subprocess.run(sys.argv[1:], stdout=subprocess.PIPE, text=True)
seconds = time.perf_counter() - start
peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
print(process.returncode, seconds, peak, *process.stdout.split())
"""


def measured(command: list, rows: int) -> Run:
    """Run `command` with a new folder as its last argument, and measure it.

    Raises:
        UserError: the command failed.
    """
    paths.TARGET.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bench-", dir=paths.TARGET) as folder:
        target = Path(folder) / "data"
        launched = [sys.executable, "-S", "-c", MEASURE, *command, target]
        result = subprocess.run(launched, stdout=subprocess.PIPE, text=True, check=True)
        status, seconds, maxrss, *reported = map(float, result.stdout.split())
        if status != 0:
            raise errors.UserError(
                f"{command[0]} failed with status {status:.0f}. Its error is printed above"
            )
        written = sum(file.stat().st_size for file in target.rglob("*.parquet")) / 1e6
        peak_mb = platform.peak_memory(round(maxrss)) / 1e6
        # The Python generator prints its seconds without the interpreter's start.
        return Run(rows, reported[0] if reported else seconds, peak_mb, written)


def steps() -> list[dict]:
    """Run the example `time_steps`: time and bytes per row of each generation step, on one core."""
    example = toolchain.program("examples/time_steps")
    result = subprocess.run([example], capture_output=True, text=True, check=True)
    return [json.loads(line) for line in result.stdout.splitlines()]
