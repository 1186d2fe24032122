//! The SQL for a cluster returns the same rows as the query builders.

use polars::prelude::*;
use polars_notebook::frames_close;
use wearable_demo::{GenerateOptions, Size, generate_dataset, query, scan};

fn assert_close(by_sql: &DataFrame, built: &DataFrame) {
    assert!(by_sql.height() > 0 && frames_close(by_sql, built), "{by_sql} {built}");
}

fn both(sensor: &LazyFrame, sleep_diary: &LazyFrame, users: &LazyFrame) -> (DataFrame, DataFrame) {
    let night = query::night_segments(&query::with_keys(&query::quality_filter(sensor)));
    let built = query::summary(&query::joined(sleep_diary, &query::nightly(&night), users));
    let by_sql = query::summary_sql(sensor, sleep_diary, users).unwrap();
    (by_sql.collect().unwrap(), built.collect().unwrap())
}

#[test]
fn sql_and_builders_return_the_same_rows() {
    for (rows, seed) in [(200_000, 42), (3_000, 1)] {
        let folder = tempfile::tempdir().unwrap();
        let mut options = GenerateOptions::new(Size::Rows(rows), folder.path());
        options.seed = seed;
        generate_dataset(&options).unwrap();
        let (by_sql, built) = both(
            &scan::scan_sensor_hrv(folder.path()).unwrap(),
            &scan::scan_sleep_diary(folder.path()).unwrap(),
            &scan::scan_user_profile(folder.path()).unwrap(),
        );
        assert_close(&by_sql, &built);
    }
}

#[test]
fn sql_and_builders_treat_missing_values_equally() {
    let at = |hour: i64| chrono::DateTime::from_timestamp(1_704_067_200 + hour * 3600, 0).unwrap();
    let times: Vec<_> = [1, 2, 23, 26, 12, 3].map(|hour| at(hour).naive_utc()).into();
    let sensor = df![
        "device_id" => ["DEV-1", "DEV-1", "DEV-1", "DEV-1", "DEV-1", "DEV-2"],
        "ts_start" => times,
        "hrv_sdnn" => [Some(50.0), None, Some(60.0), Some(70.0), Some(1.0), Some(30.0)],
        "hrv_rmssd" => [40.0; 6],
        "heart_rate" => [60i64; 6],
        "steps" => [Some(1i64), None, Some(3), Some(4), Some(5), Some(6)],
        "missingness_score" => [Some(0.1), Some(0.35), Some(0.2), Some(0.2), Some(0.1), None],
    ]
    .unwrap()
    .lazy();
    let day = |day: u32| chrono::NaiveDate::from_ymd_opt(2024, 1, day).unwrap();
    let sleep_diary = df![
        "user_id" => ["USER-1", "USER-1", "USER-2"],
        "date" => [day(1), day(2), day(1)],
        "sleep_efficiency" => [Some(90.0), Some(80.0), None],
    ]
    .unwrap()
    .lazy();
    let users = df![
        "user_id" => ["USER-2"],
        "age" => [30i64],
        "gender" => ["Female"],
        "occupation" => ["Student"],
    ]
    .unwrap()
    .lazy();
    let (by_sql, built) = both(&sensor, &sleep_diary, &users);
    assert_close(&by_sql, &built);
    assert_eq!(built.height(), 1); // the nights of the first user, who has no occupation
}
