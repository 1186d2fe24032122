"""The query by clusters of 1, 2 and 4 workers, and by polars on one machine, same files."""

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

# Spark's own setting of how much of a file is one task is 128 MB; the files are 7 MB each.
WORKERS = (1, 2, 4)
POLARS = Path(__file__).with_name("by_polars.py")
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
    """Measure, and leave `outputs/cluster/scale.csv`, which the notebook shows."""
    parser = argparse.ArgumentParser(prog="justw cluster measure", description=measure.__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000_000, 100_000_000])
    parser.add_argument(
        "--rounds", type=int, default=3, help="after a first one, which counts apart"
    )
    parser.add_argument(
        "--engines", nargs="+", choices=sorted(engines.ENGINES), default=["sail", "spark"]
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
            for made in runs(client, data, Path(folder) / "out", given.engines, given.rounds):
                rows.append({"rows": count, "megabytes": f"{size:.0f}", **made})
                print(" ".join(f"{name}={rows[-1].get(name, '')}" for name in COLUMNS), flush=True)
                save(rows)
    print(paths.display_path(paths.OUTPUTS / "cluster" / "scale.csv"))


def runs(
    client: Path, data: Path, output: Path, chosen: Sequence[str], rounds: int
) -> Iterator[dict]:
    """What each engine takes, with each number of workers; polars is the first."""
    first, *later = by_polars(data, rounds)
    yield {"engine": "polars", "workers": 1, "first_seconds": first, "seconds": middle(later)}
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
                        raise UserError(f"{engine} with {workers} workers failed, see above")
                    seconds.append(float(table(output / "run.csv")[0]["seconds"]))
                made = {"engine": engine, "workers": workers, "first_seconds": seconds[0]}
                last = work(output, cluster.page, workers, seconds[-1])
                yield made | {"seconds": middle(seconds[1:])} | last


def work(output: Path, page: str | None, workers: int, seconds: float) -> dict:
    """What the stages of the last query did, which took `seconds` with `workers` of one core."""
    stages = [stage for stage in table(output / "stages.csv") if stage["status"] == "COMPLETE"]
    if not stages or page is None:
        return {}
    # Were all tasks of a stage alike, and started and ended in no time.
    at_best = sum(
        int(stage["executor_run_time"]) / 1e3 / min(workers, int(stage["num_tasks"]))
        for stage in stages
    )
    return {
        "stages": len(stages),
        "tasks": sum(int(stage["num_tasks"]) for stage in stages),
        "task_seconds": sum(int(stage["executor_run_time"]) for stage in stages) / 1e3,
        "shuffled_megabytes": sum(int(stage["shuffle_write_bytes"]) for stage in stages) / 1e6,
        "skew": skew(page, max(stages, key=lambda stage: int(stage["executor_run_time"]))),
        "overhead_per_stage": (seconds - at_best) / len(stages),
    }


def skew(page: str, stage: dict) -> float:
    """The longest task of a stage, in medians."""
    place = f"stages/{stage['stage_id']}/{stage['attempt_id']}/taskSummary?quantiles=0.5,1"
    summary = engines.rest(page, place)
    middle_, longest = summary["executorRunTime"] if summary else (0, 0)
    return longest / middle_ if middle_ else 1.0


def by_polars(data: Path, rounds: int) -> list[float]:
    """Seconds of py-polars, whose engine is the notebooks', in a process of its own."""
    text = commands.SQL
    command = [sys.executable, str(POLARS), str(data), str(text), str(rounds + 1)]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    return [float(line) for line in result.stdout.split()]


def table(path: Path) -> list[dict]:
    """A CSV file."""
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def middle(seconds: list[float]) -> float:
    return round(statistics.median(seconds), 3)


def save(rows: list[dict]) -> None:
    lines = [",".join(COLUMNS)]
    for row in rows:
        values = (row.get(name, "") for name in COLUMNS)
        lines.append(",".join(f"{v:.3f}" if isinstance(v, float) else str(v) for v in values))
    write(paths.OUTPUTS / "cluster" / "scale.csv", "\n".join(lines) + "\n")
