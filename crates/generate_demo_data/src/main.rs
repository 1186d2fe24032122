//! Writes the synthetic wearable dataset as Parquet files; see `--help`.

use std::io::{ErrorKind, IsTerminal, Write as _};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{CommandFactory, Parser, ValueEnum};
use clap_complete::Shell;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use wearable_demo::interrupt::{
    interrupt_on_termination, interrupted_status, interruptible, terminated_by,
};
use wearable_demo::paths::Paths;
use wearable_demo::scan::{DatasetSummary, verify_dataset};
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
      10,000,000 sensor rows of 1,000 users, into another directory
  generate_demo_data --rows 250000 --seed 7
      another number of rows and other random values
  generate_demo_data --layout by-date --dry-run
      report the size of a dataset with one directory per date, and the free space
  generate_demo_data --verify
      read all files of the existing dataset and compare their checksums
  generate_demo_data --describe
      print the columns of the three tables

The same options write the same bytes, whatever the number of threads.

Exit status: 0 success; 1 failure; 2 invalid option; 130 interrupted (129 by SIGHUP, 143 by SIGTERM).
If it is not 0, the previous dataset is unchanged.";

/// The minimum number of rows that the notebooks support, and the text of the error for fewer rows.
///
/// With fewer, the notebooks' statements about many rows do not hold. The notebooks also scan the files
/// of a small dataset repeatedly, until they have ten million rows. By date, a dataset has a file for
/// each of 35 dates, and scanning 1,000 rows so often would take many minutes.
fn min_rows(layout: Layout) -> (u64, &'static str) {
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
    /// Number of sensor rows by name: small is 1,000,000, large is 10,000,000 [default: small]
    #[arg(long, value_enum, conflicts_with = "rows")]
    size: Option<Preset>,

    /// Number of sensor rows: at least 1,000, or 10,000 with --layout by-date
    #[arg(long, value_name = "N")]
    rows: Option<u64>,

    /// Seed of the random values
    #[arg(long, default_value_t = GenerateOptions::DEFAULT_SEED)]
    seed: u64,

    /// Output directory [default: the project's data directory, or $WEARABLE_DATA_DIR]
    #[arg(long, value_name = "DIR")]
    output_dir: Option<PathBuf>,

    /// Order of the sensor rows. It decides which row groups a scan with a filter can skip
    #[arg(long, value_enum, default_value = "unsorted")]
    layout: LayoutName,

    /// Sensor rows per file (by date: per file of a date). Each thread holds one file in memory, or
    /// 500,000 rows while it sorts
    #[arg(long, value_name = "N", default_value_t = GenerateOptions::DEFAULT_CHUNK_ROWS)]
    chunk_rows: u64,

    /// Sensor rows per row group, the smallest unit that a scan can skip
    #[arg(long, value_name = "N", default_value_t = GenerateOptions::DEFAULT_ROW_GROUP_ROWS)]
    row_group_rows: u64,

    /// Threads that write files in parallel [default: number of processors]
    #[arg(long, value_name = "N")]
    threads: Option<NonZeroUsize>,

    /// Report what would be written and the free space; write nothing
    #[arg(long, conflicts_with_all = ["verify", "describe"])]
    dry_run: bool,

    /// Read all files of the dataset and compare their checksums; write nothing
    #[arg(long, conflicts_with = "describe")]
    verify: bool,

    /// Print the result as JSON, without progress
    #[arg(long, conflicts_with = "describe")]
    json: bool,

    /// Print errors only
    #[arg(long, short, conflicts_with = "describe")]
    quiet: bool,

    /// Print the tables as Markdown and write nothing
    #[arg(long)]
    describe: bool,

    /// Print a completion script for a shell
    #[arg(long, value_enum, value_name = "SHELL", exclusive = true)]
    completions: Option<Shell>,

    /// Print the manual page (to read with man -l)
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
    /// In the order of generation: every row group has all dates and devices
    Unsorted,
    /// Sorted by device, then time
    ByDevice,
    /// One directory per date, in Hive's layout (date=2026-03-01)
    ByDate,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let mut command = Arguments::command();
    if let Some(shell) = arguments.completions {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut command, "generate_demo_data", &mut script);
        return print(&String::from_utf8_lossy(&script));
    }
    if arguments.man {
        let mut page = Vec::new();
        return match clap_mangen::Man::new(command).render(&mut page) {
            Ok(()) => print(&String::from_utf8_lossy(&page)),
            Err(error) => fail(&error.to_string(), 1),
        };
    }
    if arguments.describe {
        return print(&TABLES.map(|table| table.describe()).join("\n"));
    }
    interrupt_on_termination();
    let mut result = Ok(String::new());
    if interruptible(&mut || result = run(&arguments)) {
        let status = interrupted_status(terminated_by());
        return fail("interrupted; the previous dataset is unchanged", status);
    }
    match result {
        Ok(_) if arguments.quiet => ExitCode::SUCCESS,
        Ok(done) => print(&done),
        // Show the option in the form in which the user types it.
        Err(Error::Generate(datagen::Error::InvalidOption { option, value, allowed })) => {
            let option = option.replace('_', "-");
            fail(&format!("--{option} is {value}, but must be {}", allowed.replace('_', "-")), 2)
        }
        Err(error) => fail(&error.to_string(), 1),
    }
}

fn fail(message: &str, status: u8) -> ExitCode {
    // Ignore a closed stderr.
    let _ = writeln!(std::io::stderr(), "error: {message}");
    ExitCode::from(status)
}

/// Prints `text`. A closed pipe is not a failure, a full disk is.
fn print(text: &str) -> ExitCode {
    match writeln!(std::io::stdout(), "{}", text.trim_end()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            fail(&format!("could not write to stdout: {error}"), 1)
        }
        _ => ExitCode::SUCCESS,
    }
}

/// Runs the command that the options select. Returns its result, as text or JSON.
fn run(arguments: &Arguments) -> Result<String> {
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
    let (min, allowed) = min_rows(layout);
    if size.rows() < min {
        let value = size.rows().to_string();
        return Err(datagen::Error::InvalidOption { option: "rows", value, allowed }.into());
    }
    options.validate()?;
    options.output_dir = match &arguments.output_dir {
        Some(directory) => directory.clone(),
        None => Paths::locate_data()?,
    };
    if arguments.verify {
        let dataset = verify_dataset(&options.output_dir)?;
        return Ok(verified(&dataset, &options.output_dir, arguments.json));
    }
    if arguments.dry_run {
        return planned(&options, arguments.json);
    }
    let generated = generate(&options, arguments.quiet || arguments.json)?;
    Ok(done(&generated, &options.output_dir, arguments.json))
}

/// Writes the dataset and shows progress: a bar in a terminal, otherwise one line for each tenth.
fn generate(options: &GenerateOptions, silent: bool) -> Result<Generated> {
    if silent {
        return Ok(generate_dataset_with_progress(options, &mut |_| {})?);
    }
    // A bar moves the cursor, which a dumb terminal does not support.
    let is_dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    if is_dumb || !std::io::stderr().is_terminal() {
        let mut tenths = 0;
        let on_progress = &mut |progress: Progress| {
            let done = u128::from(progress.rows_done) * 10 / u128::from(progress.rows_total);
            if done > tenths {
                tenths = done;
                // A closed stdout must not stop the generation.
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
        let crc32 = format!("{:08x}", file.crc32.file);
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

/// A path for JSON. JSON is Unicode, so bytes that are not valid UTF-8 become U+FFFD.
fn json_path(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

fn planned(options: &GenerateOptions, as_json: bool) -> Result<String> {
    let (rows, users) = (options.size.rows(), options.size.users());
    let parts = rows.div_ceil(options.chunk_rows);
    let (max, temporary) = (options.max_bytes(), options.temporary_bytes());
    let free = free_bytes(&options.output_dir)?;
    let directory = &options.output_dir;
    if as_json {
        return Ok(json!({
            "directory": json_path(directory),
            "sensor_rows": rows,
            "users": users,
            // By date, each date has its own parts.
            "sensor_parts_at_least": parts,
            "layout": options.layout.to_string(),
            "threads": options.threads(),
            "bytes_at_most": max,
            "temporary_bytes_at_most": temporary,
            "bytes_free": free,
            "fits": max + temporary <= free,
        })
        .to_string());
    }
    let megabytes = |bytes: u64| bytes.div_ceil(1_000_000);
    let at_least = if options.layout == Layout::ByDate { "at least " } else { "" };
    Ok(format!(
        "{rows} sensor rows, {users} users, {at_least}{parts} sensor parts {}, {} threads\n\
         at most {} MB{}, into {}, which has {} MB of free space{}\n\
         Nothing was written",
        options.layout,
        options.threads(),
        megabytes(max),
        match temporary {
            0 => String::new(),
            _ => format!(
                ", and {} MB of temporary files while rows are sorted",
                megabytes(temporary)
            ),
        },
        directory.display(),
        free / 1_000_000,
        if max + temporary <= free { "" } else { ": NOT ENOUGH" },
    ))
}

fn verified(dataset: &DatasetSummary, directory: &Path, as_json: bool) -> String {
    let DatasetSummary { sensor_parts, rows: [users, nights, sensor_rows] } = dataset;
    match as_json {
        true => json!({
            "directory": json_path(directory), "users": users, "nights": nights,
            "sensor_rows": sensor_rows, "sensor_parts": sensor_parts,
        })
        .to_string(),
        false => format!(
            "{sensor_rows} sensor rows in {sensor_parts} parts, {nights} nights, {users} users in {}: all checksums match",
            directory.display()
        ),
    }
}
