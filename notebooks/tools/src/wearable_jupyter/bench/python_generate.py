"""The Python side of `./justw bench generate`: generate the same tables with numpy and polars.

    python python_generate.py [--write-only] ROWS DIRECTORY

Generates whole columns, in parts of 200,000 rows, with the rules and the rounding of the Rust
generator but with other random numbers. Prints the seconds that it took.

With `--write-only`, generates one part and prints the seconds that polars needs to write it until
ROWS rows are written. This is the lower bound for a generator that writes polars frames.
"""

import datetime as dt
import sys
import time
from pathlib import Path

import numpy as np
import polars as pl

DAYS, CHUNK_ROWS, ROW_GROUP_ROWS = 35, 200_000, 100_000
FIRST_DAY = dt.date(2024, 1, 1)
NIGHT, DAY = [-10] * 4 + [-9, -8, -6, -4, -2], [0, 0, 0, 1, 1, 0, 0, 0, 0, 2, 2, 2, 1, 0, -2]
CIRCADIAN = np.array(NIGHT + DAY)
MINUTE_US, HOUR_NS = 60_000_000, 3_600_000_000_000


def users(count: int, rng: np.random.Generator) -> tuple[pl.DataFrame, dict]:
    """Return user_profile, and per-user parameters for the sensor table."""

    def labels(*names: str):
        return np.array(names)[rng.integers(0, len(names), count)]

    age = rng.integers(18, 66, count)
    weight = rng.uniform(45, 120, count).round(1)
    exercise = rng.integers(0, 8, count)
    profile = pl.DataFrame(
        {
            "user_id": [f"USER-{n:05}" for n in range(count)],
            "age": age,
            "gender": labels("Female", "Male", "Non-binary"),
            "height_cm": rng.uniform(150, 200, count).round(1),
            "weight_kg": weight,
            "occupation": labels("Driver", "Engineer", "Nurse", "Office", "Student", "Teacher"),
            "lifestyle_regularity": labels("Regular", "Mixed", "Irregular"),
            "exercise_freq_weekly": exercise,
            "smoking_freq": labels("Never", "Occasionally", "Daily"),
            "alcohol_freq": labels("Never", "Monthly", "Weekly", "Daily"),
            "coffee_freq": labels("Never", "Weekly", "Daily", "Several a day"),
        }
    )
    resting = 62 + 0.22 * (age - 30) + 0.08 * (weight - 70) - 1.4 * exercise
    low_high = rng.choice(3, count, p=[0.25, 0.55, 0.20])
    sigma = np.array([[2, 5], [5, 10], [10, 18]])[low_high]
    daily = np.array([[0.5, 2], [2, 5], [5, 10]])[low_high]
    day_sigma = rng.uniform(daily[:, 0], daily[:, 1])
    body = {
        "age": age,
        "resting": np.clip(resting + rng.normal(0, 5.5, count), 45, 105),
        "sigma": rng.uniform(sigma[:, 0], sigma[:, 1]),
        "day": rng.normal(0, day_sigma[:, None], (count, DAYS)),
        "scale": np.clip(rng.lognormal(0, 0.35, count) * (0.9 + 0.04 * exercise), 0.6, 2.2),
        "sensitivity": rng.uniform(0.06, 0.14, count),
    }
    return profile, body


def sleep_diary(profile: pl.DataFrame, rng: np.random.Generator) -> pl.DataFrame:
    """Return sleep_diary, with one row per user and day."""
    rows = profile.height * DAYS
    over_18 = np.repeat(profile["age"].to_numpy(), DAYS) - 18
    bed = np.floor(np.clip(23 - 0.02 * over_18 + rng.uniform(-1.5, 1.5, rows), 20, 23))
    hours = np.clip(8 - 0.03 * over_18 + rng.uniform(-2, 2, rows), 4, 12)
    waso = np.where(rng.random(rows) < 0.3, rng.integers(0, 31, rows), 0)
    latency = np.where(rng.random(rows) < 0.3, rng.uniform(0, 30, rows), 0.0)
    duration = (hours - waso / 60).round(2)
    asleep = bed + latency / 60
    time_of_day = {"bedtime": bed, "fall_asleep_time": asleep, "wake_time": asleep + hours}
    return pl.DataFrame(
        {
            "user_id": np.repeat(profile["user_id"].to_numpy(), DAYS),
            "date": [FIRST_DAY + dt.timedelta(day) for day in range(DAYS)] * profile.height,
            **{name: (h % 24 * HOUR_NS).astype(np.int64) for name, h in time_of_day.items()},
            "waso_minutes": waso,
            "sleep_duration": duration,
            "sleep_efficiency": np.minimum((duration / (latency / 60 + hours) * 100).round(1), 100),
            "sleep_latency": latency,
        }
    ).with_columns(pl.col(*time_of_day).cast(pl.Time))


def sensor(devices: pl.Series, body: dict, rows: int, rng: np.random.Generator) -> pl.DataFrame:
    """Return a part of sensor_hrv with `rows` rows."""
    user = rng.integers(0, len(devices), rows)
    segment = rng.integers(0, DAYS * 288, rows)
    day, hour = segment // 288, segment // 12 % 24
    charging = hour < 6
    activity = np.ones(rows)
    for hours, low, high in (((9, 17), 1.2, 2.0), ((18, 22), 1.0, 1.5)):
        at = (hour >= hours[0]) & (hour <= hours[1])
        activity[at] *= rng.uniform(low, high, at.sum())
    activity = np.clip(activity * body["scale"][user], 0.6, 3)
    steps = np.floor(rng.uniform(0, 50, rows) * activity)
    steps[charging] = np.floor(steps[charging] * 0.2)
    resting = body["resting"][user]
    rate = resting + body["day"][user, day] + CIRCADIAN[hour] + 4 * (activity - 1)
    rate += steps * body["sensitivity"][user] + rng.normal(0, 1, rows) * body["sigma"][user]
    rate = np.clip(np.round(rate), 40, 220)
    sdnn = (
        100 - 0.5 * (body["age"][user] - 18) + rng.uniform(-30, 30, rows) - 0.1 * (rate - resting)
    )
    sdnn = np.clip(sdnn, 20, 200)
    missing = rng.uniform(0, 0.4, rows)
    missing[charging] += rng.uniform(0.3, 0.7, charging.sum())
    start = segment * 5 * MINUTE_US + (FIRST_DAY - dt.date(1970, 1, 1)).days * 86_400_000_000
    return pl.DataFrame(
        {
            "device_id": devices.gather(user),
            "ts_start": start,
            "ts_end": start + 5 * MINUTE_US,
            "heart_rate": rate.astype(np.int64),
            "hrv_sdnn": sdnn.round(2),
            "hrv_rmssd": np.clip(0.7 * sdnn + rng.uniform(-10, 10, rows), 10, 150).round(2),
            "hrv_lf_hf_ratio": np.clip(1 + rng.uniform(-0.7, 1, rows), 0.3, 3).round(3),
            "bvp_mean": rng.uniform(0.3, 1.5, rows).round(3),
            "spo2": rng.uniform(95, 100, rows).round(1),
            "eda_mean": (rng.uniform(0.2, 2, rows) * activity).round(3),
            "skin_temp": rng.uniform(32, 36, rows).round(1),
            "acc_magnitude": (
                rng.uniform(0.05, 0.5, rows) * activity * np.where(charging, 0.5, 1)
            ).round(3),
            "steps": steps.astype(np.int64),
            "missingness_score": np.clip(missing, 0, 1).round(3),
        }
    ).with_columns(pl.col("ts_start", "ts_end").cast(pl.Datetime("us")))


def main(rows: int, directory: Path, write_only: bool) -> None:
    rng = np.random.default_rng(42)
    options = {"compression": "snappy", "row_group_size": ROW_GROUP_ROWS}
    parts = directory / "sensor_hrv"
    parts.mkdir(parents=True)
    start = time.perf_counter()
    profile, body = users(1000 if rows >= 5_000_000 else 150, rng)
    profile.write_parquet(directory / "user_profile.parquet", **options)
    sleep_diary(profile, rng).write_parquet(directory / "sleep_diary.parquet", **options)
    devices = profile["user_id"].str.replace("USER", "DEV")
    table = sensor(devices, body, CHUNK_ROWS, rng) if write_only else None
    if write_only:
        start = time.perf_counter()
    for part in range(-(-rows // CHUNK_ROWS)):
        if not write_only:
            left = min(CHUNK_ROWS, rows - part * CHUNK_ROWS)
            table = sensor(devices, body, left, rng)
        table.write_parquet(parts / f"part-{part:05}.parquet", **options)
    seconds = time.perf_counter() - start
    print(seconds)


if __name__ == "__main__":
    main(int(sys.argv[-2]), Path(sys.argv[-1]), "--write-only" in sys.argv)
