//! The generator's public functions: properties of every dataset, and the state after a failure.

use std::fs;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use dataset_writer::Error as WriteError;
use polars::prelude::*;
use proptest::prelude::*;
use wearable_datagen::Error;
use wearable_demo::tables::{DAYS, SENSOR_HRV, SLEEP_DIARY, USER_PROFILE};
use wearable_demo::{GenerateOptions, Layout, Size, generate_dataset, scan};

fn options(rows: u64, dir: &Path) -> GenerateOptions {
    GenerateOptions::new(Size::Rows(rows), dir)
}

fn read(path: &Path) -> DataFrame {
    polars_notebook::files::read_parquet(path).unwrap()
}

/// The bytes of all Parquet files below `dir`, by path.
fn parquet_files(dir: &Path) -> Vec<(String, Vec<u8>)> {
    fn below(dir: &Path, files: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()) {
            match entry.is_dir() {
                true => below(&entry, files),
                false => files.push(entry),
            }
        }
    }
    let mut paths = Vec::new();
    below(dir, &mut paths);
    paths.retain(|path| path.extension().is_some_and(|e| e == "parquet"));
    paths.sort();
    let name = |p: &Path| p.strip_prefix(dir).unwrap().display().to_string();
    paths.iter().map(|p| (name(p), fs::read(p).unwrap())).collect()
}

const LAYOUTS: [Layout; 3] = [Layout::Unsorted, Layout::ByDevice, Layout::ByDate];

fn any_layout() -> impl Strategy<Value = Layout> {
    prop_oneof![Just(Layout::Unsorted), Just(Layout::ByDevice), Just(Layout::ByDate)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    /// Whatever the rows, part size, row group size, layout and seed: the dataset has the requested rows and
    /// the tables' columns, and another number of threads gives the same bytes.
    #[test]
    fn same_options_give_the_same_bytes(
        rows in 1u64..20_000, chunk_rows in 100u64..9_000, row_group_rows in 1u64..9_000,
        seed in any::<u64>(), threads in 2usize..6, layout in any_layout(),
    ) {
        let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let mut parts = 0;
        for (dir, threads) in [(&a, 1), (&b, threads)] {
            let threads = NonZeroUsize::new(threads);
            let requested = options(rows, dir.path());
            let options =
                GenerateOptions { seed, chunk_rows, row_group_rows, threads, layout, ..requested };
            let generated = generate_dataset(&options).unwrap();
            prop_assert_eq!(generated.sensor_rows, rows);
            let bytes: u64 = generated.files.iter().map(|file| file.bytes).sum();
            prop_assert!(bytes <= options.max_bytes(), "{} {}", bytes, options.max_bytes());
            parts = generated.files.len() - 2;
        }
        prop_assert_eq!(parquet_files(a.path()), parquet_files(b.path()));
        let dataset = scan::verify_dataset(a.path()).unwrap();
        prop_assert_eq!(dataset.rows, [50, 50 * u64::from(DAYS), rows]);
        prop_assert_eq!(dataset.sensor_parts, parts);
        prop_assert_eq!(scan::scan_sensor_hrv(b.path()).unwrap().collect().unwrap().height() as u64, rows);
    }

    /// This holds for unsorted datasets, whatever the size of their parts.
    #[test]
    fn longer_dataset_begins_with_the_shorter_one(
        rows in 1u64..9_000, more in 1u64..9_000, chunk_rows in 100u64..9_000,
    ) {
        let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        generate_dataset(&options(rows, a.path())).unwrap();
        generate_dataset(&GenerateOptions { chunk_rows, ..options(rows + more, b.path()) }).unwrap();
        let sensor = |dir: &Path| scan::scan_sensor_hrv(dir).unwrap().collect().unwrap();
        let (short, long) = (sensor(a.path()), sensor(b.path()));
        prop_assert!(short.equals(&long.head(Some(rows as usize))));
        for table in [&USER_PROFILE, &SLEEP_DIARY] {
            let read = |dir: &Path| read(&dir.join(table.location));
            prop_assert!(read(a.path()).equals(&read(b.path())));
        }
    }

    /// All layouts have the same rows, each in its own order.
    #[test]
    fn layouts_differ_only_in_their_order(
        rows in 1u64..30_000, chunk_rows in 100u64..20_000, seed in any::<u64>(),
    ) {
        let sorted = |frame: &DataFrame| {
            let columns = frame.get_column_names_owned();
            frame.sort(columns, SortMultipleOptions::default()).unwrap()
        };
        let datasets = LAYOUTS.map(|layout| {
            let dir = tempfile::tempdir().unwrap();
            let options =
                GenerateOptions { seed, chunk_rows, layout, ..options(rows, dir.path()) };
            generate_dataset(&options).unwrap();
            let frame = scan::scan_sensor_hrv(dir.path()).unwrap().collect().unwrap();
            assert_eq!(frame.schema(), &SENSOR_HRV.schema());
            (dir, frame)
        });
        let [unsorted, by_device, by_date] = &datasets;
        prop_assert!(sorted(&unsorted.1).equals(&sorted(&by_device.1)));
        prop_assert!(sorted(&unsorted.1).equals(&sorted(&by_date.1)));
        let in_order = ["device_id", "ts_start"];
        let options = SortMultipleOptions::default().with_maintain_order(true);
        prop_assert!(by_device.1.sort(in_order, options).unwrap().equals(&by_device.1));
        // The name of a folder is the date of all its rows.
        let folder = by_date.0.path().join("sensor_hrv");
        let with_date = polars_notebook::files::scan_parquet_files(&folder).unwrap().collect().unwrap();
        prop_assert!(with_date.drop("date").unwrap().equals(&by_date.1));
        let off = with_date.clone().lazy().filter(col("date").neq(col("ts_start").dt().date()));
        prop_assert_eq!(off.collect().unwrap().height(), 0);
        let folders = with_date.column("date").unwrap().n_unique().unwrap();
        prop_assert_eq!(fs::read_dir(folder).unwrap().count(), folders);
    }
}

/// The table is larger than a batch of the external sort.
#[test]
fn sort_of_a_large_table_does_not_depend_on_threads() {
    let dataset = |layout, threads| {
        let dir = tempfile::tempdir().unwrap();
        let threads = NonZeroUsize::new(threads);
        let requested = options(1_200_000, dir.path());
        let options = GenerateOptions { layout, threads, chunk_rows: 90_000, ..requested };
        let generated = generate_dataset(&options).unwrap();
        let bytes: u64 = generated.files.iter().map(|file| file.bytes).sum();
        assert!(bytes <= options.max_bytes());
        assert_eq!(scan::verify_dataset(dir.path()).unwrap().rows[2], 1_200_000);
        dir
    };
    // Equal sums over all rows are enough here, because other tests compare the order.
    let summed = |dir: &tempfile::TempDir| {
        let query = scan::scan_sensor_hrv(dir.path()).unwrap().group_by([col("device_id")]).agg([
            len(),
            (col("ts_start").cast(DataType::Int64) * col("heart_rate") % lit(9973i64)).sum(),
            (col("ts_end").cast(DataType::Int64) % lit(7919i64) * col("steps")).sum(),
        ]);
        query.sort(["device_id"], SortMultipleOptions::default()).collect().unwrap()
    };
    let unsorted = summed(&dataset(Layout::Unsorted, 2));
    for layout in [Layout::ByDevice, Layout::ByDate] {
        let one = dataset(layout, 1);
        assert_eq!(summed(&one), unsorted);
        for threads in [2, 3] {
            let more = dataset(layout, threads);
            assert!(parquet_files(one.path()) == parquet_files(more.path()), "{layout} {threads}");
        }
    }
}

/// FNV-1a over all values by column: the bits of floats, the bytes of text.
fn digest(frame: &DataFrame) -> u64 {
    let mut digest = 0xcbf2_9ce4_8422_2325u64;
    let mut take = |bytes: &[u8]| {
        for byte in bytes {
            digest = (digest ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    };
    for column in frame.columns() {
        take(column.name().as_bytes());
        for row in 0..column.len() {
            match column.get(row).unwrap() {
                AnyValue::String(text) => take(text.as_bytes()),
                AnyValue::Float64(value) => take(&value.to_bits().to_le_bytes()),
                value => take(&value.extract::<i64>().expect("a number").to_le_bytes()),
            }
        }
    }
    digest
}

/// The values of three seeds. If an update of a dependency changes them, data and results in notebooks
/// change, too. If that is intended, replace the numbers here.
#[test]
fn values_of_three_seeds_are_unchanged() {
    let digests = [42, 7, u64::MAX].map(|seed| {
        let dir = tempfile::tempdir().unwrap();
        generate_dataset(&GenerateOptions { seed, ..options(12_345, dir.path()) }).unwrap();
        [USER_PROFILE.location, SLEEP_DIARY.location, "sensor_hrv/part-00000.parquet"]
            .map(|location| format!("{:016x}", digest(&read(&dir.path().join(location)))))
    });
    let expected = [
        ["48b4168dfbe74af9", "7fa9ab0e1bbe7d7f", "28d905e287dd7b3c"],
        ["72b52370f354ffa2", "f9cea6c096377630", "bf05a67aefe67f03"],
        ["a3f8b38f69edd007", "bdf300bb1a00b39b", "7730ba58665fa230"],
    ];
    assert_eq!(digests, expected);
}

#[test]
fn seeds_give_different_values() {
    let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    generate_dataset(&options(100, a.path())).unwrap();
    generate_dataset(&GenerateOptions { seed: 43, ..options(100, b.path()) }).unwrap();
    for (a, b) in parquet_files(a.path()).iter().zip(parquet_files(b.path())) {
        assert_ne!(a.1, b.1, "{}", a.0);
    }
}

/// The smallest and largest value of a column, as floats.
fn range(frame: &DataFrame, column: &str) -> (f64, f64) {
    let values = frame.column(column).unwrap().cast(&DataType::Float64).unwrap();
    let values = values.f64().unwrap();
    assert_eq!(values.null_count(), 0, "{column}");
    (values.min().unwrap(), values.max().unwrap())
}

#[test]
fn values_cover_their_ranges() {
    let dir = tempfile::tempdir().unwrap();
    generate_dataset(&options(200_000, dir.path())).unwrap();
    let users = read(&dir.path().join("user_profile.parquet"));
    let sleep_diary = read(&dir.path().join("sleep_diary.parquet"));
    let sensor = read(&dir.path().join("sensor_hrv/part-00000.parquet"));
    // (table, column, lowest value, highest value, part of the range that the values cover)
    for (frame, column, low, high, reached) in [
        (&users, "age", 18.0, 65.0, 0.7),
        (&users, "height_cm", 150.0, 200.0, 0.7),
        (&users, "weight_kg", 45.0, 120.0, 0.7),
        (&users, "exercise_freq_weekly", 0.0, 7.0, 0.99),
        (&sleep_diary, "waso_minutes", 0.0, 30.0, 0.9),
        (&sleep_diary, "sleep_latency", 0.0, 30.0, 0.9),
        (&sleep_diary, "sleep_efficiency", 50.0, 100.0, 0.2),
        (&sleep_diary, "sleep_duration", 3.5, 12.0, 0.5),
        (&sensor, "heart_rate", 40.0, 220.0, 0.3),
        (&sensor, "hrv_sdnn", 20.0, 200.0, 0.4),
        (&sensor, "hrv_rmssd", 10.0, 150.0, 0.5),
        (&sensor, "hrv_lf_hf_ratio", 0.3, 2.0, 0.99),
        (&sensor, "bvp_mean", 0.3, 1.5, 0.99),
        (&sensor, "spo2", 95.0, 100.0, 0.99),
        (&sensor, "eda_mean", 0.12, 6.0, 0.8),
        (&sensor, "skin_temp", 32.0, 36.0, 0.99),
        (&sensor, "acc_magnitude", 0.015, 1.5, 0.8),
        (&sensor, "steps", 0.0, 149.0, 0.9),
        (&sensor, "missingness_score", 0.0, 1.0, 0.99),
    ] {
        let (min, max) = range(frame, column);
        assert!(low <= min && max <= high, "{column}: {min} to {max}");
        assert!((max - min) / (high - low) >= reached, "{column}: only {min} to {max}");
    }
}

#[test]
fn devices_charge_from_midnight_to_six() {
    let dir = tempfile::tempdir().unwrap();
    generate_dataset(&options(100_000, dir.path())).unwrap();
    let hour = col("ts_start").dt().hour();
    let by_charging = scan::scan_sensor_hrv(dir.path())
        .unwrap()
        .group_by([hour.lt(lit(6)).alias("charging")])
        .agg([
            len().alias("n"),
            col("missingness_score").min().alias("least"),
            col("steps").max().alias("most"),
        ])
        .sort(["charging"], SortMultipleOptions::default())
        .collect()
        .unwrap();
    let n = by_charging.column("n").unwrap().u32().unwrap();
    let share = f64::from(n.get(1).unwrap()) / 100_000.0;
    assert!((0.24..0.26).contains(&share), "a quarter of the day is charging: {share}");
    let least = by_charging.column("least").unwrap().f64().unwrap();
    assert!(least.get(0).unwrap() < 0.01 && least.get(1).unwrap() >= 0.3);
    let most = by_charging.column("most").unwrap().i64().unwrap();
    assert!(most.get(0).unwrap() > 100 && most.get(1).unwrap() <= 29);
}

/// The times are consistent, and the efficiency follows from them.
#[test]
fn times_of_the_sleep_diary_are_consistent() {
    let dir = tempfile::tempdir().unwrap();
    generate_dataset(&options(1, dir.path())).unwrap();
    let minutes = |a: &str, b: &str| {
        let ns = col(a).cast(DataType::Int64) - col(b).cast(DataType::Int64);
        let day = lit(24i64 * 3_600_000_000_000);
        ((ns + day.clone()) % day).cast(DataType::Float64) / lit(6e10)
    };
    let off = scan::scan_sleep_diary(dir.path())
        .unwrap()
        .select([
            (minutes("fall_asleep_time", "bedtime") - col("sleep_latency")).alias("latency"),
            (col("sleep_duration") * lit(6000.0) / minutes("wake_time", "bedtime")
                - col("sleep_efficiency"))
            .alias("efficiency"),
            col("bedtime").dt().hour().alias("bedtime"),
        ])
        .collect()
        .unwrap();
    let (low, high) = range(&off, "latency");
    assert!(low.abs() < 1e-6 && high.abs() < 1e-6);
    let (low, high) = range(&off, "efficiency");
    assert!(low.abs() <= 0.051 && high.abs() <= 0.15, "{low} to {high}");
    let (low, high) = range(&off, "bedtime");
    assert!((20.0..=23.0).contains(&low) && (20.0..=23.0).contains(&high));
}

#[test]
fn shorter_dataset_replaces_a_longer_one_completely() {
    let dir = tempfile::tempdir().unwrap();
    let short_parts = |rows| GenerateOptions { chunk_rows: 10, ..options(rows, dir.path()) };
    generate_dataset(&short_parts(50)).unwrap();
    let generated = generate_dataset(&short_parts(20)).unwrap();
    let dataset = scan::check_dataset(dir.path()).unwrap();
    assert_eq!((dataset.sensor_parts, dataset.rows[2]), (2, 20));
    assert!(fs::read_to_string(generated.metadata).unwrap().contains("actual_sensor_rows: 20\n"));
    let entries = fs::read_dir(dir.path()).unwrap().count();
    assert_eq!(entries, 4, "three tables and the metadata");
}

/// A reader that has opened the old files can read them to the end.
#[test]
fn open_files_stay_readable_after_a_replacement() {
    let dir = tempfile::tempdir().unwrap();
    generate_dataset(&options(50_000, dir.path())).unwrap();
    let part = dir.path().join("sensor_hrv/part-00000.parquet");
    let (old, open) = (read(&part), fs::File::open(&part).unwrap());
    generate_dataset(&GenerateOptions { seed: 7, ..options(50_000, dir.path()) }).unwrap();
    assert!(ParquetReader::new(open).finish().unwrap().equals(&old));
    assert!(!read(&part).equals(&old));
}

#[test]
fn too_small_disk_is_reported_before_writing() {
    let dir = tempfile::tempdir().unwrap();
    // More rows than any disk can hold.
    let error = generate_dataset(&GenerateOptions {
        chunk_rows: 10_000_000,
        ..options(1_000_000_000_000, dir.path())
    });
    let error = error.unwrap_err();
    assert!(
        matches!(error, Error::Write(WriteError::NotEnoughSpace { needed_mb: 19_000_000.., .. })),
        "{error}"
    );
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

/// Files of the user are neither replaced nor deleted, and nothing is written.
#[test]
fn files_of_the_user_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    generate_dataset(&options(10, dir.path())).unwrap();
    let before = parquet_files(dir.path());
    let notes = dir.path().join("sensor_hrv/my_notes.txt");
    fs::write(&notes, "important").unwrap();
    let error = generate_dataset(&options(20, dir.path())).unwrap_err();
    assert!(
        matches!(error, Error::Write(WriteError::WouldOverwrite { .. }))
            && error.to_string().contains("my_notes.txt")
    );
    assert_eq!(fs::read_to_string(&notes).unwrap(), "important");
    fs::remove_file(notes).unwrap();
    assert_eq!(parquet_files(dir.path()), before);

    for (entry, is_directory) in [("user_profile.parquet", true), ("sensor_hrv", false)] {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join(entry);
        if is_directory { fs::create_dir(&place) } else { fs::write(&place, "x") }.unwrap();
        let error = generate_dataset(&options(20, dir.path())).unwrap_err();
        assert!(matches!(error, Error::Write(WriteError::WouldOverwrite { .. })), "{error}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}

#[test]
fn generator_refuses_a_locked_directory() {
    let dir = tempfile::tempdir().unwrap();
    let other = fs::File::open(dir.path()).unwrap();
    other.lock().unwrap();
    let error = generate_dataset(&options(10, dir.path())).unwrap_err();
    assert!(matches!(error, Error::Write(WriteError::Busy { .. })), "{error}");
    drop(other);
    generate_dataset(&options(10, dir.path())).unwrap();
}

/// The error contains the path, and no directories are left.
#[test]
fn directory_that_cannot_be_created_is_reported() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "x").unwrap();
    for place in [file.clone(), file.join("below")] {
        let error = generate_dataset(&options(10, &place)).unwrap_err();
        assert!(error.to_string().contains(&place.display().to_string()), "{error}");
    }
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

/// The generator accepts directory names that are not valid UTF-8. polars cannot scan them, and the error
/// contains the reason.
#[cfg(unix)]
#[test]
fn directory_name_may_be_invalid_utf8() {
    use std::os::unix::ffi::OsStrExt;
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join(std::ffi::OsStr::from_bytes(b"data \xff"));
    for layout in LAYOUTS {
        generate_dataset(&GenerateOptions { layout, ..options(100, &dir) }).unwrap();
        assert_eq!(scan::verify_dataset(&dir).unwrap().rows[2], 100);
        let error = scan::scan_sensor_hrv(&dir).err().unwrap().to_string();
        assert!(error.contains("UTF-8") && error.contains("Rename"), "{error}");
    }
}

/// Characters with a meaning in YAML, Hive paths or patterns have no special meaning in directory names.
#[test]
fn directory_name_may_contain_special_characters() {
    let parent = tempfile::tempdir().unwrap();
    for name in ["a: b", "date=2020-01-01", "user_id=7", "- x", "[1]*?", "é 🙂", "a\nb", "#", "{a}"]
    {
        for layout in LAYOUTS {
            let dir = parent.path().join(name);
            generate_dataset(&GenerateOptions { layout, ..options(100, &dir) }).unwrap();
            assert_eq!(scan::verify_dataset(&dir).unwrap().rows[2], 100, "{name} {layout}");
            let frame = scan::scan_sensor_hrv(&dir).unwrap().collect().unwrap();
            assert_eq!((frame.height(), frame.schema()), (100, &SENSOR_HRV.schema()), "{name}");
            let columns = 14 + usize::from(layout == Layout::ByDate);
            let frame = polars_notebook::files::scan_parquet_files(&dir.join("sensor_hrv"))
                .unwrap()
                .collect()
                .unwrap();
            assert_eq!((frame.height(), frame.width()), (100, columns), "{name} {layout}");
        }
    }
}

/// Inside the tables of a dataset, another dataset would be read as their parts.
#[test]
fn dataset_inside_a_table_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    generate_dataset(&options(10, dir.path())).unwrap();
    let before = parquet_files(dir.path());
    for below in ["sensor_hrv", "sensor_hrv/date=2024-01-01", "sensor_hrv/new/../deep"] {
        let error = generate_dataset(&options(20, &dir.path().join(below))).unwrap_err();
        assert!(matches!(error, Error::InvalidOption { option: "output_dir", .. }), "{error}");
    }
    assert_eq!(parquet_files(dir.path()), before);
    assert_eq!(fs::read_dir(dir.path().join("sensor_hrv")).unwrap().count(), 1);
    // Next to the tables, another dataset is allowed.
    generate_dataset(&options(20, &dir.path().join("more"))).unwrap();
    scan::verify_dataset(dir.path()).unwrap();
    let error = generate_dataset(&options(20, Path::new(""))).unwrap_err();
    assert!(error.to_string().contains("output_dir is empty"), "{error}");
}

/// After a failure, directories that the generator created are removed, and existing ones stay.
#[test]
fn failure_leaves_no_new_directories() {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("a/b/c");
    let too_many = GenerateOptions { chunk_rows: 10_000_000, ..options(1_000_000_000_000, &place) };
    assert!(matches!(
        generate_dataset(&too_many),
        Err(Error::Write(WriteError::NotEnoughSpace { .. }))
    ));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    fs::create_dir(dir.path().join("a")).unwrap();
    assert!(generate_dataset(&too_many).is_err());
    assert_eq!(fs::read_dir(dir.path().join("a")).unwrap().count(), 0);
    generate_dataset(&options(10, &place)).unwrap();
    assert_eq!(scan::check_dataset(&place).unwrap().rows[2], 10);
}

/// The free space must be enough for the dataset and its temporary files.
#[test]
fn temporary_files_are_counted() {
    let dir = tempfile::tempdir().unwrap();
    let free = wearable_demo::free_bytes(dir.path()).unwrap();
    // The dataset fits unsorted, but not with the temporary files of a sort.
    let rows = (free / 30).min(900_000_000_000);
    let unsorted = GenerateOptions { chunk_rows: 10_000_000, ..options(rows, dir.path()) };
    assert!(unsorted.max_bytes() + unsorted.temporary_bytes() < free);
    for layout in [Layout::ByDevice, Layout::ByDate] {
        let sorted = GenerateOptions { layout, ..unsorted.clone() };
        let error = generate_dataset(&sorted).unwrap_err();
        assert!(matches!(error, Error::Write(WriteError::NotEnoughSpace { .. })), "{error}");
    }
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn data_dictionary_equals_the_output_of_describe() {
    let readme = include_str!("../../../data/README.md");
    for table in [&USER_PROFILE, &SLEEP_DIARY, &SENSOR_HRV] {
        assert!(
            readme.contains(&table.describe()),
            "write `generate_demo_data --describe` to data/README.md: {}",
            table.name
        );
    }
}
