"""Run the query with py-polars' streaming engine and print the seconds of each run.

Arguments: the dataset's folder, the file with the SQL text, and the number of runs.
"""

import sys
import time
from pathlib import Path

import polars as pl

data, sql, runs = Path(sys.argv[1]), Path(sys.argv[2]).read_text(), int(sys.argv[3])
for _ in range(runs):
    started = time.perf_counter()
    context = pl.SQLContext(
        sensor_hrv=pl.scan_parquet(data / "sensor_hrv" / "**/*.parquet"),
        sleep_diary=pl.scan_parquet(data / "sleep_diary.parquet"),
        user_profile=pl.scan_parquet(data / "user_profile.parquet"),
    )
    context.execute(sql).collect(engine="streaming")
    print(time.perf_counter() - started)
