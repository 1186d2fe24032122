//! A row depends only on the seed and its number, and every layout contains each row once.

use polars::prelude::{DataType, ParquetReader, SerReader};
use proptest::prelude::*;
use wearable_datagen::sensor::columns::{Codes, Columns};
use wearable_datagen::sensor::{
    Buckets, Layout, Part, PartGenerator, Physiology, SEGMENTS_PER_DAY, SensorTable, encode,
};

fn some_users(count: u32) -> Vec<Physiology> {
    let physiology = |n: u32| Physiology {
        age: f64::from(18 + n % 48),
        resting: 60.0,
        segment_sigma: 5.0,
        day_offset: [0.5; 35],
        activity_scale: 1.0,
        sensitivity: 0.1,
    };
    (0..count).map(physiology).collect()
}

fn table(
    users: &[Physiology],
    seed: u64,
    rows: u64,
    chunk_rows: u64,
    layout: Layout,
) -> SensorTable<'_> {
    SensorTable {
        users,
        first_day: 19_723,
        seed,
        first_stream: 2,
        rows,
        chunk_rows,
        row_group_rows: 1000,
        layout,
    }
}

/// The rows as tuples, which can be compared.
fn tuples(columns: &Columns) -> Vec<(u16, u16, u16, u16, u16)> {
    let of = |codes: Codes| columns.codes(codes);
    let row = |i: usize| {
        (
            of(Codes::User)[i],
            of(Codes::Segment)[i],
            of(Codes::Sdnn)[i],
            of(Codes::Eda)[i],
            of(Codes::Missingness)[i],
        )
    };
    (0..columns.len()).map(row).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    /// Any range of rows is the same in a longer table, wherever blocks begin.
    #[test]
    fn row_depends_only_on_its_number(
        seed in any::<u64>(), start in 0u64..20_000, rows in 0u64..9_000, more in 0u64..9_000,
    ) {
        let users = some_users(60);
        let short = table(&users, seed, start + rows, 100, Layout::Unsorted);
        let long = table(&users, seed, start + rows + more, 777, Layout::Unsorted);
        prop_assert_eq!(short.generate(start, rows), long.generate(start, rows));
        let (whole, part) = (long.generate(0, start + rows), long.generate(start, rows));
        prop_assert_eq!(&tuples(&whole)[start as usize..], &tuples(&part)[..]);
    }

    /// Parts contain consecutive rows, as many as they declare.
    #[test]
    fn parts_contain_all_rows(
        rows in 1u64..30_000, chunk_rows in 500u64..9_000, users in 1u32..80,
    ) {
        let users = some_users(users);
        for layout in [Layout::Unsorted, Layout::ByDevice, Layout::ByDate] {
            let files = files(&table(&users, 7, rows, chunk_rows, layout));
            prop_assert_eq!(files.iter().map(|(part, _)| part.rows).sum::<u64>(), rows);
            for (part, bytes) in &files {
                prop_assert!((1..=chunk_rows).contains(&part.rows));
                prop_assert!(bytes.starts_with(b"PAR1") && bytes.ends_with(b"PAR1"));
            }
        }
    }
}

/// All files of a table, in order.
fn files(table: &SensorTable) -> Vec<(Part, Vec<u8>)> {
    let directory = tempfile::tempdir().unwrap();
    let sorted = (table.layout != Layout::Unsorted).then(|| {
        let buckets = Buckets::new(table, directory.path());
        for batch in 0..buckets.batches() {
            let batch = [buckets.generate(batch)];
            (0..buckets.count()).for_each(|bucket| buckets.append(bucket, &batch).unwrap());
        }
        (0..buckets.count()).for_each(|bucket| buckets.sort(bucket).unwrap());
        buckets.finish().unwrap()
    });
    let parts = sorted.as_ref().map_or_else(|| table.parts(), |sorted| sorted.parts());
    let mut generator = PartGenerator::new(table);
    let bytes = |part: &Part| {
        encode::parquet(table, generator.rows(part, sorted.as_ref()).unwrap()).unwrap()
    };
    let bytes: Vec<_> = parts.iter().map(bytes).collect();
    parts.into_iter().zip(bytes).collect()
}

/// Compares the values that polars reads with the codes. The layouts cover short and long runs, and
/// dictionaries of one and of many values.
fn check_values(rows: u64, user_count: u32, row_group_rows: usize, layout: Layout) {
    let users = some_users(user_count);
    let table = SensorTable { row_group_rows, ..table(&users, 3, rows, 5_000, layout) };
    let mut rows_read = Vec::new();
    for (part, bytes) in files(&table) {
        let frame = ParquetReader::new(std::io::Cursor::new(bytes)).finish().unwrap();
        assert_eq!(frame.height() as u64, part.rows);
        let column = |name: &str| frame.column(name).unwrap();
        let int = |name: &str| {
            let ints = column(name).cast(&DataType::Int64).unwrap();
            ints.i64().unwrap().into_no_null_iter().collect::<Vec<_>>()
        };
        let tenths = |name: &str, scale: f64| {
            let floats = column(name).f64().unwrap().into_no_null_iter();
            floats.map(|x| (x * scale).round() as u16).collect::<Vec<_>>()
        };
        let first = 19_723 * 24 * 60 * 60 * 1_000_000;
        let segment = |us: i64| ((us - first) / 300_000_000) as u16;
        let (starts, ends) = (int("ts_start"), int("ts_end"));
        assert!(starts.iter().zip(&ends).all(|(start, end)| end - start == 300_000_000));
        let devices = column("device_id").str().unwrap().iter().flatten();
        let numbers = devices.map(|id| id.strip_prefix("DEV-").unwrap().parse::<u16>().unwrap());
        let (sdnn, eda) = (tenths("hrv_sdnn", 100.0), tenths("eda_mean", 1000.0));
        let missing = tenths("missingness_score", 1000.0);
        for (i, number) in numbers.enumerate() {
            let day = u32::from(segment(starts[i])) / SEGMENTS_PER_DAY;
            assert!(part.day.is_none_or(|of_part| of_part == day));
            rows_read.push((number, segment(starts[i]), sdnn[i], eda[i], missing[i]));
        }
    }
    let mut expected = tuples(&table.generate(0, rows));
    match layout {
        Layout::Unsorted => {}
        Layout::ByDevice => expected.sort_by_key(|row| (row.0, row.1)),
        Layout::ByDate => expected.sort_by_key(|row| row.1 / SEGMENTS_PER_DAY as u16),
    }
    assert!(rows_read == expected, "{rows} rows, {user_count} users, {row_group_rows}, {layout}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn polars_reads_the_generated_values(
        rows in 1u64..20_000, users in 1u32..400, row_group_rows in 1usize..6_000,
    ) {
        for layout in [Layout::Unsorted, Layout::ByDevice, Layout::ByDate] {
            check_values(rows, users, row_group_rows.max(rows as usize / 500), layout);
        }
    }
}

/// The table is larger than a batch, so it has several batches and several buckets of devices.
#[test]
fn table_of_several_batches_is_sorted() {
    for layout in [Layout::ByDevice, Layout::ByDate] {
        check_values(1_200_000, 90, 100_000, layout);
        // One device has rows in several buckets, and there are more buckets than days.
        check_values(1_200_000, 1, 100_000, layout);
    }
}

/// The table must not become shorter.
#[test]
fn missing_temporary_file_is_an_error() {
    let (users, directory) = (some_users(60), tempfile::tempdir().unwrap());
    let table = table(&users, 3, 9_000, 5_000, Layout::ByDate);
    let buckets = Buckets::new(&table, directory.path());
    let batch = [buckets.generate(0)];
    (0..buckets.count()).for_each(|bucket| buckets.append(bucket, &batch).unwrap());
    std::fs::remove_file(directory.path().join("bucket-00007")).unwrap();
    assert!(buckets.finish().is_err());
}

#[test]
fn another_seed_generates_other_rows() {
    let users = some_users(50);
    let of = |seed| tuples(&table(&users, seed, 4000, 4000, Layout::Unsorted).generate(0, 4000));
    assert_ne!(of(1), of(2));
    let day = |row: &(u16, u16, u16, u16, u16)| u32::from(row.1) / SEGMENTS_PER_DAY;
    assert!(of(1).iter().any(|row| day(row) == 0) && of(1).iter().any(|row| day(row) == 34));
}
