//! Writes the synthetic wearable dataset as Parquet files; see `--help`.

use std::io::{ErrorKind, IsTerminal, Write as _};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{CommandFactory, Parser, ValueEnum};
use clap_complete::Shell;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use wearable_demo::interrupt::interruptible;
#[cfg(target_os = "linux")]
use wearable_demo::interrupt::{interrupt_on_termination, terminated_by};
use wearable_demo::paths::Paths;
use wearable_demo::scan::{Inventory, verify_dataset};
use wearable_demo::tables::TABLES;
use wearable_demo::{
    Error, GenerateOptions, Generated, Layout, Progress, Result, Size, datagen, free_bytes,
    generate_dataset_with_progress, progress_bar,
};

const EXAMPLES: &str = "\
Examples:
  generate_demo_data --size small
      1,000,000 sensor rows of 150 users, into the project's data directory
  generate_demo_data --size large --output-dir /tmp/wearable
      10,000,000 sensor rows of 1000 users, elsewhere
  generate_demo_data --rows 250000 --seed 7
      any number of rows, and other random values
  generate_demo_data --layout by-date --dry-run
      what a folder for each date would take, and what room there is
  generate_demo_data --verify
      read every file of the dataset that is there, and compare its checksum
  generate_demo_data --describe
      the three tables, column by column

The same options give the same Parquet files, byte for byte, on any number of threads.

Exit status: 0 done; 1 failed; 2 an option is wrong; 130 interrupted (129 by SIGHUP, 143 by SIGTERM).
Except for 0, the dataset that was there before is still there.";

/// The fewest rows with which the notebooks run, and how a refusal describes them.
///
/// With fewer, statements about many rows do not hold. The notebooks also read the files of a small
/// dataset again until they have ten million rows. By date, it has a file for each of 35 dates, and
/// reading 1,000 rows so often would take many minutes.
fn fewest_rows(layout: Layout) -> (u64, &'static str) {
    match layout {
        Layout::Unsorted | Layout::ByDevice => {
            (1_000, "at least 1,000, because the notebooks' statements do not hold for fewer")
        }
        Layout::ByDate => {
            (10_000, "at least 10,000 by date, because the notebooks read each file very often")
        }
    }
}

/// Write the synthetic wearable dataset: user_profile, sleep_diary and sensor_hrv.
#[derive(Parser)]
#[command(name = "generate_demo_data", version, after_help = EXAMPLES)]
struct Arguments {
    /// Sensor rows by name: small is 1,000,000, large is 10,000,000 [default: small]
    #[arg(long, value_enum, conflicts_with = "rows")]
    size: Option<Preset>,

    /// Sensor rows as a number, from 1,000, by date from 10,000: notebooks do not run with fewer
    #[arg(long, value_name = "N")]
    rows: Option<u64>,

    /// Seed of the random values
    #[arg(long, default_value_t = GenerateOptions::DEFAULT_SEED)]
    seed: u64,

    /// Directory to write into [default: the project's data directory, or $WEARABLE_DATA_DIR]
    #[arg(long, value_name = "DIR")]
    output_dir: Option<PathBuf>,

    /// Order of the sensor rows, which decides what a scan with a filter can skip
    #[arg(long, value_enum, default_value = "unsorted")]
    layout: LayoutName,

    /// Sensor rows to a file (by date: of each date). Each thread holds one file in memory, or
    /// 500,000 rows while rows are sorted
    #[arg(long, value_name = "N", default_value_t = GenerateOptions::DEFAULT_CHUNK_ROWS)]
    chunk_rows: u64,

    /// Sensor rows to a row group, the least that a scan can skip
    #[arg(long, value_name = "N", default_value_t = GenerateOptions::DEFAULT_ROW_GROUP_ROWS)]
    row_group_rows: u64,

    /// Threads that make files side by side [default: as many as there are processors]
    #[arg(long, value_name = "N")]
    threads: Option<NonZeroUsize>,

    /// Say what would be written and what room there is, and write nothing
    #[arg(long, conflicts_with_all = ["verify", "describe"])]
    dry_run: bool,

    /// Read every file of the dataset and compare its checksum; write nothing
    #[arg(long, conflicts_with = "describe")]
    verify: bool,

    /// Print the outcome as JSON, and no progress
    #[arg(long, conflicts_with = "describe")]
    json: bool,

    /// Print errors only
    #[arg(long, short, conflicts_with = "describe")]
    quiet: bool,

    /// Print the tables as Markdown and write nothing
    #[arg(long)]
    describe: bool,

    /// Print a script that completes these options in a shell
    #[arg(long, value_enum, value_name = "SHELL", exclusive = true)]
    completions: Option<Shell>,

    /// Print the manual page, for man -l
    #[arg(long, exclusive = true)]
    man: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Preset {
    Small,
    Large,
}

#[derive(Clone, Copy, ValueEnum)]
enum LayoutName {
    /// As they are drawn: every row group has all days and devices
    Unsorted,
    /// Sorted by device, then time
    ByDevice,
    /// A folder for each date, as Hive has it
    ByDate,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let mut command = Arguments::command();
    if let Some(shell) = arguments.completions {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut command, "generate_demo_data", &mut script);
        return say(&String::from_utf8_lossy(&script));
    }
    if arguments.man {
        let mut page = Vec::new();
        return match clap_mangen::Man::new(command).render(&mut page) {
            Ok(()) => say(&String::from_utf8_lossy(&page)),
            Err(error) => fail(&error.to_string(), 1),
        };
    }
    if arguments.describe {
        return say(&TABLES.map(|table| table.describe()).join("\n"));
    }
    #[cfg(target_os = "linux")]
    interrupt_on_termination();
    let mut result = Ok(String::new());
    if interruptible(&mut || result = work(&arguments)) {
        #[cfg(target_os = "linux")]
        let signal = terminated_by().unwrap_or(2);
        #[cfg(not(target_os = "linux"))]
        let signal = 2;
        return fail("interrupted; nothing has changed", 128 + signal as u8);
    }
    match result {
        Ok(_) if arguments.quiet => ExitCode::SUCCESS,
        Ok(done) => say(&done),
        // As it is typed here.
        Err(Error::Generate(datagen::Error::InvalidOption { option, value, allowed })) => {
            let option = option.replace('_', "-");
            fail(&format!("--{option} is {value}, but must be {}", allowed.replace('_', "-")), 2)
        }
        Err(error) => fail(&error.to_string(), 1),
    }
}

fn fail(message: &str, status: u8) -> ExitCode {
    // A reader that has gone away changes nothing.
    let _ = writeln!(std::io::stderr(), "error: {message}");
    ExitCode::from(status)
}

/// Prints `text`; a reader that has gone away is no failure, a full disk is.
fn say(text: &str) -> ExitCode {
    match writeln!(std::io::stdout(), "{}", text.trim_end()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            fail(&format!("could not print: {error}"), 1)
        }
        _ => ExitCode::SUCCESS,
    }
}

/// Does what is asked for; returns the outcome, in a line or as JSON.
fn work(arguments: &Arguments) -> Result<String> {
    let size = match (arguments.rows, arguments.size) {
        (Some(rows), _) => Size::Rows(rows),
        (None, Some(Preset::Large)) => Size::Large,
        (None, Some(Preset::Small) | None) => Size::Small,
    };
    let layout = match arguments.layout {
        LayoutName::Unsorted => Layout::Unsorted,
        LayoutName::ByDevice => Layout::ByDevice,
        LayoutName::ByDate => Layout::ByDate,
    };
    let mut options = GenerateOptions {
        seed: arguments.seed,
        chunk_rows: arguments.chunk_rows,
        row_group_rows: arguments.row_group_rows,
        layout,
        threads: arguments.threads,
        ..GenerateOptions::new(size, PathBuf::new())
    };
    let (fewest, allowed) = fewest_rows(layout);
    if size.rows() < fewest {
        let value = size.rows().to_string();
        return Err(datagen::Error::InvalidOption { option: "rows", value, allowed }.into());
    }
    options.validate()?;
    options.output_dir = match &arguments.output_dir {
        Some(directory) => directory.clone(),
        None => Paths::locate_data()?,
    };
    if arguments.verify {
        let inventory = verify_dataset(&options.output_dir)?;
        return Ok(verified(&inventory, &options.output_dir, arguments.json));
    }
    if arguments.dry_run {
        return planned(&options, arguments.json);
    }
    let generated = generate(&options, arguments.quiet || arguments.json)?;
    Ok(done(&generated, &options.output_dir, arguments.json))
}

/// Writes the dataset, and shows how far it is: a bar in a terminal, else a line for each tenth.
fn generate(options: &GenerateOptions, silent: bool) -> Result<Generated> {
    if silent {
        return Ok(generate_dataset_with_progress(options, &mut |_| {})?);
    }
    // A bar moves the cursor, which a dumb terminal cannot.
    let is_dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    if is_dumb || !std::io::stderr().is_terminal() {
        let mut tenths = 0;
        let on_progress = &mut |progress: Progress| {
            let done = u128::from(progress.rows_done) * 10 / u128::from(progress.rows_total);
            if done > tenths {
                tenths = done;
                // A reader that has gone away must not end the generation.
                let _ = writeln!(std::io::stdout(), "{}", progress_bar(progress));
            }
        };
        return Ok(generate_dataset_with_progress(options, on_progress)?);
    }
    let bar = ProgressBar::new(options.size.rows()).with_style(
        ProgressStyle::with_template(
            "sensor_hrv {wide_bar} {human_pos} of {human_len} rows, {eta} left",
        )
        .expect("the template is valid"),
    );
    let result = generate_dataset_with_progress(options, &mut |progress| {
        bar.set_position(progress.rows_done);
    });
    bar.finish_and_clear();
    Ok(result?)
}

fn done(generated: &Generated, directory: &Path, as_json: bool) -> String {
    if !as_json {
        return format!("{generated}, in {}", directory.display());
    }
    let files = generated.files.iter().map(|file| {
        let crc32 = format!("{:08x}", file.crc32.whole);
        json!({ "path": json_path(&file.path), "bytes": file.bytes, "crc32": crc32 })
    });
    json!({
        "directory": json_path(directory),
        "sensor_rows": generated.sensor_rows,
        "users": generated.users,
        "days": generated.days,
        "files": files.collect::<Vec<_>>(),
        "metadata": json_path(&generated.metadata),
    })
    .to_string()
}

/// A path as JSON has it. JSON is Unicode, so bytes that are not valid UTF-8 become U+FFFD.
fn json_path(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

fn planned(options: &GenerateOptions, as_json: bool) -> Result<String> {
    let (rows, users) = (options.size.rows(), options.size.users());
    let parts = rows.div_ceil(options.chunk_rows);
    let (most, temporary) = (options.most_bytes(), options.temporary_bytes());
    let free = free_bytes(&options.output_dir)?;
    let directory = &options.output_dir;
    if as_json {
        return Ok(json!({
            "directory": json_path(directory),
            "sensor_rows": rows,
            "users": users,
            // By date, each date has parts of its own.
            "sensor_parts_at_least": parts,
            "layout": options.layout.to_string(),
            "threads": options.threads(),
            "bytes_at_most": most,
            "temporary_bytes_at_most": temporary,
            "bytes_free": free,
            "fits": most + temporary <= free,
        })
        .to_string());
    }
    let megabytes = |bytes: u64| bytes.div_ceil(1_000_000);
    let at_least = if options.layout == Layout::ByDate { "at least " } else { "" };
    Ok(format!(
        "{rows} sensor rows, {users} users, {at_least}{parts} sensor parts {}, by {} threads\n\
         at most {} MB{}, into {}, which has room for {} MB{}\n\
         Nothing was written",
        options.layout,
        options.threads(),
        megabytes(most),
        match temporary {
            0 => String::new(),
            _ => format!(
                ", and {} MB of temporary files while rows are sorted",
                megabytes(temporary)
            ),
        },
        directory.display(),
        free / 1_000_000,
        if most + temporary <= free { "" } else { ": TOO LITTLE" },
    ))
}

fn verified(inventory: &Inventory, directory: &Path, as_json: bool) -> String {
    let Inventory { sensor_parts, rows: [users, nights, sensor_rows] } = inventory;
    match as_json {
        true => json!({
            "directory": json_path(directory), "users": users, "nights": nights,
            "sensor_rows": sensor_rows, "sensor_parts": sensor_parts,
        })
        .to_string(),
        false => format!(
            "{sensor_rows} sensor rows in {sensor_parts} parts, {nights} nights, {users} users in {}: every checksum is right",
            directory.display()
        ),
    }
}
