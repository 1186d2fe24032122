//! The walkthrough's query: one function per step, in the order of the steps.
//!
//! Each function takes lazy frames and returns a lazy frame, and runs nothing. The large sensor table
//! is aggregated before it is joined, so that the join gets one row per user and `date` instead of every
//! segment.

use polars::prelude::{
    ClosedInterval, DataType, ExplodeOptions, JoinArgs, JoinType, LazyFrame, SortMultipleOptions,
    all, by_name, col, concat_str, len, lit, pearson_corr,
};
use polars::sql::SQLContext;

use crate::error::{QueryError, Result};

/// Largest `missingness_score` of a segment with good quality.
pub const MAX_MISSINGNESS: f64 = 0.35;

/// [`quality_filter`] as SQL. The table's name is `sensor_raw`.
pub const QUALITY_FILTER_SQL: &str = "
    SELECT device_id, ts_start, hrv_sdnn, hrv_rmssd, heart_rate, steps
    FROM sensor_raw
    WHERE missingness_score <= 0.35
";

/// Keeps segments with good quality: `missingness_score` is at most [`MAX_MISSINGNESS`] and not null.
///
/// In: sensor_hrv. Out: one row per kept segment with `device_id`, `ts_start`, `hrv_sdnn` (ms),
/// `hrv_rmssd` (ms), `heart_rate` (bpm), `steps`.
pub fn quality_filter(sensor_raw: &LazyFrame) -> LazyFrame {
    sensor_raw.clone().filter(col("missingness_score").lt_eq(lit(MAX_MISSINGNESS))).select([
        col("device_id"),
        col("ts_start"),
        col("hrv_sdnn"),
        col("hrv_rmssd"),
        col("heart_rate"),
        col("steps"),
    ])
}

/// Does the same as [`quality_filter`], with [`QUALITY_FILTER_SQL`].
///
/// # Errors
///
/// [`Error::Polars`](crate::Error::Polars) if polars cannot plan the SQL.
pub fn quality_filter_sql(sensor_raw: &LazyFrame) -> Result<LazyFrame> {
    let mut context = SQLContext::new();
    context.register("sensor_raw", sensor_raw.clone());
    let query = context.execute(QUALITY_FILTER_SQL);
    Ok(query.map_err(QueryError::at("plan the quality filter's SQL"))?)
}

/// Adds the keys of the other tables: `user_id` from the device (`USER-00012` wears `DEV-00012`) and
/// `date`, the calendar date of `ts_start`.
///
/// In and out: one row per segment. If a device id has no `-`, `user_id` is null.
pub fn with_keys(sensor: &LazyFrame) -> LazyFrame {
    let number = col("device_id").str().split(lit("-")).list().get(lit(1), true);
    sensor.clone().with_columns([
        concat_str([lit("USER-"), number], "", false).alias("user_id"),
        col("ts_start").dt().date().alias("date"),
    ])
}

/// Keeps segments that start from 22:00 to 23:59 or from 00:00 to 06:59.
///
/// In: segments with keys. Out: one row per kept segment with `user_id`, `date`, `hrv_sdnn` (ms),
/// `hrv_rmssd` (ms), `heart_rate` (bpm), `steps`.
pub fn night_segments(sensor_keyed: &LazyFrame) -> LazyFrame {
    let hour = || col("ts_start").dt().hour();
    let evening = hour().is_between(lit(22), lit(23), ClosedInterval::Both);
    let morning = hour().is_between(lit(0), lit(6), ClosedInterval::Both);
    sensor_keyed.clone().filter(evening.or(morning)).select([
        col("user_id"),
        col("date"),
        col("hrv_sdnn"),
        col("hrv_rmssd"),
        col("heart_rate"),
        col("steps"),
    ])
}

/// Aggregates night segments to one row per user and `date`: `user_id`, `date`, `num_segments`,
/// `night_mean_hr` (bpm), `night_mean_sdnn` (ms), `night_mean_rmssd` (ms), `night_steps` (the sum).
///
/// After [`with_keys`], `date` is the calendar date. It combines an early morning and a late evening, which
/// belong to two different nights. The walkthrough groups in this way and explains it.
pub fn nightly(night_segments: &LazyFrame) -> LazyFrame {
    night_segments.clone().group_by([col("user_id"), col("date")]).agg([
        len().alias("num_segments"),
        col("heart_rate").mean().alias("night_mean_hr"),
        col("hrv_sdnn").mean().alias("night_mean_sdnn"),
        col("hrv_rmssd").mean().alias("night_mean_rmssd"),
        col("steps").sum().alias("night_steps"),
    ])
}

/// Returns the rows of [`nightly`], but groups by the device's id. It computes the user's id once per
/// group instead of once per segment.
///
/// In: the rows of [`quality_filter`], without keys. Out: as [`nightly`].
pub fn nightly_by_device(sensor: &LazyFrame) -> LazyFrame {
    let by_device = sensor.clone().with_columns([
        col("device_id").alias("user_id"),
        col("ts_start").dt().date().alias("date"),
    ]);
    nightly(&night_segments(&by_device)).with_column(col("user_id").str().replace(
        lit("DEV-"),
        lit("USER-"),
        true,
    ))
}

/// Returns the rows of [`nightly_by_device`], but computes hour and date by integer arithmetic:
/// `ts_start` is a number of microseconds since 1970 without a time zone, so all days have equal length.
///
/// In: the rows of [`quality_filter`], all after 1970. Out: as [`nightly`].
pub fn nightly_with_integer_time(sensor: &LazyFrame) -> LazyFrame {
    const HOUR: i64 = 3_600_000_000;
    const DAY: i64 = 24 * HOUR;
    let microseconds = || col("ts_start").to_physical();
    let of_day = || microseconds() % lit(DAY);
    let by_device = sensor
        .clone()
        .filter(of_day().gt_eq(lit(22 * HOUR)).or(of_day().lt(lit(7 * HOUR))))
        .with_columns([
            col("device_id").alias("user_id"),
            microseconds().floor_div(lit(DAY)).alias("date"),
        ]);
    nightly(&by_device).with_columns([
        col("user_id").str().replace(lit("DEV-"), lit("USER-"), true),
        col("date").cast(DataType::Int32).cast(DataType::Date),
    ])
}

/// Joins the sleep diary with [`nightly`] and the users: one row for each user and `date` that both the
/// sleep diary and [`nightly`] contain. Out: the columns of the sleep diary and of [`nightly`], and the user's `age` (years), `gender` and
/// `occupation`, which are null for a user without a profile.
pub fn joined(sleep_diary: &LazyFrame, nightly: &LazyFrame, users: &LazyFrame) -> LazyFrame {
    let night = [col("user_id"), col("date")];
    let profile =
        users.clone().select([col("user_id"), col("age"), col("gender"), col("occupation")]);
    sleep_diary.clone().join(nightly.clone(), &night, &night, JoinArgs::new(JoinType::Inner)).join(
        profile,
        [col("user_id")],
        [col("user_id")],
        JoinArgs::new(JoinType::Left),
    )
}

/// Summarises the rows of [`joined`] by occupation and gender, in that order: `occupation`, `gender`,
/// `n_nights`, `avg_sleep_efficiency` (%), `avg_night_sdnn` (ms), and `corr_sleep_sdnn`, the Pearson
/// correlation of `sleep_efficiency` and `night_mean_sdnn` over the group's nights.
pub fn summary(joined: &LazyFrame) -> LazyFrame {
    joined
        .clone()
        .group_by([col("occupation"), col("gender")])
        .agg([
            len().alias("n_nights"),
            col("sleep_efficiency").mean().alias("avg_sleep_efficiency"),
            col("night_mean_sdnn").mean().alias("avg_night_sdnn"),
            pearson_corr(col("sleep_efficiency"), col("night_mean_sdnn")).alias("corr_sleep_sdnn"),
        ])
        .sort(["occupation", "gender"], SortMultipleOptions::default())
}

/// The whole query from the three tables to [`summary`] as SQL. A cluster runs the same SQL. The tables'
/// names are `sensor_hrv`, `sleep_diary` and `user_profile`.
pub const SUMMARY_SQL: &str = include_str!("summary.sql");

/// Does the same as [`summary`] of [`joined`], with [`SUMMARY_SQL`].
///
/// # Errors
///
/// [`Error::Polars`](crate::Error::Polars) if polars cannot plan the SQL.
pub fn summary_sql(
    sensor: &LazyFrame,
    sleep_diary: &LazyFrame,
    users: &LazyFrame,
) -> Result<LazyFrame> {
    let mut context = SQLContext::new();
    context.register("sensor_hrv", sensor.clone());
    context.register("sleep_diary", sleep_diary.clone());
    context.register("user_profile", users.clone());
    let query = context.execute(SUMMARY_SQL);
    Ok(query.map_err(QueryError::at("plan the summary's SQL"))?)
}

/// Sorts the rows of [`joined`] by `user_id`, then `date`, with one sort over all rows. Nulls come first.
pub fn global_sort(joined: &LazyFrame) -> LazyFrame {
    joined.clone().sort(["user_id", "date"], SortMultipleOptions::default())
}

/// Returns the rows of [`global_sort`] in the same order, without a sort over all rows: it collects each
/// user's nights in lists, sorts the lists by `date`, and then sorts the users by `user_id`, with one row
/// per user.
pub fn sort_within_users(joined: &LazyFrame) -> LazyFrame {
    let nights = all().as_expr().sort_by([col("date")], SortMultipleOptions::default());
    joined
        .clone()
        .group_by([col("user_id")])
        .agg([nights])
        .sort(["user_id"], SortMultipleOptions::default())
        .explode(
            all() - by_name(["user_id"], true, false),
            ExplodeOptions { empty_as_null: false, keep_nulls: false },
        )
}
