//! A row depends on the seed and its number alone, and every layout has all of them, once.

use proptest::prelude::*;
use sensor_table::columns::{Codes, Columns};
use sensor_table::{Layout, SEGMENTS_PER_DAY, SensorTable, Wearer};

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
            let mut made = 0;
            for pass in &passes {
                table.make::<polars::prelude::PolarsError>(pass, |_, bytes| {
                    made += 1;
                    assert!(bytes.starts_with(b"PAR1") && bytes.ends_with(b"PAR1"));
                    Ok(())
                }).unwrap();
            }
            prop_assert_eq!(made, parts.len());
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
