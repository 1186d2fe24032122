"""`./justw bench queries`: time the walkthrough's queries in a Rust kernel and in Python.

Not a test: times depend on the machine and its load. Compare only numbers of one run.
"""

import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from ..kernel.spec import start_kernel
from ..kernel.template import prepare
from ..setup import paths
from ..setup.build import run_binary
from ..setup.venvs import ensure_venv
from .measure import RUST_FIRST, printed
from .table import Row, show

HERE = Path(__file__).parent
RUST_QUERIES = """\
let data = std::path::PathBuf::from(std::env::var("WEARABLE_DATA_DIR")?);
let sleep_diary: LazyFrame = scan_sleep_diary(&data)?;
let users: LazyFrame = scan_user_profile(&data)?;
let sensor: LazyFrame = query::quality_filter_sql(&scan_sensor_hrv(&data)?)?;
let nightly: LazyFrame = query::nightly(&query::night_segments(&query::with_keys(&sensor)));
let joined: LazyFrame = query::joined(&sleep_diary, &nightly, &users);
let summary: LazyFrame = query::summary(&joined);
let sorted: LazyFrame = query::global_sort(&joined);
fn rewritten(sleep_diary: &LazyFrame, nightly: LazyFrame, users: &LazyFrame) -> LazyFrame {
    query::summary(&query::joined(sleep_diary, &nightly, users))
}
let by_device: LazyFrame =
    rewritten(&sleep_diary, query::nightly_by_device(&sensor), &users);
let by_arithmetic: LazyFrame =
    rewritten(&sleep_diary, query::nightly_with_integer_time(&sensor), &users);
"""
RUST_TIMED = """\
println!("{{}}", {{
    let start = std::time::Instant::now();
    {query}.clone().collect_with_engine(Engine::{engine})?;
    start.elapsed().as_secs_f64()
}});
"""
ENSURE_EQUAL = """\
ensure(
    frames_equal(&summary.clone().collect()?, &by_device.clone().collect()?)
        && frames_equal(&summary.clone().collect()?, &by_arithmetic.clone().collect()?),
    "the rewritten queries give the same summary",
)?;
"""
ENGINES = {"streaming": "Streaming", "in-memory": "InMemory"}
# Rust query, Python query, engine.
COMPARISONS = [
    *(("summary", "summary", engine) for engine in ENGINES),
    *(("sorted", "sorted", engine) for engine in ENGINES),
    ("by_device", "summary", "streaming"),
    ("by_arithmetic", "summary", "streaming"),
]


def queries(rounds: int = 9) -> None:
    """Time queries on 10,000,000 rows in a Rust kernel, alternating with two releases of py-polars.

    The first release has the same engine as the crates. The second is the newest at the time of
    writing, in its own virtual environment. Python always runs the walkthrough's queries, even
    if the Rust query is rewritten. The printed ratio is the median of the rounds' ratios.
    """
    prepare()
    newest = ensure_venv("newest", HERE / "newest.txt") / "python"
    paths.TARGET.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bench-", dir=paths.TARGET) as data:
        os.environ["WEARABLE_DATA_DIR"] = data
        run_binary("generate_demo_data", "--size", "large", "--output-dir", data)
        manager, client = start_kernel(cwd=str(paths.NOTEBOOKS))
        peers = [python_queries(Path(sys.executable)), python_queries(newest)]
        rows: list[list[Row]] = [[], []]
        try:
            printed(client, RUST_FIRST[0])
            printed(client, RUST_QUERIES)
            print(printed(client, ENSURE_EQUAL).strip())
            for rust_query, python_query, engine in COMPARISONS:
                cell = RUST_TIMED.format(query=rust_query, engine=ENGINES[engine])
                seconds = []
                for _ in range(rounds + 1):
                    python = [time_query(peer, f"{python_query} {engine}") for peer in peers]
                    seconds.append((float(printed(client, cell)), *python))
                seconds = seconds[1:]  # the first round warms up
                for number, measured in enumerate(rows):
                    pairs = [(turn[0], turn[1 + number]) for turn in seconds]
                    rust, python = map(statistics.median, zip(*pairs, strict=True))
                    ratio = statistics.median(a / b for a, b in pairs)
                    measured.append(Row(f"{rust_query}, {engine}", rust, python, ratio))
                print(f"{rust_query}, {engine}: measured {rounds} times", flush=True)
        finally:
            for peer in peers:
                peer.stdin.close()
                peer.wait()
            client.stop_channels()
            manager.shutdown_kernel(now=True)
    for python, measured in zip((Path(sys.executable), newest), rows, strict=True):
        print(f"\nRust and py-polars {version(python)}:", end="")
        show(measured)


def python_queries(python: Path) -> subprocess.Popen:
    """Start a process that runs queries with the polars of the interpreter `python`."""
    script = HERE / "python_queries.py"
    pipe = subprocess.PIPE
    return subprocess.Popen([python, script], stdin=pipe, stdout=pipe, text=True)


def time_query(peer: subprocess.Popen, line: str) -> float:
    """Run a query in a process of `python_queries`; `line` is `QUERY ENGINE`. Return seconds."""
    peer.stdin.write(f"{line}\n")
    peer.stdin.flush()
    return float(peer.stdout.readline())


def version(python: Path) -> str:
    """Return the polars release of the interpreter `python`."""
    code = "import polars; print(polars.__version__)"
    result = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True)
    return result.stdout.strip()
