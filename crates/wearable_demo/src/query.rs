//! The walkthrough's query, one function a step, in its order.
//!
//! Each takes lazy frames and returns one: nothing runs here. The big sensor table is aggregated
//! first and joined afterwards, so that the join meets one row per user and night instead of
//! every segment.

use polars::prelude::{
    ClosedInterval, DataType, ExplodeOptions, JoinArgs, JoinType, LazyFrame, SortMultipleOptions,
    all, by_name, col, concat_str, len, lit, pearson_corr,
};
use polars::sql::SQLContext;

use crate::error::{QueryError, Result};

/// Largest share of a segment without signal that still counts as good quality.
pub const MAX_MISSINGNESS: f64 = 0.35;

/// [`quality_filter`] in SQL; the table is called `sensor_raw`.
pub const QUALITY_FILTER_SQL: &str = "
    SELECT device_id, ts_start, hrv_sdnn, hrv_rmssd, heart_rate, steps
    FROM sensor_raw
    WHERE missingness_score <= 0.35
";

/// Good-quality segments: those with `missingness_score` of at most [`MAX_MISSINGNESS`].
///
/// In: sensor_hrv. Out, a row per segment kept: `device_id`, `ts_start`, `hrv_sdnn` (ms),
/// `hrv_rmssd` (ms), `heart_rate` (bpm), `steps`. A null score does not pass.
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

/// The same as [`quality_filter`], written as [`QUALITY_FILTER_SQL`].
///
/// # Errors
///
/// [`Error::Polars`](crate::Error::Polars) where polars cannot turn the SQL into a plan.
pub fn quality_filter_sql(sensor_raw: &LazyFrame) -> Result<LazyFrame> {
    let mut context = SQLContext::new();
    context.register("sensor_raw", sensor_raw.clone());
    let query = context.execute(QUALITY_FILTER_SQL);
    Ok(query.map_err(QueryError::at("plan the quality filter's SQL"))?)
}

/// Adds the keys of the other tables: `user_id` from the device (`DEV-00012` is worn by
/// `USER-00012`) and `date`, the calendar date of `ts_start`.
///
/// In and out: a row per segment. A device id without a `-` gives a null `user_id`.
pub fn with_keys(sensor: &LazyFrame) -> LazyFrame {
    let number = col("device_id").str().split(lit("-")).list().get(lit(1), true);
    sensor.clone().with_columns([
        concat_str([lit("USER-"), number], "", false).alias("user_id"),
        col("ts_start").dt().date().alias("date"),
    ])
}

/// As [`with_keys`], with the evening's date for the whole night: what is recorded before 7 o'clock
/// has the `date` of the day before.
///
/// In and out: a row per segment. The diary, too, dates a night by the day of its bedtime.
pub fn with_night_keys(sensor: &LazyFrame) -> LazyFrame {
    let evening = (col("ts_start") - lit(chrono::TimeDelta::hours(7))).dt().date();
    with_keys(sensor).with_column(evening.alias("date"))
}

/// Segments that start from 22:00 to 23:59 or from 00:00 to 06:59.
///
/// In: segments with keys. Out, a row per segment kept: `user_id`, `date`, `hrv_sdnn` (ms),
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

/// One row per user and calendar date with night segments: `user_id`, `date`, `num_segments` (their
/// number), `night_mean_hr` (bpm), `night_mean_sdnn` (ms), `night_mean_rmssd` (ms), `night_steps`
/// (the sum).
///
/// A calendar date puts together the late evening and the early morning of the same date, which belong
/// to two different nights; the walkthrough groups this way, and says so.
pub fn nightly(night_segments: &LazyFrame) -> LazyFrame {
    night_segments.clone().group_by([col("user_id"), col("date")]).agg([
        len().alias("num_segments"),
        col("heart_rate").mean().alias("night_mean_hr"),
        col("hrv_sdnn").mean().alias("night_mean_sdnn"),
        col("hrv_rmssd").mean().alias("night_mean_rmssd"),
        col("steps").sum().alias("night_steps"),
    ])
}

/// The rows of [`nightly`], from segments without keys: grouped by the device's id as it is, with
/// the user's id made of it for each group afterwards and not for each segment before.
///
/// In: what [`quality_filter`] keeps. Out: as [`nightly`].
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

/// The rows of [`nightly_by_device`], with the hour and the date by integer arithmetic: `ts_start`
/// counts microseconds since 1970, without a zone, so days are whole multiples of a number.
///
/// In: what [`quality_filter`] keeps, all of it after 1970. Out: as [`nightly`].
pub fn nightly_by_arithmetic(sensor: &LazyFrame) -> LazyFrame {
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

/// One row per user and day that is in the diary and in [`nightly`]: the diary's columns, the
/// night's, and the user's `age` (years), `gender` and `occupation`, null for a user without a
/// profile.
pub fn joined(sleep: &LazyFrame, nightly: &LazyFrame, users: &LazyFrame) -> LazyFrame {
    let night = [col("user_id"), col("date")];
    let profile =
        users.clone().select([col("user_id"), col("age"), col("gender"), col("occupation")]);
    sleep.clone().join(nightly.clone(), &night, &night, JoinArgs::new(JoinType::Inner)).join(
        profile,
        [col("user_id")],
        [col("user_id")],
        JoinArgs::new(JoinType::Left),
    )
}

/// One row per occupation and gender, in that order: `occupation`, `gender`, `n_nights`,
/// `avg_sleep_efficiency` (%), `avg_night_sdnn` (ms), and `corr_sleep_sdnn`, the Pearson
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

/// [`summary`] from the three tables in SQL, as it is sent to a cluster; they are called `sensor_hrv`,
/// `sleep_diary` and `user_profile`.
pub const SUMMARY_SQL: &str = include_str!("summary.sql");

/// The same as [`summary`] of [`joined`], by [`SUMMARY_SQL`].
///
/// # Errors
///
/// [`Error::Polars`](crate::Error::Polars) where polars cannot turn the SQL into a plan.
pub fn summary_sql(sensor: &LazyFrame, sleep: &LazyFrame, users: &LazyFrame) -> Result<LazyFrame> {
    let mut context = SQLContext::new();
    context.register("sensor_hrv", sensor.clone());
    context.register("sleep_diary", sleep.clone());
    context.register("user_profile", users.clone());
    let query = context.execute(SUMMARY_SQL);
    Ok(query.map_err(QueryError::at("plan the summary's SQL"))?)
}

/// [`joined`]'s rows by `user_id`, then `date`: one sort over all rows. Nulls come first.
pub fn global_sort(joined: &LazyFrame) -> LazyFrame {
    joined.clone().sort(["user_id", "date"], SortMultipleOptions::default())
}

/// The same rows in the same order as [`global_sort`], without one sort over all of them: the
/// rows are gathered by user, each user's nights are sorted by `date`, and only the users, one
/// row each, are then sorted by `user_id`.
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
