"""Measures the query on clusters of 1, 2 and 4 workers, and with polars on the same files."""

import argparse
import csv
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from ..setup import paths
from ..setup.atomic_write import write
from ..setup.build import UserError, build_workspace, run_binary
from . import commands, engines

WORKERS = (1, 2, 4)
POLARS = Path(__file__).with_name("polars_baseline.py")
COLUMNS = (
    "engine",
    "workers",
    "rows",
    "megabytes",
    "first_seconds",
    "seconds",
    "stages",
    "tasks",
    "task_seconds",
    "shuffled_megabytes",
    "skew",
    "overhead_per_stage",
)


def measure(options: Sequence[str]) -> None:
    """Measure the query and write `outputs/cluster/scale.csv`, which notebook 03 shows."""
    parser = argparse.ArgumentParser(prog="justw cluster measure", description=measure.__doc__)
    parser.add_argument(
        "--rows",
        type=int,
        nargs="+",
        metavar="N",
        default=[10_000_000, 100_000_000],
        help="numbers of sensor rows; each gets its own dataset (default: 10000000 100000000)",
    )
    parser.add_argument(
        "--rounds",
        type=int,
        metavar="N",
        default=3,
        help="measured runs after a warm-up run, which has a separate column (default: 3)",
    )
    parser.add_argument(
        "--engines",
        nargs="+",
        choices=sorted(engines.ENGINES),
        default=["sail", "spark"],
        help="engines to measure next to polars (default: sail spark)",
    )
    given = parser.parse_args(options)
    client = commands.client()
    build_workspace()
    rows: list[dict] = []
    paths.TARGET.mkdir(exist_ok=True)
    for count in given.rows:
        with tempfile.TemporaryDirectory(prefix="scale-", dir=paths.TARGET) as folder:
            data = Path(folder) / "data"
            run_binary(
                "generate_demo_data", "--rows", str(count), "--quiet", "--output-dir", str(data)
            )
            size = sum(file.stat().st_size for file in data.rglob("*.parquet")) / 1e6
            for row in runs(client, data, Path(folder) / "out", given.engines, given.rounds):
                rows.append({"rows": count, "megabytes": f"{size:.0f}", **row})
                print(" ".join(f"{name}={rows[-1].get(name, '')}" for name in COLUMNS), flush=True)
                save(rows)
    print(paths.display_path(paths.OUTPUTS / "cluster" / "scale.csv"))


def runs(
    client: Path, data: Path, output: Path, chosen: Sequence[str], rounds: int
) -> Iterator[dict]:
    """Measure polars, and then each engine with each number of workers; one row for each."""
    first, *later = polars_seconds(data, rounds)
    yield {"engine": "polars", "workers": 1, "first_seconds": first, "seconds": median(later)}
    for engine in chosen:
        for workers in WORKERS:
            with commands.running(engine, workers) as (cluster, _):
                command = [client, *commands.address(cluster), "--sql", str(commands.SQL)]
                command += ["--quiet", "--data", data, "--output", output]
                seconds = []
                for _ in range(rounds + 1):
                    result = subprocess.run(
                        [str(part) for part in command], env=os.environ | cluster.variables()
                    )
                    if result.returncode != 0:
                        raise UserError(
                            f"The query on {engine} with {workers} workers failed; the client's "
                            "error is above"
                        )
                    seconds.append(float(table(output / "run.csv")[0]["seconds"]))
                row = {"engine": engine, "workers": workers, "first_seconds": seconds[0]}
                last_run = stage_figures(output, cluster.page, workers, seconds[-1])
                yield row | {"seconds": median(seconds[1:])} | last_run


def stage_figures(output: Path, page: str | None, workers: int, seconds: float) -> dict:
    """Figures on the stages of the last query; empty if the engine reports no stages.

    `seconds` is the query's run time with `workers` workers of one core each.
    """
    stages = [stage for stage in table(output / "stages.csv") if stage["status"] == "COMPLETE"]
    if not stages or page is None:
        return {}
    # Run time if all tasks of a stage took the same time, and scheduling took none.
    ideal_seconds = sum(
        int(stage["executor_run_time"]) / 1e3 / min(workers, int(stage["num_tasks"]))
        for stage in stages
    )
    return {
        "stages": len(stages),
        "tasks": sum(int(stage["num_tasks"]) for stage in stages),
        "task_seconds": sum(int(stage["executor_run_time"]) for stage in stages) / 1e3,
        "shuffled_megabytes": sum(int(stage["shuffle_write_bytes"]) for stage in stages) / 1e6,
        "skew": skew(page, max(stages, key=lambda stage: int(stage["executor_run_time"]))),
        "overhead_per_stage": (seconds - ideal_seconds) / len(stages),
    }


def skew(page: str, stage: dict) -> float:
    """The run time of the stage's longest task, divided by the median of its tasks."""
    path = f"stages/{stage['stage_id']}/{stage['attempt_id']}/taskSummary?quantiles=0.5,1"
    summary = engines.rest(page, path)
    half, longest = summary["executorRunTime"] if summary else (0, 0)
    return longest / half if half else 1.0


def polars_seconds(data: Path, rounds: int) -> list[float]:
    """Run times with py-polars in a separate process, in seconds.

    py-polars has the same engine as the notebooks.
    """
    command = [sys.executable, str(POLARS), str(data), str(commands.SQL), str(rounds + 1)]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    return [float(line) for line in result.stdout.split()]


def table(path: Path) -> list[dict]:
    """Read a CSV file as one dictionary per row."""
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def median(seconds: list[float]) -> float:
    return round(statistics.median(seconds), 3)


def save(rows: list[dict]) -> None:
    lines = [",".join(COLUMNS)]
    for row in rows:
        values = (row.get(name, "") for name in COLUMNS)
        lines.append(",".join(f"{v:.3f}" if isinstance(v, float) else str(v) for v in values))
    write(paths.OUTPUTS / "cluster" / "scale.csv", "\n".join(lines) + "\n")
