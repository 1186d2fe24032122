//! Missing and damaged data: the error contains the problem, the file, and the command that repairs it.

use std::fs;

use polars::prelude::*;
use wearable_demo::{
    Error, GenerateOptions, Layout, Size, ensure_dataset, generate_dataset, query, scan,
};

fn dataset() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    generate_dataset(&GenerateOptions::new(Size::Rows(10), dir.path())).unwrap();
    dir
}

#[test]
fn ensure_dataset_generates_only_if_there_are_no_sensor_rows() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    ensure_dataset(&data).unwrap();
    let summary = scan::check_dataset(&data).unwrap();
    let expected =
        "user_profile: 150 rows\nsleep_diary: 5,250 rows\nsensor_hrv: 1,000,000 rows in 5 files";
    assert_eq!(summary.to_string(), expected);

    // The user's own dataset stays.
    let own = dataset();
    ensure_dataset(own.path()).unwrap();
    assert_eq!(scan::check_dataset(own.path()).unwrap().rows[2], 10);
    // A file with the name of the directory is an error that names it.
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    let message = ensure_dataset(&file).unwrap_err().to_string();
    assert!(message.contains("file"), "{message}");
}

#[test]
fn missing_files_are_listed() {
    let dir = dataset();
    fs::remove_file(dir.path().join("sleep_diary.parquet")).unwrap();
    let message = scan::check_dataset(dir.path()).unwrap_err().to_string();
    assert!(message.contains("sleep_diary.parquet") && !message.contains("user_profile"));
    assert!(message.contains("sensor parts found: 1"), "{message}");
    assert!(message.contains("./justw data small"), "{message}");

    fs::remove_dir_all(dir.path().join("sensor_hrv")).unwrap();
    let message = scan::check_dataset(dir.path()).unwrap_err().to_string();
    assert!(message.contains("sensor parts found: 0"), "{message}");
    assert!(!scan::has_sensor_data(dir.path()));
    let error = scan::scan_sensor_hrv(dir.path()).err().unwrap();
    assert!(matches!(error, Error::MissingData { sensor_parts: 0, .. }), "{error}");
}

#[test]
fn damaged_file_is_named() {
    let dir = dataset();
    let part = dir.path().join("sensor_hrv/part-00000.parquet");
    let bytes = fs::read(&part).unwrap();
    for damaged in [&b""[..], b"not Parquet at all", &bytes[..bytes.len() / 2]] {
        fs::write(&part, damaged).unwrap();
        let error = scan::check_dataset(dir.path()).unwrap_err();
        let message = error.to_string();
        assert!(matches!(error, Error::DamagedFile { .. }), "{message}");
        assert!(message.contains("part-00000.parquet") && message.contains("./justw data small"));
    }
}

#[test]
fn wrong_schema_is_reported_by_column() {
    let dir = dataset();
    let path = dir.path().join("user_profile.parquet");
    let users = polars_notebook::files::read_parquet(&path).unwrap();
    let changed = users
        .lazy()
        .select([(all() - by_name(["gender"], true, false)).as_expr()])
        .with_columns([col("age").cast(DataType::Float64), lit(1i64).alias("shoe_size")])
        .collect()
        .unwrap();
    polars_notebook::files::write_parquet(&changed, &path).unwrap();
    let error = scan::scan_user_profile(dir.path()).err().unwrap();
    let Error::SchemaMismatch { table, differences, .. } = &error else { panic!("{error}") };
    assert_eq!(*table, "user_profile");
    assert_eq!(
        differences,
        &[
            "age: is f64, should be i64",
            "gender: missing, should be str",
            "shoe_size: not in the table"
        ]
    );
    assert!(error.to_string().contains("user_profile.parquet"));
}

/// Characters of file patterns have no special meaning in a directory's name.
#[test]
fn directory_name_may_contain_pattern_characters() {
    let dir = tempfile::tempdir().unwrap();
    let odd = dir.path().join("data [1] *? é, x");
    generate_dataset(&GenerateOptions::new(Size::Rows(10), &odd)).unwrap();
    assert_eq!(scan::scan_sensor_hrv(&odd).unwrap().collect().unwrap().height(), 10);
}

#[test]
fn failed_sink_leaves_the_old_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("result.parquet");
    let good = df!["x" => [1i64]].unwrap();
    polars_notebook::files::write_parquet(&good, &path).unwrap();
    let bad = good.clone().lazy().select([col("y")]);
    assert!(polars_notebook::files::sink_parquet(&bad, &path).is_err());
    assert_eq!(polars_notebook::files::read_parquet(&path).unwrap(), good);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

/// A missing or additional part differs from the metadata. Hidden files are ignored.
#[test]
fn difference_from_the_metadata_is_reported() {
    let dir = tempfile::tempdir().unwrap();
    let options =
        GenerateOptions { chunk_rows: 10, ..GenerateOptions::new(Size::Rows(30), dir.path()) };
    generate_dataset(&options).unwrap();
    let part = |name: &str| dir.path().join("sensor_hrv").join(name);
    fs::copy(part("part-00000.parquet"), part(".part-00009.parquet")).unwrap();
    scan::check_dataset(dir.path()).unwrap();

    fs::copy(part("part-00000.parquet"), part("copy.parquet")).unwrap();
    let message = scan::check_dataset(dir.path()).unwrap_err().to_string();
    assert!(message.contains("sensor rows: 40, should be 30"), "{message}");
    assert!(message.contains("sensor parts: 4, should be 3"), "{message}");
    assert!(message.contains("not in the metadata: sensor_hrv/copy.parquet"), "{message}");
    assert!(message.contains("./justw data small"), "{message}");

    fs::remove_file(part("copy.parquet")).unwrap();
    fs::remove_file(part("part-00001.parquet")).unwrap();
    let error = scan::check_dataset(dir.path()).unwrap_err();
    assert!(matches!(error, Error::InconsistentData { .. }), "{error}");
    assert!(error.to_string().contains("missing: sensor_hrv/part-00001.parquet"), "{error}");
    // The number of parts is right, but one has another name.
    fs::copy(part("part-00000.parquet"), part("part-00007.parquet")).unwrap();
    let error = scan::check_dataset(dir.path()).unwrap_err().to_string();
    assert!(error.contains("not in the metadata: sensor_hrv/part-00007.parquet"), "{error}");
    fs::remove_file(dir.path().join("generation_metadata.yaml")).unwrap();
    scan::check_dataset(dir.path()).unwrap();
}

/// Only a query detects damage to a page. Its error also contains the command.
#[test]
fn error_of_a_damaged_page_has_the_repair_command() {
    let dir = dataset();
    let path = dir.path().join("sensor_hrv/part-00000.parquet");
    let mut bytes = fs::read(&path).unwrap();
    bytes[4..200].fill(0);
    fs::write(&path, bytes).unwrap();
    let query = scan::scan_sensor_hrv(dir.path()).unwrap();
    let error = Error::from(query.collect().unwrap_err());
    assert!(error.to_string().contains("./justw data small"), "{error}");
}

/// A part is moved to the folder of another date, and another part is truncated.
#[test]
fn dataset_by_date_is_checked_for_each_file() {
    let dir = tempfile::tempdir().unwrap();
    let options = GenerateOptions {
        layout: Layout::ByDate,
        ..GenerateOptions::new(Size::Rows(5_000), dir.path())
    };
    generate_dataset(&options).unwrap();
    assert_eq!(scan::verify_dataset(dir.path()).unwrap().sensor_parts, 35);
    assert!(scan::has_sensor_data(dir.path()));
    let files = scan::sensor_files(dir.path()).unwrap();
    assert!(files.len() == 35 && files.is_sorted());

    let moved = files[0].with_file_name("../date=2024-01-03/part-00001.parquet");
    fs::rename(&files[0], &moved).unwrap();
    let message = scan::check_dataset(dir.path()).unwrap_err().to_string();
    assert!(message.contains("missing: sensor_hrv/date=2024-01-01/part-00000"), "{message}");
    assert!(message.contains("metadata: sensor_hrv/date=2024-01-03/part-00001"), "{message}");
    fs::rename(&moved, &files[0]).unwrap();

    let bytes = fs::read(&files[5]).unwrap();
    fs::write(&files[5], &bytes[..bytes.len() - 1]).unwrap();
    let error = scan::check_dataset(dir.path()).unwrap_err();
    assert!(matches!(&error, Error::DamagedFile { file, .. } if *file == files[5]), "{error}");
    fs::write(&files[5], &bytes).unwrap();
    // Only a check of all bytes detects a damaged page.
    let mut damaged = bytes.clone();
    damaged[100] ^= 1;
    fs::write(&files[5], damaged).unwrap();
    scan::check_dataset(dir.path()).unwrap();
    let error = scan::verify_dataset(dir.path()).unwrap_err();
    assert!(matches!(&error, Error::DamagedFile { file, .. } if *file == files[5]), "{error}");

    for file in &files[3..20] {
        fs::remove_file(file).unwrap();
    }
    let message = scan::check_dataset(dir.path()).unwrap_err().to_string();
    assert!(message.contains("missing: 12 more files"), "{message}");
}

/// Every layout gives the same rows to every query.
#[test]
fn queries_do_not_depend_on_the_layout() {
    let results = [Layout::Unsorted, Layout::ByDevice, Layout::ByDate].map(|layout| {
        let dir = tempfile::tempdir().unwrap();
        let options =
            GenerateOptions { layout, ..GenerateOptions::new(Size::Rows(20_000), dir.path()) };
        generate_dataset(&options).unwrap();
        let sensor = scan::scan_sensor_hrv(dir.path()).unwrap();
        let good = query::quality_filter(&sensor);
        let nightly = query::nightly(&query::night_segments(&query::with_keys(&good)));
        let (sleep_diary, users) = (
            scan::scan_sleep_diary(dir.path()).unwrap(),
            scan::scan_user_profile(dir.path()).unwrap(),
        );
        let built = query::summary(&query::joined(&sleep_diary, &nightly, &users));
        let sql = query::summary_sql(&sensor, &sleep_diary, &users).unwrap();
        let by_device =
            query::summary(&query::joined(&sleep_diary, &query::nightly_by_device(&good), &users));
        [built, sql, by_device].map(|query| query.collect().unwrap())
    });
    let [expected, ..] = &results[0];
    assert!(expected.height() > 10);
    for frames in &results {
        for frame in frames {
            assert!(polars_notebook::frames_close(frame, expected), "{frame} {expected}");
        }
    }
}
