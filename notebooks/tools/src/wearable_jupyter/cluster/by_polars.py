"""The query by py-polars, streaming: DATA TEXT TIMES; prints the seconds of each time."""

import sys
import time
from pathlib import Path

import polars as pl

data, text, times = Path(sys.argv[1]), Path(sys.argv[2]).read_text(), int(sys.argv[3])
for _ in range(times):
    started = time.perf_counter()
    context = pl.SQLContext(
        sensor_hrv=pl.scan_parquet(data / "sensor_hrv" / "**/*.parquet"),
        sleep_diary=pl.scan_parquet(data / "sleep_diary.parquet"),
        user_profile=pl.scan_parquet(data / "user_profile.parquet"),
    )
    context.execute(text).collect(engine="streaming")
    print(time.perf_counter() - started)
