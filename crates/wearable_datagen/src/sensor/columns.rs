//! Columns of codes, and their meaning.

/// A column of codes. A file's two time columns have the same codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Codes {
    /// Number of the user.
    User,
    /// Number of the segment since the first day's midnight.
    Segment,
    /// Beats per minute.
    HeartRate,
    /// Hundredths of a millisecond.
    Sdnn,
    /// Hundredths of a millisecond.
    Rmssd,
    /// Thousandths.
    LfHf,
    /// Thousandths.
    Bvp,
    /// Tenths of a percent.
    Spo2,
    /// Thousandths of a microsiemens.
    Eda,
    /// Tenths of a degree Celsius.
    SkinTemp,
    /// Thousandths of g.
    Acc,
    /// Steps.
    Steps,
    /// Thousandths.
    Missingness,
}

/// Number of code columns.
pub const WIDTH: usize = Codes::Missingness as usize + 1;

/// The codes of one row, in the order of [`Codes`].
pub(crate) type Row = [u16; WIDTH];

/// The meaning of a code in a column of the file.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Meaning {
    /// `DEV-00012` for 12.
    Device,
    /// A time: the start of the segment, plus this many minutes.
    #[allow(missing_docs)]
    Time { minutes_later: i64 },
    /// The code itself.
    Int,
    /// The code divided by this power of ten, as a float.
    #[allow(missing_docs)]
    Decimal { scale: f64 },
}

/// The file's columns in order: name, column of codes, meaning.
pub const COLUMNS: [(&str, Codes, Meaning); 14] = [
    ("device_id", Codes::User, Meaning::Device),
    ("ts_start", Codes::Segment, Meaning::Time { minutes_later: 0 }),
    (
        "ts_end",
        Codes::Segment,
        Meaning::Time { minutes_later: crate::sensor::SEGMENT_MINUTES as i64 },
    ),
    ("heart_rate", Codes::HeartRate, Meaning::Int),
    ("hrv_sdnn", Codes::Sdnn, Meaning::Decimal { scale: 100.0 }),
    ("hrv_rmssd", Codes::Rmssd, Meaning::Decimal { scale: 100.0 }),
    ("hrv_lf_hf_ratio", Codes::LfHf, Meaning::Decimal { scale: 1000.0 }),
    ("bvp_mean", Codes::Bvp, Meaning::Decimal { scale: 1000.0 }),
    ("spo2", Codes::Spo2, Meaning::Decimal { scale: 10.0 }),
    ("eda_mean", Codes::Eda, Meaning::Decimal { scale: 1000.0 }),
    ("skin_temp", Codes::SkinTemp, Meaning::Decimal { scale: 10.0 }),
    ("acc_magnitude", Codes::Acc, Meaning::Decimal { scale: 1000.0 }),
    ("steps", Codes::Steps, Meaning::Int),
    ("missingness_score", Codes::Missingness, Meaning::Decimal { scale: 1000.0 }),
];

/// Rows, stored by column.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Columns {
    columns: [Vec<u16>; WIDTH],
}

impl Columns {
    /// Number of rows.
    pub fn len(&self) -> usize {
        self.columns[0].len()
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The codes of a column.
    pub fn codes(&self, column: Codes) -> &[u16] {
        &self.columns[column as usize]
    }

    /// Removes all rows and keeps the allocated memory.
    pub(crate) fn clear(&mut self) {
        self.columns.iter_mut().for_each(Vec::clear);
    }

    /// Reserves memory for `rows` more rows.
    pub(crate) fn reserve(&mut self, rows: usize) {
        self.columns.iter_mut().for_each(|column| column.reserve_exact(rows));
    }

    /// Changes the number of rows to `rows`. New rows are zero.
    pub(crate) fn resize(&mut self, rows: usize) {
        self.columns.iter_mut().for_each(|column| column.resize(rows, 0));
    }

    pub(crate) fn columns_mut(&mut self) -> &mut [Vec<u16>; WIDTH] {
        &mut self.columns
    }

    /// Iterates over the rows.
    pub(crate) fn rows(&self) -> impl Iterator<Item = Row> {
        let columns = self.columns.each_ref().map(|column| &column[..self.len()]);
        (0..self.len()).map(move |row| columns.map(|column| column[row]))
    }

    /// Appends `rows`.
    pub(crate) fn extend(&mut self, rows: &[Row]) {
        for (column, codes) in self.columns.iter_mut().enumerate() {
            codes.extend(rows.iter().map(|row| row[column]));
        }
    }
}
