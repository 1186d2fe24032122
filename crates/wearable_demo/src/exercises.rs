//! The exercises of the walkthrough. Their sources are the files `exercises/NN_name.md` of this crate.

use polars_notebook::Exercise;

use crate::error::{Error, Result};
use crate::paths::Paths;
use crate::scan::{scan_sensor_hrv, scan_sleep_diary, scan_user_profile};

/// The sources, in the order of their numbers.
pub const SOURCES: [&str; 10] = [
    include_str!("../exercises/01_read_a_plan.md"),
    include_str!("../exercises/02_filter_and_group.md"),
    include_str!("../exercises/03_write_sql.md"),
    include_str!("../exercises/04_sink.md"),
    include_str!("../exercises/05_top_k.md"),
    include_str!("../exercises/06_push_a_filter_down.md"),
    include_str!("../exercises/07_guard_a_join.md"),
    include_str!("../exercises/08_nights.md"),
    include_str!("../exercises/09_fit_into_memory.md"),
    include_str!("../exercises/10_half_the_time.md"),
];

/// The exercise with this number, from 1, on the dataset of [`Paths::locate`].
///
/// # Errors
///
/// [`Error::NoExercise`] for another number, and those of the scans of the three tables.
pub fn exercise(number: usize) -> Result<Exercise> {
    let source = number.checked_sub(1).and_then(|at| SOURCES.get(at));
    let source = source.ok_or(Error::NoExercise { number, last: SOURCES.len() })?;
    let Paths { data, outputs } = Paths::locate()?;
    let tables = [
        ("user_profile", scan_user_profile(&data)?),
        ("sleep_diary", scan_sleep_diary(&data)?),
        ("sensor_hrv", scan_sensor_hrv(&data)?),
    ];
    Ok(Exercise::new(number, source, tables, outputs)?)
}
