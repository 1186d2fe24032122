//! Compares the rules for users and their nights with many of them, at a fixed seed. `distributions.rs`
//! tests the sensor table.

use polars::prelude::*;
use rand::SeedableRng;
use rand::rngs::ChaCha8Rng;
use statrs::distribution::{ContinuousCDF, Normal, Uniform};
use statrs::stats_tests::NaNPolicy;
use statrs::stats_tests::chisquare::chisquare;
use statrs::stats_tests::ks_test::{KSOneSampleAlternativeMethod, ks_onesample};
use wearable_datagen::users::User;
use wearable_datagen::{sleep_diary, users};

fn generated(count: u32) -> Vec<User> {
    users::generate(count, &mut ChaCha8Rng::seed_from_u64(42))
}

fn follows(what: &str, data: Vec<f64>, distribution: &impl ContinuousCDF<f64, f64>) {
    assert!(data.len() >= 5_000, "{what}: only {} values", data.len());
    let method = KSOneSampleAlternativeMethod::TwoSidedAsymptotic;
    let (_, p) = ks_onesample(data, distribution, method, NaNPolicy::Error).unwrap();
    assert!(p > 1e-3, "{what}: p = {p:e}");
}

fn falls(what: &str, observed: &[usize], shares: &[f64]) {
    let n: usize = observed.iter().sum();
    let total: f64 = shares.iter().sum();
    let mut expected: Vec<f64> = shares.iter().map(|s| s * n as f64 / total).collect();
    // The test requires an exact sum.
    expected.pop();
    expected.push(n as f64 - expected.iter().sum::<f64>());
    let (_, p) = chisquare(observed, Some(&expected), None).unwrap();
    assert!(p > 1e-3, "{what}: p = {p:e}");
}

fn counts(values: impl Iterator<Item = usize>, bins: usize) -> Vec<usize> {
    let mut counts = vec![0; bins];
    values.for_each(|value| counts[value] += 1);
    counts
}

fn floats(frame: &DataFrame, column: &str) -> Vec<f64> {
    let column = frame.column(column).unwrap().cast(&DataType::Float64).unwrap();
    column.f64().unwrap().into_no_null_iter().collect()
}

#[test]
fn profiles_are_uniform() {
    let profiles = users::table(&generated(20_000)).unwrap();
    let ages = floats(&profiles, "age").into_iter().map(|age| age as usize - 18);
    falls("age", &counts(ages, 48), &[1.0; 48]);
    let exercise = floats(&profiles, "exercise_freq_weekly").into_iter().map(|days| days as usize);
    falls("exercise", &counts(exercise, 8), &[1.0; 8]);
    // Rounding to a tenth is 1/500 of the range, too little for the test to notice.
    for (column, low, high) in [("height_cm", 150.0, 200.0), ("weight_kg", 45.0, 120.0)] {
        let values = floats(&profiles, column);
        assert!(values.iter().all(|v| (v * 10.0 - (v * 10.0).round()).abs() < 1e-9), "{column}");
        follows(column, values, &Uniform::new(low, high).unwrap());
    }
    for (column, labels) in [
        ("gender", 3),
        ("occupation", 6),
        ("lifestyle_regularity", 3),
        ("smoking_freq", 3),
        ("alcohol_freq", 4),
        ("coffee_freq", 4),
    ] {
        let by = profiles.clone().lazy().group_by([col(column)]).agg([len()]).collect().unwrap();
        let counts: Vec<usize> = floats(&by, "len").into_iter().map(|n| n as usize).collect();
        assert_eq!(counts.len(), labels, "{column}");
        falls(column, &counts, &vec![1.0; labels]);
    }
}

#[test]
fn physiology_follows_the_profile() {
    let users = generated(20_000);
    let profiles = users::table(&users).unwrap();
    let [ages, weights, exercise] =
        ["age", "weight_kg", "exercise_freq_weekly"].map(|column| floats(&profiles, column));
    let normal = Normal::standard();
    // Omit clipped values, and map the others to 0 to 1.
    let within = |z: f64, low: f64, high: f64| {
        (normal.cdf(z) - normal.cdf(low)) / (normal.cdf(high) - normal.cdf(low))
    };
    let (mut resting, mut scale) = (Vec::new(), Vec::new());
    for (i, user) in users.iter().enumerate() {
        let mean = 62.0 + 0.22 * (ages[i] - 30.0) + 0.08 * (weights[i] - 70.0) - 1.4 * exercise[i];
        let z = |bpm: f64| (bpm - mean) / 5.5;
        if user.physiology.resting > 45.0 && user.physiology.resting < 105.0 {
            resting.push(within(z(user.physiology.resting), z(45.0), z(105.0)));
        }
        let z = |scale: f64| (scale / (0.9 + 0.04 * exercise[i])).ln() / 0.35;
        if user.physiology.activity_scale > 0.6 && user.physiology.activity_scale < 2.2 {
            scale.push(within(z(user.physiology.activity_scale), z(0.6), z(2.2)));
        }
        assert!((45.0..=105.0).contains(&user.physiology.resting));
        assert!((0.6..=2.2).contains(&user.physiology.activity_scale));
        assert_eq!(user.physiology.age, ages[i]);
    }
    let whole = Uniform::new(0.0, 1.0).unwrap();
    follows("resting", resting, &whole);
    follows("activity_scale", scale, &whole);
    let sensitivity = users.iter().map(|user| user.physiology.sensitivity).collect();
    follows("sensitivity", sensitivity, &Uniform::new(0.06, 0.14).unwrap());
}

/// The classes are low, medium and high. Each has a range for both deviations.
#[test]
fn heart_rate_variability_has_three_classes() {
    let users = generated(20_000);
    let class = |user: &User| match user.physiology.segment_sigma {
        ..5.0 => 0,
        5.0..10.0 => 1,
        _ => 2,
    };
    falls("class", &counts(users.iter().map(class), 3), &[0.25, 0.55, 0.20]);
    for (number, (segment, daily)) in
        [((2.0, 5.0), (0.5, 2.0)), ((5.0, 10.0), (2.0, 5.0)), ((10.0, 18.0), (5.0, 10.0))]
            .into_iter()
            .enumerate()
    {
        let of: Vec<_> = users.iter().filter(|user| class(user) == number).collect();
        let sigmas: Vec<f64> = of.iter().map(|user| user.physiology.segment_sigma).collect();
        let mean = sigmas.iter().sum::<f64>() / sigmas.len() as f64;
        let error = (segment.1 - segment.0) / 12f64.sqrt() / (sigmas.len() as f64).sqrt();
        assert!((mean - (segment.0 + segment.1) / 2.0).abs() < 4.0 * error, "class {number}");
        // The mean square of the offsets is the mean of σ², with σ from U(low, high).
        let (low, high) = daily;
        let expected: f64 = (low * low + low * high + high * high) / 3.0;
        let offsets = of.iter().flat_map(|user| user.physiology.day_offset);
        let (n, squares) = offsets.fold((0.0, 0.0), |(n, sum), x| (n + 1.0, sum + x * x));
        assert!((squares / n / expected - 1.0).abs() < 0.05, "class {number}: {}", squares / n);
    }
}

#[test]
fn nights_depend_on_the_age() {
    let users = generated(2_000);
    let nights = sleep_diary::table(&users, &mut ChaCha8Rng::seed_from_u64(7)).unwrap();
    let rows_per_user = nights.height() / users.len();
    let over_18: Vec<f64> =
        users.iter().flat_map(|p| vec![p.physiology.age - 18.0; rows_per_user]).collect();

    // 70 % do not wake up. The others are awake for 0 to 30 whole minutes.
    let waso = floats(&nights, "waso_minutes").into_iter().map(|minutes| minutes as usize);
    let mut shares = [0.3 / 31.0; 31];
    shares[0] += 0.7;
    falls("waso_minutes", &counts(waso, 31), &shares);
    let latency = floats(&nights, "sleep_latency");
    let awake: Vec<f64> = latency.iter().copied().filter(|minutes| *minutes > 0.0).collect();
    falls("sleep_latency", &[latency.len() - awake.len(), awake.len()], &[0.7, 0.3]);
    follows("sleep_latency", awake, &Uniform::new(0.0, 30.0).unwrap());

    // Compute the hours asleep from the duration, which is rounded to two decimals.
    let duration = floats(&nights, "sleep_duration");
    let waso = floats(&nights, "waso_minutes");
    let hours = (0..nights.height()).map(|i| (duration[i] + waso[i] / 60.0, over_18[i]));
    let unclipped = hours.filter(|(_, over)| 8.0 - 0.03 * over > 6.01);
    let unclipped =
        unclipped.map(|(hours, over)| hours - (8.0 - 0.03 * over)).take(20_000).collect();
    follows("hours asleep", unclipped, &Uniform::new(-2.0, 2.0).unwrap());

    // Whole hours from 20 to 23. The share of each is the part of U(−1.5, 1.5) that rounds down to it.
    let bedtimes = nights.column("bedtime").unwrap().cast(&DataType::Int64).unwrap();
    let hour = |ns: i64| (ns / 3_600_000_000_000) as usize - 20;
    let bedtimes = counts(bedtimes.i64().unwrap().into_no_null_iter().map(hour), 4);
    let below =
        |bound: f64, over: f64| Uniform::new(-1.5, 1.5).unwrap().cdf(bound - (23.0 - 0.02 * over));
    let mut shares = [0.0; 4];
    for over in &over_18 {
        let [to_21, to_22, to_23] = [21.0, 22.0, 23.0].map(|bound| below(bound, *over));
        for (share, add) in
            shares.iter_mut().zip([to_21, to_22 - to_21, to_23 - to_22, 1.0 - to_23])
        {
            *share += add;
        }
    }
    // No bedtime is before 20:30, so the first hour is rare.
    let (observed, shares): (Vec<usize>, Vec<f64>) =
        bedtimes.into_iter().zip(shares).filter(|(_, share)| *share > 0.0).unzip();
    falls("bedtime", &observed, &shares);
}
