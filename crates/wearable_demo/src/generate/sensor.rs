//! The sensor table: five-minute segments drawn uniformly, with replacement, from all users and
//! all segments of the dataset's days.

use std::ops::Range;

use polars::prelude::*;
use rand::RngExt;
use rand::rngs::ChaCha8Rng;
use rand_distr::Distribution;

use super::diary::first_day;
use super::people::{Person, normal};
use super::round;
use crate::error::{Error, Result};
use crate::tables::{DAYS, SEGMENT_MINUTES, SEGMENTS_PER_DAY};

/// Hours in which the devices charge.
const CHARGING_HOURS: Range<u32> = 0..6;
/// What the time of day adds to the heart rate, in bpm, by hour.
const CIRCADIAN_BPM: [f64; 24] = [
    -10.0, -10.0, -10.0, -10.0, -9.0, -8.0, -6.0, -4.0, -2.0, 0.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0,
    0.0, 0.0, 2.0, 2.0, 2.0, 1.0, 0.0, -2.0,
];
const MINUTE_US: i64 = 60_000_000;

/// `rows` rows of [`SENSOR_HRV`](crate::tables::SENSOR_HRV), in the order in which they are drawn.
///
/// # Errors
///
/// [`Error::Polars`] where the columns make no frame.
pub fn table(people: &[Person], rows: u64, rng: &mut ChaCha8Rng) -> Result<DataFrame> {
    let rows = rows as usize;
    let devices: Vec<String> = people.iter().map(Person::device_id).collect();
    let mut device_id = Vec::with_capacity(rows);
    let mut segments = Vec::with_capacity(rows);
    for _ in 0..rows {
        let person = rng.random_range(0..people.len());
        device_id.push(devices[person].as_str());
        segments.push(Segment::draw(&people[person], rng));
    }

    let time = |name: &str, offset: i64| {
        let start_of_day = i64::from(first_day()) * 24 * 60;
        let minutes = segments.iter().map(|s| start_of_day + i64::from(s.minute) + offset);
        Int64Chunked::from_iter_values(name.into(), minutes.map(|m| m * MINUTE_US))
            .into_datetime(TimeUnit::Microseconds, None)
            .into_column()
    };
    let int = |name: &str, value: fn(&Segment) -> i64| {
        Int64Chunked::from_iter_values(name.into(), segments.iter().map(value)).into_column()
    };
    let float = |name: &str, value: fn(&Segment) -> f64| {
        Float64Chunked::from_iter_values(name.into(), segments.iter().map(value)).into_column()
    };
    let columns = vec![
        StringChunked::from_iter_values("device_id".into(), device_id.into_iter()).into_column(),
        time("ts_start", 0),
        time("ts_end", i64::from(SEGMENT_MINUTES)),
        int("heart_rate", |s| s.heart_rate),
        float("hrv_sdnn", |s| s.hrv_sdnn),
        float("hrv_rmssd", |s| s.hrv_rmssd),
        float("hrv_lf_hf_ratio", |s| s.hrv_lf_hf_ratio),
        float("bvp_mean", |s| s.bvp_mean),
        float("spo2", |s| s.spo2),
        float("eda_mean", |s| s.eda_mean),
        float("skin_temp", |s| s.skin_temp),
        float("acc_magnitude", |s| s.acc_magnitude),
        int("steps", |s| s.steps),
        float("missingness_score", |s| s.missingness_score),
    ];
    DataFrame::new(rows, columns).map_err(Error::polars("build sensor_hrv"))
}

/// One row; `minute` counts from the dataset's first midnight.
struct Segment {
    minute: u32,
    heart_rate: i64,
    hrv_sdnn: f64,
    hrv_rmssd: f64,
    hrv_lf_hf_ratio: f64,
    bvp_mean: f64,
    spo2: f64,
    eda_mean: f64,
    skin_temp: f64,
    acc_magnitude: f64,
    steps: i64,
    missingness_score: f64,
}

impl Segment {
    fn draw(person: &Person, rng: &mut ChaCha8Rng) -> Segment {
        let segment = rng.random_range(0..DAYS * SEGMENTS_PER_DAY);
        let minute = segment * SEGMENT_MINUTES;
        let day = segment / SEGMENTS_PER_DAY;
        let hour = minute / 60 % 24;
        let charging = CHARGING_HOURS.contains(&hour);

        let activity = match hour {
            9..=17 => rng.random_range(1.2..2.0),
            18..=22 => rng.random_range(1.0..1.5),
            _ => 1.0,
        } * person.activity_scale;
        let activity = activity.clamp(0.6, 3.0);
        let mut steps = (rng.random_range(0.0..50.0) * activity).floor();
        if charging {
            steps = (steps * 0.2).floor();
        }

        let heart_rate = person.resting
            + person.day_offset[day as usize]
            + CIRCADIAN_BPM[hour as usize]
            + 4.0 * (activity - 1.0)
            + steps * person.sensitivity
            + normal(person.segment_sigma).sample(rng);
        let heart_rate = heart_rate.round().clamp(40.0, 220.0);
        let sdnn = 100.0 - 0.5 * (person.age as f64 - 18.0) + rng.random_range(-30.0..30.0)
            - 0.1 * (heart_rate - person.resting);
        let sdnn = sdnn.clamp(20.0, 200.0);
        let rmssd = (0.7 * sdnn + rng.random_range(-10.0..10.0)).clamp(10.0, 150.0);
        let acc = rng.random_range(0.05..0.5) * activity * if charging { 0.5 } else { 1.0 };
        let mut missingness: f64 = rng.random_range(0.0..0.4);
        if charging {
            missingness += rng.random_range(0.3..0.7);
        }

        Segment {
            minute,
            heart_rate: heart_rate as i64,
            hrv_sdnn: round(sdnn, 2),
            hrv_rmssd: round(rmssd, 2),
            hrv_lf_hf_ratio: round((1.0 + rng.random_range(-0.7..1.0f64)).clamp(0.3, 3.0), 3),
            bvp_mean: round(rng.random_range(0.3..1.5), 3),
            spo2: round(rng.random_range(95.0..100.0), 1),
            eda_mean: round(rng.random_range(0.2..2.0) * activity, 3),
            skin_temp: round(rng.random_range(32.0..36.0), 1),
            acc_magnitude: round(acc, 3),
            steps: steps as i64,
            missingness_score: round(missingness.clamp(0.0, 1.0), 3),
        }
    }
}
