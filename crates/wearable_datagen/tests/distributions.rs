//! Compares each rule for the values of a row with many rows of a fixed seed.
//!
//! A statistical test returns the probability of data at least as extreme as these, if the rule holds.
//! With a fixed seed, the probability is the same in each run. A rule is broken if it is below 0.001.
//! The tests detect a bound that is wrong by 2 % of the range.

use std::sync::LazyLock;

use statrs::distribution::{ContinuousCDF, Normal, Triangular, Uniform};
use statrs::stats_tests::NaNPolicy;
use statrs::stats_tests::chisquare::chisquare;
use statrs::stats_tests::ks_test::{KSOneSampleAlternativeMethod, ks_onesample};
use wearable_datagen::sensor::columns::{Codes, Columns};
use wearable_datagen::sensor::{
    CHARGING_HOURS, DAYS, Layout, Physiology, SEGMENTS, SEGMENTS_PER_DAY, SensorTable,
};

const ROWS: usize = 400_000;
const CIRCADIAN: [f64; 24] = [
    -10., -10., -10., -10., -9., -8., -6., -4., -2., 0., 0., 0., 1., 1., 0., 0., 0., 0., 2., 2.,
    2., 1., 0., -2.,
];

static USERS: LazyLock<Vec<Physiology>> = LazyLock::new(|| {
    let physiology = |n: u32| Physiology {
        age: f64::from(20 + n % 40),
        resting: 95.0 + f64::from(n % 7),
        segment_sigma: 14.0 + f64::from(n % 4),
        day_offset: std::array::from_fn(|day| (day as f64 * 0.7 + f64::from(n)) % 5.0 - 2.5),
        activity_scale: 0.7 + 0.02 * f64::from(n),
        sensitivity: 0.06 + 0.001 * f64::from(n),
    };
    (0..50).map(physiology).collect()
});
static GENERATED: LazyLock<Columns> = LazyLock::new(|| table().generate(0, ROWS as u64));

fn table() -> SensorTable<'static> {
    SensorTable {
        users: &USERS,
        first_day: 19_723,
        seed: 42,
        first_stream: 2,
        rows: ROWS as u64,
        chunk_rows: 100_000,
        row_group_rows: 10_000,
        layout: Layout::Unsorted,
    }
}

/// The values of a row.
struct Row {
    physiology: &'static Physiology,
    day: usize,
    hour: usize,
    charging: bool,
    value: Box<dyn Fn(Codes) -> f64>,
    /// Like `value`, with the rounding undone by a uniform offset.
    spread: Box<dyn Fn(Codes) -> f64>,
}

fn scale(of: Codes) -> f64 {
    match of {
        Codes::Sdnn | Codes::Rmssd => 100.0,
        Codes::Spo2 | Codes::SkinTemp => 10.0,
        Codes::LfHf | Codes::Bvp | Codes::Eda | Codes::Acc | Codes::Missingness => 1000.0,
        _ => 1.0,
    }
}

fn rows() -> impl Iterator<Item = Row> {
    (0..ROWS).map(|i| {
        let segment = u32::from(GENERATED.codes(Codes::Segment)[i]);
        let hour = segment % SEGMENTS_PER_DAY / 12;
        Row {
            physiology: &USERS[GENERATED.codes(Codes::User)[i] as usize],
            day: (segment / SEGMENTS_PER_DAY) as usize,
            hour: hour as usize,
            charging: CHARGING_HOURS.contains(&hour),
            value: Box::new(move |of| f64::from(GENERATED.codes(of)[i]) / scale(of)),
            spread: Box::new(move |of| (f64::from(GENERATED.codes(of)[i]) + gap(i)) / scale(of)),
        }
    })
}

/// Whether activity depends only on the physiology in this hour.
fn quiet(row: &Row) -> bool {
    !(9..=22).contains(&row.hour)
}

fn activity(row: &Row) -> f64 {
    row.physiology.activity_scale.clamp(0.6, 3.0)
}

/// A value from −0.5 to 0.5 for a row, independent of its data. It fills the gaps between rounded values.
fn gap(i: usize) -> f64 {
    (i as f64 * 0.618_033_988_749_895) % 1.0 - 0.5
}

/// Asserts that `data` follow `distribution`.
fn follows(
    what: &str,
    data: impl Iterator<Item = f64>,
    distribution: &impl ContinuousCDF<f64, f64>,
) {
    let data: Vec<f64> = data.take(100_000).collect();
    assert!(data.len() >= 20_000, "{what}: only {} values", data.len());
    let method = KSOneSampleAlternativeMethod::TwoSidedAsymptotic;
    let (_, p) = ks_onesample(data, distribution, method, NaNPolicy::Error).unwrap();
    assert!(p > 1e-3, "{what}: p = {p:e}");
}

/// Asserts that `codes` fall on `first` and the following codes in proportion to `shares`.
fn falls(what: &str, codes: impl Iterator<Item = usize>, first: usize, shares: &[f64]) {
    let mut observed = vec![0; shares.len()];
    let mut n = 0;
    for code in codes {
        observed[code - first] += 1;
        n += 1;
    }
    let total: f64 = shares.iter().sum();
    let mut expected: Vec<f64> = shares.iter().map(|s| s * n as f64 / total).collect();
    // The test requires an exact sum.
    let last = expected.pop().expect("shares are not empty");
    let others: f64 = expected.iter().sum();
    assert!((n as f64 - others - last).abs() < 1e-6);
    expected.push(n as f64 - others);
    let (_, p) = chisquare(&observed, Some(&expected), None).unwrap();
    assert!(p > 1e-3, "{what}: p = {p:e}");
}

fn codes(of: Codes) -> impl Iterator<Item = usize> {
    GENERATED.codes(of).iter().map(|&code| code as usize)
}

#[test]
fn users_and_segments_are_uniform() {
    falls("physiology", codes(Codes::User), 0, &[1.0; 50]);
    falls("segment", codes(Codes::Segment), 0, &[1.0; SEGMENTS as usize]);
}

/// Half as many values round to the first and the last code as to the others.
#[test]
fn independent_values_are_uniform_and_rounded() {
    for (what, of, first, last) in [
        ("bvp_mean", Codes::Bvp, 300, 1500),
        ("spo2", Codes::Spo2, 950, 1000),
        ("skin_temp", Codes::SkinTemp, 320, 360),
        ("hrv_lf_hf_ratio", Codes::LfHf, 300, 2000),
    ] {
        let mut shares = vec![1.0; last - first + 1];
        (shares[0], shares[last - first]) = (0.5, 0.5);
        falls(what, codes(of), first, &shares);
    }
}

/// The difference of the heart rate from its expected value, in quiet hours.
fn residual(row: &Row) -> f64 {
    let around = row.physiology.resting
        + row.physiology.day_offset[row.day]
        + CIRCADIAN[row.hour]
        + 4.0 * (activity(row) - 1.0)
        + (row.value)(Codes::Steps) * row.physiology.sensitivity;
    (row.spread)(Codes::HeartRate) - around
}

#[test]
fn heart_rate_is_normal_around_its_expected_value() {
    let standard = rows().filter(quiet).map(|row| residual(&row) / row.physiology.segment_sigma);
    // The heart rate is clipped at 40, which is 2.3 deviations below the mean for the largest variability.
    follows("heart_rate", standard.filter(|z| *z > -2.2), &UpperNormal::above(-2.2));
}

/// The residual depends neither on the hour nor on activity or steps.
#[test]
fn heart_rate_depends_on_hour_activity_and_steps_as_specified() {
    let mut hours = [(0.0, 0.0); 24];
    let [mut activity_slope, mut steps_slope] = [(0.0, 0.0); 2];
    for row in rows().filter(quiet) {
        let residual = residual(&row) / row.physiology.segment_sigma;
        hours[row.hour] = (hours[row.hour].0 + 1.0, hours[row.hour].1 + residual);
        for (slope, x) in [
            (&mut activity_slope, activity(&row) - 1.0),
            (&mut steps_slope, (row.value)(Codes::Steps) - 20.0),
        ] {
            *slope = (slope.0 + x * x, slope.1 + x * residual);
        }
    }
    for (hour, (n, sum)) in hours.into_iter().enumerate().filter(|(_, of)| of.0 > 0.0) {
        assert!((sum / n).abs() < 4.0 / n.sqrt(), "hour {hour}: {}", sum / n);
    }
    for (what, (squares, products)) in [("activity", activity_slope), ("steps", steps_slope)] {
        let deviations = products / squares.sqrt();
        assert!(deviations.abs() < 3.3, "{what}: {deviations} standard deviations off");
    }
}

/// A standard normal distribution, cut off below a bound.
#[derive(Debug)]
struct UpperNormal(f64, Normal);

impl UpperNormal {
    fn above(bound: f64) -> UpperNormal {
        UpperNormal(bound, Normal::standard())
    }
}

impl statrs::statistics::Min<f64> for UpperNormal {
    fn min(&self) -> f64 {
        self.0
    }
}

impl statrs::statistics::Max<f64> for UpperNormal {
    fn max(&self) -> f64 {
        f64::INFINITY
    }
}

impl ContinuousCDF<f64, f64> for UpperNormal {
    fn cdf(&self, x: f64) -> f64 {
        let below = self.1.cdf(self.0);
        (self.1.cdf(x.max(self.0)) - below) / (1.0 - below)
    }
}

#[test]
fn mean_and_deviation_match_each_user() {
    let mut sums = vec![(0.0, 0.0, 0.0); USERS.len()];
    for row in rows().filter(|row| quiet(row) && !row.charging) {
        let of = &mut sums[USERS.iter().position(|w| std::ptr::eq(w, row.physiology)).unwrap()];
        let residual = (row.value)(Codes::HeartRate)
            - row.physiology.day_offset[row.day]
            - CIRCADIAN[row.hour]
            - (row.value)(Codes::Steps) * row.physiology.sensitivity;
        *of = (of.0 + 1.0, of.1 + residual, of.2 + residual * residual);
    }
    for (physiology, (n, sum, squares)) in USERS.iter().zip(sums) {
        let mean = sum / n;
        let expected = physiology.resting + 4.0 * (physiology.activity_scale.clamp(0.6, 3.0) - 1.0);
        let sigma = physiology.segment_sigma;
        // Clipping at 40 bpm raises the mean by up to a fifth of a beat.
        assert!((mean - expected).abs() < 4.0 * sigma / n.sqrt() + 0.3, "{mean} {expected}");
        let deviation = (squares / n - mean * mean).sqrt();
        assert!((deviation / sigma - 1.0).abs() < 0.1, "{deviation} {sigma}");
    }
}

#[test]
fn variability_follows_age_and_heart_rate() {
    let sdnn = rows().map(|row| {
        let rate = (row.value)(Codes::HeartRate) - row.physiology.resting;
        let around = 100.0 - 0.5 * (row.physiology.age - 18.0) - 0.1 * rate;
        ((row.spread)(Codes::Sdnn), around)
    });
    let inside = sdnn.filter(|(_, around)| *around > 50.0).map(|(sdnn, around)| sdnn - around);
    follows("hrv_sdnn", inside, &Uniform::new(-30.0, 30.0).unwrap());
    let rmssd = rows().map(|row| ((row.spread)(Codes::Rmssd), 0.7 * (row.value)(Codes::Sdnn)));
    let inside = rmssd.filter(|(_, around)| *around > 20.0).map(|(rmssd, around)| rmssd - around);
    follows("hrv_rmssd", inside, &Uniform::new(-10.0, 10.0).unwrap());
}

#[test]
fn values_divided_by_activity_are_uniform() {
    let eda = rows().filter(quiet).map(|row| (row.spread)(Codes::Eda) / activity(&row));
    follows("eda_mean", eda, &Uniform::new(0.2, 2.0).unwrap());
    let acc = rows().filter(quiet).map(|row| {
        let charging = if row.charging { 0.5 } else { 1.0 };
        (row.spread)(Codes::Acc) / activity(&row) / charging
    });
    follows("acc_magnitude", acc, &Uniform::new(0.05, 0.5).unwrap());
    // Steps are rounded down.
    let steps = rows().filter(|row| quiet(row) && !row.charging);
    let steps = steps.map(|row| ((row.spread)(Codes::Steps) + 0.5) / activity(&row));
    follows("steps", steps, &Uniform::new(0.0, 50.0).unwrap());
    let most =
        rows().filter(|row| row.charging).map(|row| (row.value)(Codes::Steps)).fold(0.0, f64::max);
    assert!((15.0..=16.0).contains(&most), "a fifth of 50 · 1.68 steps at most: {most}");
}

#[test]
fn activity_is_higher_by_day_and_in_the_evening() {
    for (hours, low, high) in [(9..=17, 1.2, 2.0), (18..=22, 1.0, 1.5)] {
        // The mean of the uniform factor is 1.1.
        let of =
            rows().filter(|row| hours.contains(&row.hour) && row.physiology.activity_scale < 1.4);
        let factors: Vec<f64> =
            of.map(|row| (row.value)(Codes::Eda) / 1.1 / row.physiology.activity_scale).collect();
        let mean = factors.iter().sum::<f64>() / factors.len() as f64;
        let expected = (low + high) / 2.0;
        // The standard deviation of the product is at most 0.55 of its mean.
        let error = 0.55 * expected / (factors.len() as f64).sqrt();
        assert!((mean - expected).abs() < 4.0 * error, "{hours:?}: {mean} instead of {expected}");
    }
}

#[test]
fn charging_device_misses_more_segments() {
    let worn = rows().filter(|row| !row.charging).map(|row| (row.spread)(Codes::Missingness));
    follows("missingness_score", worn, &Uniform::new(0.0, 0.4).unwrap());
    let charging = rows().filter(|row| row.charging);
    // U(0, 0.4) + U(0.3, 0.7), in tenths, clipped at 1.
    let sum = Triangular::new(0.3, 1.1, 0.7).unwrap();
    let bounds: Vec<f64> = (3..10).map(|tenth| f64::from(tenth) / 10.0 - 0.0005).collect();
    let mut shares: Vec<f64> = bounds.windows(2).map(|b| sum.cdf(b[1]) - sum.cdf(b[0])).collect();
    shares.push(1.0 - sum.cdf(bounds[bounds.len() - 1]));
    let tenths = charging
        .map(|row| (((row.value)(Codes::Missingness) * 1000.0).round() as usize / 100).min(9));
    falls("missingness_score, charging", tenths, 3, &shares);
}

#[test]
fn number_of_segments_matches_number_of_days() {
    assert_eq!(SEGMENTS, DAYS * SEGMENTS_PER_DAY);
}
