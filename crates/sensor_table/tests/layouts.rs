//! A row depends on the seed and its number alone, and every layout has all of them, once.

use polars::prelude::{DataType, ParquetReader, PolarsError, SerReader};
use proptest::prelude::*;
use sensor_table::columns::{Codes, Columns};
use sensor_table::{Layout, Maker, SEGMENTS_PER_DAY, SensorTable, Wearer};

fn wearers(count: u32) -> Vec<Wearer> {
    let wearer = |n: u32| Wearer {
        age: f64::from(18 + n % 48),
        resting: 60.0,
        segment_sigma: 5.0,
        day_offset: [0.5; 35],
        activity_scale: 1.0,
        sensitivity: 0.1,
    };
    (0..count).map(wearer).collect()
}

fn table(
    wearers: &[Wearer],
    seed: u64,
    rows: u64,
    chunk_rows: u64,
    layout: Layout,
) -> SensorTable<'_> {
    SensorTable {
        wearers,
        first_day: 19_723,
        seed,
        first_stream: 2,
        rows,
        chunk_rows,
        row_group_rows: 1000,
        layout,
    }
}

/// The rows as tuples that can be ordered.
fn tuples(columns: &Columns) -> Vec<(u16, u16, u16, u16, u16)> {
    let of = |codes: Codes| columns.codes(codes);
    let row = |i: usize| {
        (
            of(Codes::Wearer)[i],
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

    /// Any stretch of a longer table is that of a shorter one, wherever blocks begin and end.
    #[test]
    fn a_row_depends_on_its_number_alone(
        seed in any::<u64>(), start in 0u64..20_000, rows in 0u64..9_000, more in 0u64..9_000,
    ) {
        let wearers = wearers(60);
        let short = table(&wearers, seed, start + rows, 100, Layout::AsDrawn);
        let long = table(&wearers, seed, start + rows + more, 777, Layout::AsDrawn);
        prop_assert_eq!(short.drawn(start, rows), long.drawn(start, rows));
        let (whole, part) = (long.drawn(0, start + rows), long.drawn(start, rows));
        prop_assert_eq!(&tuples(&whole)[start as usize..], &tuples(&part)[..]);
    }

    /// Parts follow each other without a gap, and have as many rows as they say.
    #[test]
    fn parts_make_up_the_table(
        rows in 1u64..30_000, chunk_rows in 500u64..9_000, users in 1u32..80, threads in 1usize..5,
    ) {
        let wearers = wearers(users);
        for layout in [Layout::AsDrawn, Layout::ByDevice, Layout::ByDate] {
            let table = table(&wearers, 7, rows, chunk_rows, layout);
            let passes = table.passes(threads);
            let parts: Vec<_> = passes.iter().flat_map(|pass| &pass.parts).collect();
            prop_assert_eq!(parts.iter().map(|part| part.rows).sum::<u64>(), rows);
            prop_assert!(parts.iter().all(|part| (1..=chunk_rows).contains(&part.rows)));
            let (mut made, mut maker) = (0, Maker::new(&table));
            for pass in &passes {
                maker.make::<PolarsError>(pass, |_, bytes| {
                    made += 1;
                    assert!(bytes.starts_with(b"PAR1") && bytes.ends_with(b"PAR1"));
                    Ok(())
                }).unwrap();
            }
            prop_assert_eq!(made, parts.len());
        }
    }
}

/// The values that a file has, by a reader that knows nothing of codes; in all layouts, so with short
/// and long runs, and with dictionaries of one value and of many.
fn values_are_the_codes(rows: u64, users: u32, row_group_rows: usize, layout: Layout) {
    let wearers = wearers(users);
    let table = SensorTable { row_group_rows, ..table(&wearers, 3, rows, 5_000, layout) };
    let mut maker = Maker::new(&table);
    let mut found = Vec::new();
    for pass in table.passes(2) {
        maker
            .make::<PolarsError>(&pass, |part, bytes| {
                let frame = ParquetReader::new(std::io::Cursor::new(bytes)).finish()?;
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
                let numbers =
                    devices.map(|id| id.strip_prefix("DEV-").unwrap().parse::<u16>().unwrap());
                let (sdnn, eda) = (tenths("hrv_sdnn", 100.0), tenths("eda_mean", 1000.0));
                let missing = tenths("missingness_score", 1000.0);
                for (i, number) in numbers.enumerate() {
                    found.push((number, segment(starts[i]), sdnn[i], eda[i], missing[i]));
                }
                Ok(())
            })
            .unwrap();
    }
    let mut expected = tuples(&table.drawn(0, rows));
    match layout {
        Layout::AsDrawn => {}
        Layout::ByDevice => expected.sort_by_key(|row| (row.0, row.1)),
        Layout::ByDate => expected.sort_by_key(|row| row.1 / SEGMENTS_PER_DAY as u16),
    }
    assert!(found == expected, "{rows} rows, {users} users, {row_group_rows}, {layout}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn a_reader_finds_what_was_drawn(
        rows in 1u64..20_000, users in 1u32..400, row_group_rows in 1usize..6_000,
    ) {
        for layout in [Layout::AsDrawn, Layout::ByDevice, Layout::ByDate] {
            values_are_the_codes(rows, users, row_group_rows.max(rows as usize / 500), layout);
        }
    }
}

#[test]
fn another_seed_draws_other_rows() {
    let wearers = wearers(50);
    let of = |seed| tuples(&table(&wearers, seed, 4000, 4000, Layout::AsDrawn).drawn(0, 4000));
    assert_ne!(of(1), of(2));
    let day = |row: &(u16, u16, u16, u16, u16)| u32::from(row.1) / SEGMENTS_PER_DAY;
    assert!(of(1).iter().any(|row| day(row) == 0) && of(1).iter().any(|row| day(row) == 34));
}
