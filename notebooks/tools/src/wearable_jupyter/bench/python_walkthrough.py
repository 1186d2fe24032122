"""The Python side of `./justw bench kernel`: the steps of the original walkthrough, for ipykernel.

Each `# %%` starts a cell, a convention of many editors. The cells read the small dataset in
$WEARABLE_DATA_DIR and write nothing.
"""

# %%
import os
import time
from pathlib import Path

import polars as pl

data = Path(os.environ["WEARABLE_DATA_DIR"])

# %%
users = pl.scan_parquet(data / "user_profile.parquet")
sleep = pl.scan_parquet(data / "sleep_diary.parquet")
sensor_raw = pl.scan_parquet(data / "sensor_hrv" / "*.parquet")
print(sensor_raw.collect_schema())

# %%
kept = ["device_id", "ts_start", "hrv_sdnn", "hrv_rmssd", "heart_rate", "steps"]
by_expression = sensor_raw.filter(pl.col("missingness_score") <= 0.35).select(kept)
by_sql = pl.SQLContext(sensor_raw=sensor_raw).execute(
    f"SELECT {', '.join(kept)} FROM sensor_raw WHERE missingness_score <= 0.35"
)
print(by_expression.explain())
print(by_sql.explain())

# %%
number = pl.col("device_id").str.split("-").list.get(1)
hour = pl.col("ts_start").dt.hour()
nightly = (
    by_sql.with_columns(user_id="USER-" + number, date=pl.col("ts_start").dt.date())
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
joined = sleep.join(nightly, on=["user_id", "date"]).join(profile, on="user_id", how="left")

# %%
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
print(summary.explain())

# %%
start = time.perf_counter()
streaming = summary.collect(engine="streaming")
streaming_seconds = time.perf_counter() - start
streaming.head(10)

# %%
start = time.perf_counter()
default = summary.collect()
default_seconds = time.perf_counter() - start

# %%
import altair as alt  # noqa: E402

seconds = pl.DataFrame(
    {"engine": ["streaming", "default"], "seconds": [streaming_seconds, default_seconds]}
)
alt.Chart(seconds).mark_bar().encode(x="engine:N", y="seconds:Q")

# %%
in_order = joined.sort("user_id", "date")
print(in_order.explain())
print(in_order.collect(engine="streaming").height)

# %%
shown = ["sleep_efficiency", "night_mean_sdnn", "occupation", "gender"]
nights = in_order.select(shown).collect().sample(2000, shuffle=True, seed=42)
alt.Chart(nights).mark_circle(opacity=0.3, size=30).encode(
    x="sleep_efficiency:Q", y="night_mean_sdnn:Q", color="gender:N"
)
