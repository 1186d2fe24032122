//! The declarations of the three tables.
//!
//! The schema check compares files with them, `generate_demo_data --describe` prints them,
//! `data/README.md` contains that output, and tests compare generated data with them.

use std::fmt::Write as _;

use polars::prelude::{DataType, Field, Schema, SchemaRef, TimeUnit};

pub use crate::sensor::{DAYS, SEGMENT_MINUTES, SEGMENTS_PER_DAY};

/// First day of the dataset as (year, month, day).
pub const FIRST_DAY: (i32, u32, u32) = (2024, 1, 1);

/// The column types in the tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// UTF-8 text.
    Str,
    /// 64-bit signed integer.
    Int,
    /// 64-bit float.
    Float,
    /// Calendar date.
    Date,
    /// Time of day.
    Time,
    /// Date and time without a zone, in microseconds.
    Datetime,
}

impl Kind {
    /// The polars type of a column of this kind.
    pub fn dtype(self) -> DataType {
        match self {
            Kind::Str => DataType::String,
            Kind::Int => DataType::Int64,
            Kind::Float => DataType::Float64,
            Kind::Date => DataType::Date,
            Kind::Time => DataType::Time,
            Kind::Datetime => DataType::Datetime(TimeUnit::Microseconds, None),
        }
    }
}

/// One column of a [`Table`].
#[derive(Clone, Copy, Debug)]
pub struct Column {
    /// Name in the file.
    pub name: &'static str,
    /// Type.
    pub kind: Kind,
    /// Unit. Empty if there is none.
    pub unit: &'static str,
    /// Range or list of values.
    pub range: &'static str,
    /// Meaning of the value.
    pub meaning: &'static str,
}

/// One table: its name, grain, location under the data directory and columns.
#[derive(Clone, Copy, Debug)]
pub struct Table {
    /// Name of the table.
    pub name: &'static str,
    /// The subject of one row.
    pub grain: &'static str,
    /// File or file pattern, relative to the data directory.
    pub location: &'static str,
    /// Columns in file order.
    pub columns: &'static [Column],
}

impl Table {
    /// The schema of the table's files, in column order.
    pub fn schema(&self) -> SchemaRef {
        let fields = self.columns.iter().map(|c| Field::new(c.name.into(), c.kind.dtype()));
        Schema::from_iter(fields).into()
    }

    /// The table as Markdown: a heading, the grain, and one line per column.
    pub fn describe(&self) -> String {
        let mut text = format!(
            "## {}\n\nOne row per {}. File: `{}`.\n\n| column | type | unit | values | meaning |\n| --- | --- | --- | --- | --- |\n",
            self.name, self.grain, self.location
        );
        for c in self.columns {
            let dtype = c.kind.dtype();
            writeln!(text, "| {} | {dtype} | {} | {} | {} |", c.name, c.unit, c.range, c.meaning)
                .expect("writing to a String cannot fail");
        }
        text
    }
}

/// All tables, in the order of generation.
pub const TABLES: [&Table; 3] = [&USER_PROFILE, &SLEEP_DIARY, &SENSOR_HRV];

/// Name of a dataset's metadata file.
pub const METADATA_FILE: &str = "generation_metadata.yaml";

const fn column(
    name: &'static str,
    kind: Kind,
    unit: &'static str,
    range: &'static str,
    meaning: &'static str,
) -> Column {
    Column { name, kind, unit, range, meaning }
}

/// The users: one row per user.
pub const USER_PROFILE: Table = Table {
    name: "user_profile",
    grain: "user",
    location: "user_profile.parquet",
    columns: &[
        column("user_id", Kind::Str, "", "USER-00000 …", "key"),
        column("age", Kind::Int, "years", "18–65", "age"),
        column("gender", Kind::Str, "", "Female, Male, Non-binary", "self-reported gender"),
        column("height_cm", Kind::Float, "cm", "150–200, 1 decimal", "height"),
        column("weight_kg", Kind::Float, "kg", "45–120, 1 decimal", "weight"),
        column(
            "occupation",
            Kind::Str,
            "",
            "Driver, Engineer, Nurse, Office worker, Student, Teacher",
            "occupation",
        ),
        column(
            "lifestyle_regularity",
            Kind::Str,
            "",
            "Regular, Mixed, Irregular",
            "regularity of the user's days",
        ),
        column(
            "exercise_freq_weekly",
            Kind::Int,
            "days/week",
            "0–7",
            "days with exercise per week",
        ),
        column(
            "smoking_freq",
            Kind::Str,
            "",
            "Never, Occasionally, Daily",
            "how often the user smokes",
        ),
        column(
            "alcohol_freq",
            Kind::Str,
            "",
            "Never, Monthly, Weekly, Daily",
            "how often the user drinks alcohol",
        ),
        column(
            "coffee_freq",
            Kind::Str,
            "",
            "Never, Weekly, Daily, Several a day",
            "how often the user drinks coffee",
        ),
    ],
};

/// The users' sleep diaries: one row per user and day.
pub const SLEEP_DIARY: Table = Table {
    name: "sleep_diary",
    grain: "user and day",
    location: "sleep_diary.parquet",
    columns: &[
        column("user_id", Kind::Str, "", "USER-00000 …", "key into user_profile"),
        column("date", Kind::Date, "", "2024-01-01 … 2024-02-04", "day of the bedtime"),
        column("bedtime", Kind::Time, "", "20:00–23:00, whole hours", "time of going to bed"),
        column("fall_asleep_time", Kind::Time, "", "", "bedtime + sleep_latency"),
        column("wake_time", Kind::Time, "", "", "fall_asleep_time + 4–12 h"),
        column(
            "waso_minutes",
            Kind::Int,
            "min",
            "0–30, 0 in 70 % of nights",
            "wake after sleep onset",
        ),
        column(
            "sleep_duration",
            Kind::Float,
            "h",
            "3.5–12, 2 decimals",
            "wake_time − fall_asleep_time − waso_minutes",
        ),
        column(
            "sleep_efficiency",
            Kind::Float,
            "%",
            "0–100, 1 decimal",
            "sleep_duration / (wake_time − bedtime) × 100",
        ),
        column(
            "sleep_latency",
            Kind::Float,
            "min",
            "0–30, 0 in 70 % of nights",
            "time to fall asleep",
        ),
    ],
};

/// The recordings of the devices: one row per recorded five-minute segment of a device.
pub const SENSOR_HRV: Table = Table {
    name: "sensor_hrv",
    grain: "recorded five-minute segment of a device (the same segment can occur more than once)",
    location: "sensor_hrv/*.parquet",
    columns: &[
        column("device_id", Kind::Str, "", "DEV-00000 …", "DEV-00012 is worn by USER-00012"),
        column("ts_start", Kind::Datetime, "", "2024-01-01 … 2024-02-04", "start of the segment"),
        column("ts_end", Kind::Datetime, "", "ts_start + 5 min", "end of the segment"),
        column("heart_rate", Kind::Int, "bpm", "40–220", "mean heart rate"),
        column(
            "hrv_sdnn",
            Kind::Float,
            "ms",
            "20–200, 2 decimals",
            "standard deviation of the intervals between heartbeats (SDNN)",
        ),
        column(
            "hrv_rmssd",
            Kind::Float,
            "ms",
            "10–150, 2 decimals",
            "root mean square of successive differences between these intervals (RMSSD)",
        ),
        column("hrv_lf_hf_ratio", Kind::Float, "", "0.3–2, 3 decimals", "LF/HF power ratio"),
        column("bvp_mean", Kind::Float, "", "0.3–1.5, 3 decimals", "mean blood volume pulse"),
        column("spo2", Kind::Float, "%", "95–100, 1 decimal", "oxygen saturation"),
        column("eda_mean", Kind::Float, "µS", "0.12–6, 3 decimals", "electrodermal activity"),
        column("skin_temp", Kind::Float, "°C", "32–36, 1 decimal", "skin temperature"),
        column("acc_magnitude", Kind::Float, "g", "0.015–1.5, 3 decimals", "acceleration"),
        column("steps", Kind::Int, "steps", "0–149", "steps in the segment"),
        column(
            "missingness_score",
            Kind::Float,
            "",
            "0–1, 3 decimals; 0.3–1 while the device charges (00:00–06:00)",
            "share of the segment without signal",
        ),
    ],
};
