//! Generates the users and their physiology.

use polars::prelude::*;
use rand::RngExt;
use rand::rngs::ChaCha8Rng;
use rand::seq::IndexedRandom;
use rand_distr::{Distribution, LogNormal, Normal};

use crate::error::{Error, Result};
use crate::round;
use crate::sensor::Physiology;

const GENDERS: [&str; 3] = ["Female", "Male", "Non-binary"];
const OCCUPATIONS: [&str; 6] =
    ["Driver", "Engineer", "Nurse", "Office worker", "Student", "Teacher"];
const REGULARITIES: [&str; 3] = ["Regular", "Mixed", "Irregular"];
const SMOKING: [&str; 3] = ["Never", "Occasionally", "Daily"];
const ALCOHOL: [&str; 4] = ["Never", "Monthly", "Weekly", "Daily"];
const COFFEE: [&str; 4] = ["Never", "Weekly", "Daily", "Several a day"];

/// A user: the profile, and the physiology behind the sensor data.
#[derive(Clone, Debug)]
pub struct User {
    /// Number in `USER-…` and `DEV-…`.
    pub number: u32,
    /// Age in years.
    pub age: i64,
    gender: &'static str,
    height_cm: f64,
    weight_kg: f64,
    occupation: &'static str,
    lifestyle_regularity: &'static str,
    exercise_freq_weekly: i64,
    smoking_freq: &'static str,
    alcohol_freq: &'static str,
    coffee_freq: &'static str,
    /// Parameters of the sensor data: resting heart rate 45–105 bpm, activity scale 0.6–2.2, sensitivity
    /// 0.06–0.14.
    /// sensitivity 0.06–0.14.
    pub physiology: Physiology,
}

impl User {
    /// `USER-00012`.
    pub fn user_id(&self) -> String {
        format!("USER-{:05}", self.number)
    }

    fn generate(number: u32, rng: &mut ChaCha8Rng) -> User {
        let mut pick = |labels: &[&'static str]| *labels.choose(rng).expect("labels are not empty");
        let (gender, occupation) = (pick(&GENDERS), pick(&OCCUPATIONS));
        let (lifestyle_regularity, smoking_freq) = (pick(&REGULARITIES), pick(&SMOKING));
        let (alcohol_freq, coffee_freq) = (pick(&ALCOHOL), pick(&COFFEE));

        let age = rng.random_range(18..=65);
        let height_cm = round(rng.random_range(150.0..200.0), 1);
        let weight_kg = round(rng.random_range(45.0..120.0), 1);
        let exercise_freq_weekly = rng.random_range(0..=7);

        let resting = 62.0 + 0.22 * (age as f64 - 30.0) + 0.08 * (weight_kg - 70.0)
            - 1.4 * exercise_freq_weekly as f64
            + normal(5.5).sample(rng);
        // The variability of the heart rate: low, medium or high.
        let (segment, daily) = match rng.random::<f64>() {
            p if p < 0.25 => (2.0..5.0, 0.5..2.0),
            p if p < 0.80 => (5.0..10.0, 2.0..5.0),
            _ => (10.0..18.0, 5.0..10.0),
        };
        let segment_sigma = rng.random_range(segment);
        let daily_sigma = rng.random_range(daily);
        let day_offset = std::array::from_fn(|_| normal(daily_sigma).sample(rng));
        let scale = LogNormal::new(0.0, 0.35).expect("0.35 is a valid sigma").sample(rng)
            * (0.9 + 0.04 * exercise_freq_weekly as f64);
        User {
            number,
            age,
            gender,
            height_cm,
            weight_kg,
            occupation,
            lifestyle_regularity,
            exercise_freq_weekly,
            smoking_freq,
            alcohol_freq,
            coffee_freq,
            physiology: Physiology {
                age: age as f64,
                resting: resting.clamp(45.0, 105.0),
                segment_sigma,
                day_offset,
                activity_scale: scale.clamp(0.6, 2.2),
                sensitivity: rng.random_range(0.06..0.14),
            },
        }
    }
}

/// A normal distribution around zero.
fn normal(sigma: f64) -> Normal<f64> {
    Normal::new(0.0, sigma).expect("sigmas are finite and positive")
}

/// Generates `count` users.
pub fn generate(count: u32, rng: &mut ChaCha8Rng) -> Vec<User> {
    (0..count).map(|number| User::generate(number, rng)).collect()
}

/// Builds [`USER_PROFILE`](crate::tables::USER_PROFILE) with one row per user.
///
/// # Errors
///
/// [`Error::Polars`] if polars cannot build the frame.
pub fn table(users: &[User]) -> Result<DataFrame> {
    let text =
        |value: fn(&User) -> &'static str| -> Vec<&str> { users.iter().map(value).collect() };
    df![
        "user_id" => users.iter().map(User::user_id).collect::<Vec<_>>(),
        "age" => users.iter().map(|p| p.age).collect::<Vec<_>>(),
        "gender" => text(|p| p.gender),
        "height_cm" => users.iter().map(|p| p.height_cm).collect::<Vec<_>>(),
        "weight_kg" => users.iter().map(|p| p.weight_kg).collect::<Vec<_>>(),
        "occupation" => text(|p| p.occupation),
        "lifestyle_regularity" => text(|p| p.lifestyle_regularity),
        "exercise_freq_weekly" => users.iter().map(|p| p.exercise_freq_weekly).collect::<Vec<_>>(),
        "smoking_freq" => text(|p| p.smoking_freq),
        "alcohol_freq" => text(|p| p.alcohol_freq),
        "coffee_freq" => text(|p| p.coffee_freq),
    ]
    .map_err(Error::polars("build user_profile"))
}
