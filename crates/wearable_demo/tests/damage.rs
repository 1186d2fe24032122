//! Damages datasets in every way that files can be damaged. Checks report the damage with the file's
//! name, and nothing panics.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use polars::prelude::*;
use proptest::prelude::*;
use wearable_demo::{Error, GenerateOptions, Layout, Result, Size, generate_dataset, query, scan};

static WHOLE: LazyLock<tempfile::TempDir> = LazyLock::new(|| {
    let dir = tempfile::tempdir().unwrap();
    let options = GenerateOptions {
        chunk_rows: 2_000,
        row_group_rows: 700,
        layout: Layout::Unsorted,
        ..GenerateOptions::new(Size::Rows(5_000), dir.path())
    };
    generate_dataset(&options).unwrap();
    dir
});
const FILES: [&str; 5] = [
    "user_profile.parquet",
    "sleep_diary.parquet",
    "sensor_hrv/part-00000.parquet",
    "sensor_hrv/part-00001.parquet",
    "sensor_hrv/part-00002.parquet",
];

fn copy() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("sensor_hrv")).unwrap();
    for file in FILES.iter().chain(&["generation_metadata.yaml"]) {
        fs::copy(WHOLE.path().join(file), dir.path().join(file)).unwrap();
    }
    dir
}

/// Damage to a file.
#[derive(Clone, Debug)]
enum Damage {
    /// Only this many thousandths of the file are left.
    Truncated(u64),
    /// A byte, at this position in millionths of the file, has these bits flipped.
    Byte(u64, u8),
    /// A byte near the end, where the footer is, has these bits flipped.
    Footer(u64, u8),
    /// The file has the content of another file.
    Foreign(usize),
    /// A copy of the file exists.
    Duplicated,
    /// The file does not exist.
    Missing,
}

fn damage() -> impl Strategy<Value = Damage> {
    prop_oneof![
        (0u64..1000).prop_map(Damage::Truncated),
        (0u64..1_000_000, 1u8..).prop_map(|(at, bits)| Damage::Byte(at, bits)),
        (0u64..3000, 1u8..).prop_map(|(at, bits)| Damage::Footer(at, bits)),
        (0usize..FILES.len()).prop_map(Damage::Foreign),
        Just(Damage::Duplicated),
        Just(Damage::Missing),
    ]
}

/// Damages a file of the dataset in `dir`. Returns whether that changes anything.
fn apply(damage: &Damage, dir: &Path, file: &str) -> bool {
    let path = dir.join(file);
    let mut bytes = fs::read(&path).unwrap();
    let len = bytes.len() as u64;
    match *damage {
        Damage::Truncated(thousandths) => bytes.truncate((len * thousandths / 1000) as usize),
        Damage::Byte(at, bits) => bytes[(len * at / 1_000_000) as usize] ^= bits,
        Damage::Footer(back, bits) => bytes[(len - 1 - back % len) as usize] ^= bits,
        Damage::Foreign(other) if FILES[other] == file => return false,
        Damage::Foreign(other) => bytes = fs::read(dir.join(FILES[other])).unwrap(),
        Damage::Duplicated => {
            let second = path.with_file_name("part-00099.parquet");
            let is_part = file.starts_with("sensor_hrv/");
            return is_part && fs::copy(path, second).is_ok();
        }
        Damage::Missing => return fs::remove_file(path).is_ok(),
    }
    fs::write(path, bytes).unwrap();
    true
}

/// Uses a dataset like a notebook: checks it, and queries every column.
fn use_dataset(dir: &Path) -> Result<usize> {
    scan::check_dataset(dir)?;
    let mut rows = 0;
    for table in [scan::scan_user_profile(dir)?, scan::scan_sleep_diary(dir)?] {
        rows += table.collect()?.height();
    }
    let sensor = scan::scan_sensor_hrv(dir)?;
    let nightly = query::nightly(&query::night_segments(&query::with_keys(&sensor)));
    rows += nightly.collect_with_engine(Engine::Streaming)?.unwrap_single().height();
    Ok(rows + sensor.collect()?.height())
}

/// Number of random cases. `PROPTEST_CASES=20000` takes about ten minutes.
fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(300)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), ..ProptestConfig::default() })]

    #[test]
    fn damage_is_reported_with_the_file(damage in damage(), file in 0usize..FILES.len()) {
        let dir = copy();
        let file = FILES[file];
        if !apply(&damage, dir.path(), file) {
            return Ok(());
        }
        let result = catch_unwind(|| scan::verify_dataset(dir.path()));
        let Ok(result) = result else {
            return Err(TestCaseError::fail(format!("verify_dataset panics: {damage:?} of {file}")));
        };
        let Err(error) = result else {
            return Err(TestCaseError::fail(format!("not reported: {damage:?} of {file}")));
        };
        // The error contains the file, or counts that differ from the metadata.
        let message = error.to_string();
        let named = message.contains(&Path::new(file).file_name().unwrap().display().to_string());
        let counted = matches!(error, Error::InconsistentData { .. } | Error::MissingData { .. });
        prop_assert!(named || counted, "{:?} of {}: {}", damage, file, message);

        // A check of the footers reports damage to footers, and never panics.
        let footer_check = catch_unwind(|| scan::check_dataset(dir.path()).is_ok());
        prop_assert!(footer_check.is_ok(), "check_dataset panics: {:?} of {}", damage, file);
        let outcome = catch_unwind(AssertUnwindSafe(|| use_dataset(dir.path())));
        // polars panics on some damaged pages with an intact footer. In a kernel, the cell then fails and
        // the variables stay.
        let in_pages = matches!(footer_check, Ok(true));
        prop_assert!(in_pages || outcome.is_ok(), "{:?} of {}", damage, file);
    }
}

#[test]
fn undamaged_dataset_passes() {
    let dataset = scan::verify_dataset(copy().path()).unwrap();
    assert_eq!((dataset.sensor_parts, dataset.rows), (3, [50, 1750, 5000]));
    assert!(use_dataset(copy().path()).is_ok());
}

/// A directory has the name of a file, and a file has the name of the directory.
#[test]
fn entries_of_the_wrong_kind_are_reported() {
    let dir = copy();
    let place: PathBuf = dir.path().join(FILES[0]);
    fs::remove_file(&place).unwrap();
    fs::create_dir(&place).unwrap();
    assert!(matches!(scan::check_dataset(dir.path()), Err(Error::MissingData { .. })));
    let dir = copy();
    fs::remove_dir_all(dir.path().join("sensor_hrv")).unwrap();
    fs::write(dir.path().join("sensor_hrv"), "x").unwrap();
    let error = scan::check_dataset(dir.path()).unwrap_err();
    assert!(error.to_string().contains("sensor_hrv"), "{error}");
}
