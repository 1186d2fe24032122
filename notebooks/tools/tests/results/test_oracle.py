"""Results equal those of DuckDB and py-polars on the same files, within 1e-9 relative."""

import datetime as dt
import math
from pathlib import Path

import oracle
import polars as pl
import pytest

from wearable_jupyter.setup import build

ENGINES = ("streaming", "in_memory")
FILTERS = ("expression", "sql")


def values_equal(a: object, b: object) -> bool:
    """Compare values, floats within 1e-9. NaN equals null: engines differ for undefined results."""
    undefined = [x is None or (isinstance(x, float) and math.isnan(x)) for x in (a, b)]
    if any(undefined):
        return all(undefined)
    if isinstance(a, float) or isinstance(b, float):
        return math.isclose(a, b, rel_tol=1e-9, abs_tol=1e-12)
    return a == b


def assert_rows_equal(actual: list[tuple], expected: list[tuple], name: str) -> None:
    assert len(actual) == len(expected), name
    for row, pair in enumerate(zip(actual, expected, strict=True)):
        for column, (a, b) in enumerate(zip(*pair, strict=True)):
            assert values_equal(a, b), f"{name}, row {row}, column {column}: {a!r} is not {b!r}"


def write(data: Path, users: pl.DataFrame, sleep_diary: pl.DataFrame, sensor: pl.DataFrame) -> None:
    (data / "sensor_hrv").mkdir(parents=True)
    users.write_parquet(data / "user_profile.parquet")
    sleep_diary.write_parquet(data / "sleep_diary.parquet")
    # Two parts, because a scan must concatenate them. The second part may be empty.
    half = (len(sensor) + 1) // 2
    sensor.head(half).write_parquet(data / "sensor_hrv" / "part-00000.parquet")
    sensor.tail(len(sensor) - half).write_parquet(data / "sensor_hrv" / "part-00001.parquet")


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """The frames of a generated dataset with 20,000 sensor rows, which each case modifies."""
    directory = tmp_path_factory.mktemp("tiny")
    build.run_binary("generate_demo_data", "--rows", "20000", "--output-dir", str(directory))
    return (
        pl.read_parquet(directory / "user_profile.parquet"),
        pl.read_parquet(directory / "sleep_diary.parquet"),
        pl.read_parquet(directory / "sensor_hrv" / "*.parquet"),
    )


def one_user(users, sleep_diary, sensor):
    return users.head(1), sleep_diary, sensor.filter(pl.col("device_id") == "DEV-00000")


def one_row(users, sleep_diary, sensor):
    night = sensor.filter(pl.col("ts_start").dt.hour() == 22, pl.col("missingness_score") <= 0.35)
    return users, sleep_diary, night.head(1)


def no_night_row(users, sleep_diary, sensor):
    return users, sleep_diary, sensor.filter(pl.col("ts_start").dt.hour().is_between(7, 21))


def all_filtered_out(users, sleep_diary, sensor):
    return users, sleep_diary, sensor.with_columns(missingness_score=pl.lit(0.9))


def on_the_limits(users, sleep_diary, sensor):
    """Scores of exactly 0.35, and times one microsecond before and at the night's limits."""
    edges = [dt.time(6, 59, 59, 999_999), dt.time(7), dt.time(21, 59, 59, 999_999), dt.time(22)]
    times = [dt.datetime.combine(dt.date(2024, 1, 1 + i // 4), edges[i % 4]) for i in range(80)]
    return (
        users,
        sleep_diary,
        sensor.head(80).with_columns(
            ts_start=pl.Series(times, dtype=pl.Datetime("us")), missingness_score=pl.lit(0.35)
        ),
    )


def null_values(users, sleep_diary, sensor):
    def with_nulls(frame, step, *columns):
        row = pl.int_range(pl.len())
        return frame.with_columns(
            pl.when((row + shift) % step != 0).then(pl.col(name)).alias(name)
            for shift, name in enumerate(columns)
        )

    return (
        with_nulls(users, 5, "gender", "occupation", "age"),
        with_nulls(sleep_diary, 7, "sleep_efficiency", "date", "user_id"),
        with_nulls(
            sensor,
            11,
            *("hrv_sdnn", "heart_rate", "steps", "hrv_rmssd"),
            *("missingness_score", "ts_start", "device_id"),
        ),
    )


def user_without_sleep_diary(users, sleep_diary, sensor):
    return users, sleep_diary.filter(pl.col("user_id") != "USER-00003"), sensor


def user_without_profile(users, sleep_diary, sensor):
    return users.filter(pl.col("user_id") != "USER-00003"), sleep_diary, sensor


def unchanged(users, sleep_diary, sensor):
    return users, sleep_diary, sensor


CASES = (
    unchanged,
    one_user,
    one_row,
    no_night_row,
    all_filtered_out,
    on_the_limits,
    null_values,
    user_without_sleep_diary,
    user_without_profile,
)


def check(data: Path, outputs: Path) -> int:
    """Run the library's queries on `data` and compare all results. Return the joined row count."""
    build.run_binary(
        "run_queries",
        example=True,
        WEARABLE_DATA_DIR=str(data),
        WEARABLE_OUTPUT_DIR=str(outputs),
    )
    expected = {
        "summary": (oracle.by_duckdb(data, oracle.SUMMARY), oracle.summary(data)),
        "global_sort": (oracle.by_duckdb(data, oracle.SORTED), oracle.sorted_joined(data)),
    }
    expected["sort_within_users"] = expected["global_sort"]
    files = [(query, f, e) for query in expected for f in FILTERS for e in ENGINES]
    files += [("summary", f, "sink") for f in FILTERS]
    for query, quality_filter, engine in files:
        name = f"{query}.{quality_filter}.{engine}"
        actual = pl.read_parquet(outputs / f"{name}.parquet").rows()
        for rows, engine in zip(expected[query], ("DuckDB", "py-polars"), strict=True):
            assert_rows_equal(actual, rows, f"{name} against {engine}")
    # The rows of the joined table have no defined order.
    for quality_filter in FILTERS:
        for engine in ENGINES:
            frame = pl.read_parquet(outputs / f"joined.{quality_filter}.{engine}.parquet")
            rows = frame.sort("user_id", "date").rows()
            assert_rows_equal(rows, expected["global_sort"][0], f"joined.{quality_filter}.{engine}")
    return len(expected["global_sort"][0])


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_edge_case_matches_other_engines(case, tiny, tmp_path):
    write(tmp_path / "data", *case(*tiny))
    rows = check(tmp_path / "data", tmp_path / "outputs")
    assert (rows == 0) == (case in (no_night_row, all_filtered_out)), rows
    if case is one_row:
        assert rows == 1


@pytest.mark.parametrize("layout", ["unsorted", "by-device", "by-date"])
def test_layout_matches_other_engines(layout, tmp_path):
    options = ("--rows", "20000", "--chunk-rows", "7000", "--layout", layout)
    build.run_binary("generate_demo_data", *options, "--output-dir", str(tmp_path / "data"))
    assert check(tmp_path / "data", tmp_path / "outputs") > 1000


def test_small_dataset_matches_other_engines(small_data, tmp_path):
    assert check(small_data, tmp_path) == 5250


def test_comparison_detects_wrong_results(small_data):
    """A relative error of 3e-9, another order and a missing row are detected."""
    rows = oracle.summary(small_data)
    off = [(*rows[0][:3], rows[0][3] * (1 + 3e-9), *rows[0][4:]), *rows[1:]]
    for wrong in (off, [rows[1], rows[0], *rows[2:]], rows[1:]):
        with pytest.raises(AssertionError):
            assert_rows_equal(wrong, rows, "wrong")
