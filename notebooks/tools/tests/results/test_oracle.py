"""Results equal what DuckDB and py-polars compute from the same files, to 1e-9 relative."""

import datetime as dt
import math
from pathlib import Path

import oracle
import polars as pl
import pytest

from wearable_jupyter.setup import build

ENGINES = ("streaming", "in_memory")
FILTERS = ("expression", "sql")


def same(a: object, b: object) -> bool:
    """Equal, floats to 1e-9; a correlation that is not defined is NaN to some, null to others."""
    undefined = [x is None or (isinstance(x, float) and math.isnan(x)) for x in (a, b)]
    if any(undefined):
        return all(undefined)
    if isinstance(a, float) or isinstance(b, float):
        return math.isclose(a, b, rel_tol=1e-9, abs_tol=1e-12)
    return a == b


def assert_same(ours: list[tuple], theirs: list[tuple], what: str) -> None:
    assert len(ours) == len(theirs), what
    for row, (mine, other) in enumerate(zip(ours, theirs, strict=True)):
        for column, (a, b) in enumerate(zip(mine, other, strict=True)):
            assert same(a, b), f"{what}, row {row}, column {column}: {a!r} is not {b!r}"


def write(data: Path, users: pl.DataFrame, diary: pl.DataFrame, sensor: pl.DataFrame) -> None:
    (data / "sensor_hrv").mkdir(parents=True)
    users.write_parquet(data / "user_profile.parquet")
    diary.write_parquet(data / "sleep_diary.parquet")
    # Two parts, so that there is something to put together; the second may be empty.
    half = (len(sensor) + 1) // 2
    sensor.head(half).write_parquet(data / "sensor_hrv" / "part-00000.parquet")
    sensor.tail(len(sensor) - half).write_parquet(data / "sensor_hrv" / "part-00001.parquet")


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """A generated dataset of 20,000 sensor rows, as frames to change."""
    directory = tmp_path_factory.mktemp("tiny")
    build.run_binary("generate_demo_data", "--rows", "20000", "--output-dir", str(directory))
    return (
        pl.read_parquet(directory / "user_profile.parquet"),
        pl.read_parquet(directory / "sleep_diary.parquet"),
        pl.read_parquet(directory / "sensor_hrv" / "*.parquet"),
    )


def one_user(users, diary, sensor):
    return users.head(1), diary, sensor.filter(pl.col("device_id") == "DEV-00000")


def one_row(users, diary, sensor):
    night = sensor.filter(pl.col("ts_start").dt.hour() == 22, pl.col("missingness_score") <= 0.35)
    return users, diary, night.head(1)


def no_night_row(users, diary, sensor):
    return users, diary, sensor.filter(pl.col("ts_start").dt.hour().is_between(7, 21))


def all_filtered_out(users, diary, sensor):
    return users, diary, sensor.with_columns(missingness_score=pl.lit(0.9))


def on_the_edges(users, diary, sensor):
    """Scores of exactly 0.35 and times to the microsecond around the night's edges."""
    edges = [dt.time(6, 59, 59, 999_999), dt.time(7), dt.time(21, 59, 59, 999_999), dt.time(22)]
    times = [dt.datetime.combine(dt.date(2024, 1, 1 + i // 4), edges[i % 4]) for i in range(80)]
    return (
        users,
        diary,
        sensor.head(80).with_columns(
            ts_start=pl.Series(times, dtype=pl.Datetime("us")), missingness_score=pl.lit(0.35)
        ),
    )


def null_values(users, diary, sensor):
    def holes(frame, step, *columns):
        row = pl.int_range(pl.len())
        return frame.with_columns(
            pl.when((row + shift) % step != 0).then(pl.col(name)).alias(name)
            for shift, name in enumerate(columns)
        )

    return (
        holes(users, 5, "gender", "occupation", "age"),
        holes(diary, 7, "sleep_efficiency", "date", "user_id"),
        holes(
            sensor,
            11,
            *("hrv_sdnn", "heart_rate", "steps", "hrv_rmssd"),
            *("missingness_score", "ts_start", "device_id"),
        ),
    )


def user_in_no_diary(users, diary, sensor):
    return users, diary.filter(pl.col("user_id") != "USER-00003"), sensor


def user_without_profile(users, diary, sensor):
    return users.filter(pl.col("user_id") != "USER-00003"), diary, sensor


def unchanged(users, diary, sensor):
    return users, diary, sensor


CASES = (
    unchanged,
    one_user,
    one_row,
    no_night_row,
    all_filtered_out,
    on_the_edges,
    null_values,
    user_in_no_diary,
    user_without_profile,
)


def check(data: Path, outputs: Path) -> int:
    """Run the library's queries on `data` and compare every result; returns the joined rows."""
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
        ours = pl.read_parquet(outputs / f"{name}.parquet").rows()
        for theirs, whose in zip(expected[query], ("DuckDB", "py-polars"), strict=True):
            assert_same(ours, theirs, f"{name} against {whose}")
    # The joined table has no order of its own.
    for quality_filter in FILTERS:
        for engine in ENGINES:
            frame = pl.read_parquet(outputs / f"joined.{quality_filter}.{engine}.parquet")
            rows = frame.sort("user_id", "date").rows()
            assert_same(rows, expected["global_sort"][0], f"joined.{quality_filter}.{engine}")
    return len(expected["global_sort"][0])


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_edge_cases(case, tiny, tmp_path):
    write(tmp_path / "data", *case(*tiny))
    rows = check(tmp_path / "data", tmp_path / "outputs")
    assert (rows == 0) == (case in (no_night_row, all_filtered_out)), rows
    if case is one_row:
        assert rows == 1


@pytest.mark.parametrize("layout", ["unsorted", "by-device", "by-date"])
def test_each_layout(layout, tmp_path):
    options = ("--rows", "20000", "--chunk-rows", "7000", "--layout", layout)
    build.run_binary("generate_demo_data", *options, "--output-dir", str(tmp_path / "data"))
    assert check(tmp_path / "data", tmp_path / "outputs") > 1000


def test_the_small_dataset(small_data, tmp_path):
    assert check(small_data, tmp_path) == 5250


def test_the_comparison_can_fail(small_data):
    """A result that is off by one in the ninth digit, or in another order, is noticed."""
    rows = oracle.summary(small_data)
    off = [(*rows[0][:3], rows[0][3] * (1 + 3e-9), *rows[0][4:]), *rows[1:]]
    for wrong in (off, [rows[1], rows[0], *rows[2:]], rows[1:]):
        with pytest.raises(AssertionError):
            assert_same(wrong, rows, "wrong")
