"""The Python side of `./justw bench queries`, for any release of polars.

Reads lines `QUERY ENGINE` from stdin, and prints the seconds that each query took. The queries are
those of 02a_lazy_join, on the dataset in $WEARABLE_DATA_DIR.
"""

import os
import sys
import time
from pathlib import Path

import polars as pl

data = Path(os.environ["WEARABLE_DATA_DIR"])
users = pl.scan_parquet(data / "user_profile.parquet")
sleep_diary = pl.scan_parquet(data / "sleep_diary.parquet")
sensor = pl.SQLContext(sensor_raw=pl.scan_parquet(data / "sensor_hrv" / "*.parquet")).execute(
    "SELECT device_id, ts_start, hrv_sdnn, hrv_rmssd, heart_rate, steps "
    "FROM sensor_raw WHERE missingness_score <= 0.35"
)
number = pl.col("device_id").str.split("-").list.get(1)
hour = pl.col("ts_start").dt.hour()
nightly = (
    sensor.with_columns(user_id="USER-" + number, date=pl.col("ts_start").dt.date())
    .filter(hour.is_between(22, 23) | hour.is_between(0, 6))
    .group_by("user_id", "date")
    .agg(
        num_segments=pl.len(),
        night_mean_hr=pl.mean("heart_rate"),
        night_mean_sdnn=pl.mean("hrv_sdnn"),
        night_mean_rmssd=pl.mean("hrv_rmssd"),
        night_steps=pl.sum("steps"),
    )
)
profile = users.select("user_id", "age", "gender", "occupation")
joined = sleep_diary.join(nightly, on=["user_id", "date"]).join(profile, on="user_id", how="left")
summary = (
    joined.group_by("occupation", "gender")
    .agg(
        n_nights=pl.len(),
        avg_sleep_efficiency=pl.mean("sleep_efficiency"),
        avg_night_sdnn=pl.mean("night_mean_sdnn"),
        corr_sleep_sdnn=pl.corr("sleep_efficiency", "night_mean_sdnn"),
    )
    .sort("occupation", "gender")
)
queries = {"summary": summary, "sorted": joined.sort("user_id", "date")}
for line in sys.stdin:
    query, engine = line.split()
    start = time.perf_counter()
    queries[query].collect(engine=engine)
    print(time.perf_counter() - start, flush=True)
