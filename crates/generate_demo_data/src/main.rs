//! Writes the synthetic wearable dataset as Parquet files; see `--help`.

use std::io::{ErrorKind, IsTerminal, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use wearable_demo::paths::Paths;
use wearable_demo::tables::TABLES;
use wearable_demo::{
    GenerateOptions, Result, Size, generate_dataset_with_progress, print_progress,
};

const EXAMPLES: &str = "\
Examples:
  generate_demo_data --size small
      1,000,000 sensor rows of 150 users, into the project's data directory
  generate_demo_data --size large --output-dir /tmp/wearable
      10,000,000 sensor rows of 1000 users, elsewhere
  generate_demo_data --rows 250000 --seed 7
      any number of rows, and other random values
  generate_demo_data --describe
      the three tables, column by column

The same options give the same Parquet files, byte for byte.";

/// Write the synthetic wearable dataset: user_profile, sleep_diary and sensor_hrv.
#[derive(Parser)]
#[command(version, after_help = EXAMPLES)]
struct Arguments {
    /// Sensor rows by name: small is 1,000,000, large is 10,000,000 [default: small]
    #[arg(long, value_enum, conflicts_with = "rows")]
    size: Option<Preset>,

    /// Sensor rows as a number
    #[arg(long, value_name = "N")]
    rows: Option<u64>,

    /// Seed of the random values
    #[arg(long, default_value_t = GenerateOptions::DEFAULT_SEED)]
    seed: u64,

    /// Directory to write into [default: the project's data directory, or $WEARABLE_DATA_DIR]
    #[arg(long, value_name = "DIR")]
    output_dir: Option<PathBuf>,

    /// Sensor rows to a file; bounds the memory in use
    #[arg(long, value_name = "N", default_value_t = GenerateOptions::DEFAULT_CHUNK_ROWS)]
    chunk_rows: u64,

    /// Print the tables as Markdown and write nothing
    #[arg(long)]
    describe: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Preset {
    Small,
    Large,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if arguments.describe {
        return say(&TABLES.map(|table| table.describe()).join("\n"));
    }
    match generate(arguments) {
        Ok(done) => say(&done),
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Prints `text`; a reader that has gone away is no failure, a full disk is.
fn say(text: &str) -> ExitCode {
    match writeln!(std::io::stdout(), "{}", text.trim_end()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            eprintln!("error: could not print: {error}");
            ExitCode::FAILURE
        }
        _ => ExitCode::SUCCESS,
    }
}

/// Writes the dataset; returns what was written, in a line.
fn generate(arguments: Arguments) -> Result<String> {
    let size = match (arguments.rows, arguments.size) {
        (Some(rows), _) => Size::Rows(rows),
        (None, Some(Preset::Large)) => Size::Large,
        (None, Some(Preset::Small) | None) => Size::Small,
    };
    let output_dir = match arguments.output_dir {
        Some(directory) => directory,
        None => Paths::locate_data()?,
    };
    let options = GenerateOptions {
        seed: arguments.seed,
        chunk_rows: arguments.chunk_rows,
        ..GenerateOptions::new(size, output_dir)
    };
    let generated = match std::io::stderr().is_terminal() {
        true => {
            let bar = ProgressBar::new(size.rows()).with_style(
                ProgressStyle::with_template(
                    "sensor_hrv {wide_bar} {human_pos} of {human_len} rows, {eta} left",
                )
                .expect("the template is valid"),
            );
            let result = generate_dataset_with_progress(&options, &mut |progress| {
                bar.set_position(progress.rows_done);
            });
            bar.finish_and_clear();
            result?
        }
        // No terminal, no bar: a line per part.
        false => generate_dataset_with_progress(&options, &mut print_progress)?,
    };
    Ok(format!("{generated}, in {}", options.output_dir.display()))
}
