//! Runs the walkthrough's queries without a notebook. Reads `$WEARABLE_DATA_DIR` (or `data`). Writes the
//! joined table, both sorts and the summary as Parquet into `$WEARABLE_OUTPUT_DIR` (or `outputs`), each
//! with both engines.
//!
//! ```sh
//! cargo run --example run_queries
//! ```

use std::process::ExitCode;

use wearable_demo::prelude::*;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> wearable_demo::Result<()> {
    let paths = Paths::locate()?;
    check_dataset(&paths.data)?;
    let sensor_raw = scan_sensor_hrv(&paths.data)?;
    for (filter, sensor) in [
        ("expression", query::quality_filter(&sensor_raw)),
        ("sql", query::quality_filter_sql(&sensor_raw)?),
    ] {
        let nightly = query::nightly(&query::night_segments(&query::with_keys(&sensor)));
        let joined = query::joined(
            &scan_sleep_diary(&paths.data)?,
            &nightly,
            &scan_user_profile(&paths.data)?,
        );
        for (name, query) in [
            ("joined", joined.clone()),
            ("summary", query::summary(&joined)),
            ("global_sort", query::global_sort(&joined)),
            ("sort_within_users", query::sort_within_users(&joined)),
        ] {
            for (engine, label) in
                [(Engine::Streaming, "streaming"), (Engine::InMemory, "in_memory")]
            {
                let frame = query.clone().collect_with_engine(engine)?.unwrap_single();
                let file = paths.output(&format!("{name}.{filter}.{label}.parquet"))?;
                write_parquet(&frame, &file)?;
            }
        }
        let sunk = paths.output(&format!("summary.{filter}.sink.parquet"))?;
        sink_parquet(&query::summary(&joined), &sunk)?;
    }
    Ok(())
}
