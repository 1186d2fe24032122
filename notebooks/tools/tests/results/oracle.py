"""The walkthrough's results computed with DuckDB and py-polars, as independent references."""

from pathlib import Path

import duckdb
import polars as pl

NIGHTLY = """
    with night as (
        select
            'USER-' || string_split(device_id, '-')[2] as user_id,
            ts_start::date as date,
            heart_rate, hrv_sdnn, hrv_rmssd, steps
        from sensor_hrv
        where missingness_score <= 0.35
          and (hour(ts_start) >= 22 or hour(ts_start) <= 6)
    ),
    nightly as (
        select user_id, date,
            count(*) as num_segments,
            avg(heart_rate) as night_mean_hr,
            avg(hrv_sdnn) as night_mean_sdnn,
            avg(hrv_rmssd) as night_mean_rmssd,
            coalesce(sum(steps), 0) as night_steps
        from night group by all
    ),
    joined as (
        select d.*, n.* exclude (user_id, date), u.age, u.gender, u.occupation
        from sleep_diary d
        join nightly n using (user_id, date)
        left join user_profile u using (user_id)
    )
"""
SUMMARY = """
    select occupation, gender,
        count(*) as n_nights,
        avg(sleep_efficiency) as avg_sleep_efficiency,
        avg(night_mean_sdnn) as avg_night_sdnn,
        corr(sleep_efficiency, night_mean_sdnn) as corr_sleep_sdnn
    from joined
    group by all
    order by occupation nulls first, gender nulls first
"""
SORTED = "select * from joined order by user_id nulls first, date nulls first"


def by_duckdb(data: Path, query: str) -> list[tuple]:
    """Run `query`, which may select from `joined`, on the dataset in `data`. Return its rows."""
    with duckdb.connect() as connection:
        for table in ("user_profile", "sleep_diary"):
            connection.read_parquet(str(data / f"{table}.parquet")).create_view(table)
        # The pattern matches every layout. The date in a folder's name is not a column.
        files = str(data / "sensor_hrv" / "**" / "*.parquet")
        connection.read_parquet(files, hive_partitioning=False).create_view("sensor_hrv")
        return connection.sql(NIGHTLY + query).fetchall()


def joined(data: Path) -> pl.LazyFrame:
    """Return the joined table, computed with py-polars."""
    hour = pl.col("ts_start").dt.hour()
    nightly = (
        pl.scan_parquet(data / "sensor_hrv" / "**" / "*.parquet", hive_partitioning=False)
        .filter(pl.col("missingness_score") <= 0.35, (hour >= 22) | (hour < 7))
        .group_by(
            ("USER-" + pl.col("device_id").str.strip_prefix("DEV-")).alias("user_id"),
            pl.col("ts_start").dt.date().alias("date"),
        )
        .agg(
            num_segments=pl.len(),
            night_mean_hr=pl.col("heart_rate").mean(),
            night_mean_sdnn=pl.col("hrv_sdnn").mean(),
            night_mean_rmssd=pl.col("hrv_rmssd").mean(),
            night_steps=pl.col("steps").sum(),
        )
    )
    users = pl.scan_parquet(data / "user_profile.parquet")
    return (
        pl.scan_parquet(data / "sleep_diary.parquet")
        .join(nightly, on=["user_id", "date"])
        .join(users.select("user_id", "age", "gender", "occupation"), on="user_id", how="left")
    )


def summary(data: Path) -> list[tuple]:
    """Return the rows of the summary, computed with py-polars."""
    return (
        joined(data)
        .group_by("occupation", "gender")
        .agg(
            n_nights=pl.len(),
            avg_sleep_efficiency=pl.col("sleep_efficiency").mean(),
            avg_night_sdnn=pl.col("night_mean_sdnn").mean(),
            corr_sleep_sdnn=pl.corr("sleep_efficiency", "night_mean_sdnn"),
        )
        .sort("occupation", "gender")
        .collect()
        .rows()
    )


def sorted_joined(data: Path) -> list[tuple]:
    """Return the rows of the joined table, sorted by user and date, computed with py-polars."""
    return joined(data).sort("user_id", "date").collect().rows()
