//! Each exercise of the walkthrough is valid, and its expected result can be computed.

use polars::prelude::*;
use polars_notebook::exercise::{Exercise, Expected, Verdict, not_attempted};
use wearable_demo::exercises::{SOURCES, exercise};
use wearable_demo::scan::{scan_sensor_hrv, scan_sleep_diary, scan_user_profile};
use wearable_demo::{Error, GenerateOptions, Size, generate_dataset};

#[test]
fn expected_results_can_be_computed() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    generate_dataset(&GenerateOptions::new(Size::Rows(1_000), &data)).unwrap();
    for (number, source) in (1..).zip(SOURCES) {
        let tables = [
            ("user_profile", scan_user_profile(&data).unwrap()),
            ("sleep_diary", scan_sleep_diary(&data).unwrap()),
            ("sensor_hrv", scan_sensor_hrv(&data).unwrap()),
        ];
        let exercise = Exercise::new(number, source, tables, folder.path()).unwrap();
        assert_eq!(exercise.check(&not_attempted()).verdict, Verdict::NotAttempted);
        let other = df!["other" => [1]].unwrap().lazy();
        let feedback = exercise.check(&other);
        // Without the given query, only the exercise that compares with it cannot be checked.
        let verdict = match exercise.task().expected {
            Expected::Sql(_) => Verdict::Wrong,
            Expected::Given => Verdict::NotChecked,
        };
        assert_eq!(feedback.verdict, verdict, "{feedback}");
        assert_eq!(exercise.given(&other).check(&other).verdict, Verdict::Wrong);
    }
}

#[test]
fn other_numbers_are_errors() {
    for number in [0, SOURCES.len() + 1] {
        let error = exercise(number).err().unwrap();
        assert!(matches!(error, Error::NoExercise { .. }), "{error}");
        assert!(error.to_string().contains("1 to 10"), "{error}");
    }
}
