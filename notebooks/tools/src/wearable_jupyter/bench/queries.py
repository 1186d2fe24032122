"""How quick the walkthrough's queries are in a kernel, beside the same in Python.

Not a test: times depend on the machine and on what else it does. Compare what one call prints.
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
let diary: LazyFrame = scan_sleep_diary(&data)?;
let users: LazyFrame = scan_user_profile(&data)?;
let sensor: LazyFrame = query::quality_filter_sql(&scan_sensor_hrv(&data)?)?;
let nightly: LazyFrame = query::nightly(&query::night_segments(&query::with_keys(&sensor)));
let joined: LazyFrame = query::joined(&diary, &nightly, &users);
let summary: LazyFrame = query::summary(&joined);
let sorted: LazyFrame = query::global_sort(&joined);
fn rewritten(diary: &LazyFrame, nightly: LazyFrame, users: &LazyFrame) -> LazyFrame {
    query::summary(&query::joined(diary, &nightly, users))
}
let by_device: LazyFrame = rewritten(&diary, query::nightly_by_device(&sensor), &users);
let by_arithmetic: LazyFrame = rewritten(&diary, query::nightly_by_arithmetic(&sensor), &users);
"""
RUST_TIMED = """\
println!("{{}}", {{
    let start = std::time::Instant::now();
    {query}.clone().collect_with_engine(Engine::{engine})?;
    start.elapsed().as_secs_f64()
}});
"""
SAME = """\
ensure(
    frames_equal(&summary.clone().collect()?, &by_device.clone().collect()?)
        && frames_equal(&summary.clone().collect()?, &by_arithmetic.clone().collect()?),
    "the rewritten queries give the same summary",
)?;
"""
ENGINES = {"streaming": "Streaming", "in-memory": "InMemory"}
# Our query, Python's, the engine.
PAIRS = [
    *(("summary", "summary", engine) for engine in ENGINES),
    *(("sorted", "sorted", engine) for engine in ENGINES),
    ("by_device", "summary", "streaming"),
    ("by_arithmetic", "summary", "streaming"),
]


def queries(rounds: int = 9) -> None:
    """Time queries on 10,000,000 rows inside a kernel, in turns with two releases of py-polars.

    First that which has the same engine as the crates, then the newest when this was written, in an
    environment of its own. Python runs the queries as the walkthrough has them, also beside ours
    that are rewritten. The ratio is the median of each pair's.
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
            print(printed(client, SAME).strip())
            for ours, theirs, engine in PAIRS:
                cell = RUST_TIMED.format(query=ours, engine=ENGINES[engine])
                seconds = []
                for _ in range(rounds + 1):
                    python = [ask(peer, f"{theirs} {engine}") for peer in peers]
                    seconds.append((float(printed(client, cell)), *python))
                seconds = seconds[1:]  # the first of each warms up
                for number, measured in enumerate(rows):
                    pairs = [(turn[0], turn[1 + number]) for turn in seconds]
                    rust, python = map(statistics.median, zip(*pairs, strict=True))
                    ratio = statistics.median(a / b for a, b in pairs)
                    measured.append(Row(f"{ours}, {engine}", rust, python, ratio))
                print(f"{ours}, {engine}: measured {rounds} times", flush=True)
        finally:
            for peer in peers:
                peer.stdin.close()
                peer.wait()
            client.stop_channels()
            manager.shutdown_kernel(now=True)
    for python, measured in zip((Path(sys.executable), newest), rows, strict=True):
        print(f"\nBeside py-polars {version(python)}:", end="")
        show(measured)


def python_queries(python: Path) -> subprocess.Popen:
    """A process that runs the queries with the polars of `python`."""
    script = HERE / "python_queries.py"
    pipe = subprocess.PIPE
    return subprocess.Popen([python, script], stdin=pipe, stdout=pipe, text=True)


def ask(peer: subprocess.Popen, line: str) -> float:
    """The seconds that it answers with."""
    peer.stdin.write(f"{line}\n")
    peer.stdin.flush()
    return float(peer.stdout.readline())


def version(python: Path) -> str:
    """The release of its polars."""
    code = "import polars; print(polars.__version__)"
    result = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True)
    return result.stdout.strip()
