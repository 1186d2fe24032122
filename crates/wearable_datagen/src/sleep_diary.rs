//! Generates the sleep diary: each user's entry for each night.

use polars::prelude::*;
use rand::RngExt;
use rand::rngs::ChaCha8Rng;

use crate::error::{Error, Result};
use crate::round;
use crate::tables::{DAYS, FIRST_DAY};
use crate::users::User;

const HOUR_NS: f64 = 3.6e12;
const DAY_NS: i64 = 24 * 3_600_000_000_000;

/// Generates [`SLEEP_DIARY`](crate::tables::SLEEP_DIARY): one row per user and day, ordered by user and day.
///
/// # Errors
///
/// [`Error::Polars`] if polars cannot build the frame.
pub fn table(users: &[User], rng: &mut ChaCha8Rng) -> Result<DataFrame> {
    let nights = users.len() * DAYS as usize;
    let mut user_id = Vec::with_capacity(nights);
    let mut date = Vec::with_capacity(nights);
    let mut bedtime = Vec::with_capacity(nights);
    let mut fall_asleep_time = Vec::with_capacity(nights);
    let mut wake_time = Vec::with_capacity(nights);
    let mut waso_minutes = Vec::with_capacity(nights);
    let mut sleep_duration = Vec::with_capacity(nights);
    let mut sleep_efficiency = Vec::with_capacity(nights);
    let mut sleep_latency = Vec::with_capacity(nights);

    for user in users {
        let id = user.user_id();
        for day in 0..DAYS {
            let night = Night::generate(user.age as f64 - 18.0, rng);
            user_id.push(id.clone());
            date.push(first_day() + day as i32);
            bedtime.push(time_of_day(night.bedtime_h));
            fall_asleep_time.push(time_of_day(night.asleep_h()));
            wake_time.push(time_of_day(night.asleep_h() + night.hours));
            waso_minutes.push(night.waso_min);
            sleep_duration.push(night.duration());
            sleep_efficiency.push(night.efficiency());
            sleep_latency.push(night.latency_min);
        }
    }

    let time =
        |name: &str, ns: &[i64]| Int64Chunked::new(name.into(), ns).into_time().into_column();
    let columns = vec![
        Column::new("user_id".into(), user_id),
        Int32Chunked::new("date".into(), &date).into_date().into_column(),
        time("bedtime", &bedtime),
        time("fall_asleep_time", &fall_asleep_time),
        time("wake_time", &wake_time),
        Column::new("waso_minutes".into(), waso_minutes),
        Column::new("sleep_duration".into(), sleep_duration),
        Column::new("sleep_efficiency".into(), sleep_efficiency),
        Column::new("sleep_latency".into(), sleep_latency),
    ];
    DataFrame::new(nights, columns).map_err(Error::polars("build sleep_diary"))
}

/// One night, in hours unless a name contains another unit.
struct Night {
    bedtime_h: f64,
    latency_min: f64,
    hours: f64,
    waso_min: i64,
}

impl Night {
    fn generate(years_over_18: f64, rng: &mut ChaCha8Rng) -> Night {
        let bedtime = 23.0 - 0.02 * years_over_18 + rng.random_range(-1.5..1.5);
        let hours = 8.0 - 0.03 * years_over_18 + rng.random_range(-2.0..2.0);
        let waso_min = if rng.random_bool(0.3) { rng.random_range(0..=30) } else { 0 };
        let latency_min = if rng.random_bool(0.3) { rng.random_range(0.0..30.0) } else { 0.0 };
        Night {
            bedtime_h: bedtime.clamp(20.0, 23.0).floor(),
            latency_min,
            hours: hours.clamp(4.0, 12.0),
            waso_min,
        }
    }

    fn asleep_h(&self) -> f64 {
        self.bedtime_h + self.latency_min / 60.0
    }

    fn duration(&self) -> f64 {
        round(self.hours - self.waso_min as f64 / 60.0, 2)
    }

    fn efficiency(&self) -> f64 {
        let in_bed = self.latency_min / 60.0 + self.hours;
        // Rounding up must not make the duration longer than the night.
        round(self.duration() / in_bed * 100.0, 1).min(100.0)
    }
}

/// Days from 1970-01-01 to the dataset's first day.
pub(crate) fn first_day() -> i32 {
    let (year, month, day) = FIRST_DAY;
    let first =
        chrono::NaiveDate::from_ymd_opt(year, month, day).expect("FIRST_DAY is a valid date");
    (first - chrono::NaiveDate::default()).num_days() as i32
}

/// Nanoseconds since midnight, in whole microseconds. Wraps past 24 h.
fn time_of_day(hours: f64) -> i64 {
    let us = (hours * HOUR_NS / 1000.0).round() as i64;
    (us * 1000).rem_euclid(DAY_NS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_wrap_at_midnight() {
        assert_eq!(time_of_day(23.5), 84_600_000_000_000);
        assert_eq!(time_of_day(25.0), 3_600_000_000_000);
        assert_eq!(time_of_day(24.0), 0);
    }

    #[test]
    fn efficiency_is_sleep_divided_by_time_in_bed() {
        let night = Night { bedtime_h: 22.0, latency_min: 30.0, hours: 7.5, waso_min: 15 };
        assert_eq!(night.duration(), 7.25);
        assert_eq!(night.efficiency(), 90.6);
    }

    #[test]
    fn dataset_starts_on_a_monday_19723_days_after_1970() {
        assert_eq!(first_day(), 19_723);
    }
}
