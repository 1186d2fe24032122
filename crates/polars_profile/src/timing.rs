//! Times queries and measures their results. [`profile`](crate::profile()) measures memory.

use std::fmt;
use std::time::Instant;

use polars::prelude::*;

use crate::error::{QueryError, Result};
use crate::parquet::without_panic;

/// Number of timed runs of a query, after one run to warm up.
pub const RUNS: usize = 5;

/// A query's result, its times and its size.
#[derive(Clone, Debug)]
pub struct Measurement {
    /// The result of the last run.
    pub frame: DataFrame,
    /// The engine that ran the query.
    pub engine: Engine,
    /// Median of [`RUNS`] runs, in seconds of wall time.
    pub seconds: f64,
    /// The fastest and the slowest of those runs, in seconds.
    pub range: (f64, f64),
    /// Size of the result in memory, in MB (1,000,000 bytes).
    pub result_mb: f64,
}

/// Runs `query` once to warm up (file cache, thread pool), then times [`RUNS`] runs.
///
/// # Errors
///
/// [`Error::Polars`](crate::Error::Polars) if the query fails.
pub fn measure(query: &LazyFrame, engine: Engine) -> Result<Measurement> {
    let [measurement] = measure_interleaved([query], engine)?;
    Ok(measurement)
}

/// Measures queries to compare them: runs each once to warm up, then [`RUNS`] rounds in which each
/// query runs once. Returns the measurements in the order of `queries`.
///
/// If the machine is slow for a while, all queries are slower, not only one of them.
///
/// # Errors
///
/// [`Error::Polars`](crate::Error::Polars) if a query fails.
pub fn measure_interleaved<const N: usize>(
    queries: [&LazyFrame; N],
    engine: Engine,
) -> Result<[Measurement; N]> {
    let run = |query: &LazyFrame| {
        let result = without_panic(|| query.clone().collect_with_engine(engine));
        result
            .map(|r| r.unwrap_single())
            .map_err(QueryError::at(format!("run the query ({engine:?})")))
    };
    let mut results = Vec::with_capacity(N);
    for query in queries {
        results.push((run(query)?, Vec::with_capacity(RUNS)));
    }
    for _ in 0..RUNS {
        for (query, (frame, seconds)) in queries.into_iter().zip(&mut results) {
            let start = Instant::now();
            *frame = run(query)?;
            seconds.push(start.elapsed().as_secs_f64());
        }
    }
    let mut measurements = results.into_iter().map(|(frame, mut seconds)| {
        seconds.sort_by(f64::total_cmp);
        let result_mb = frame.estimated_size() as f64 / 1e6;
        let range = (seconds[0], seconds[RUNS - 1]);
        Measurement { frame, engine, seconds: seconds[RUNS / 2], range, result_mb }
    });
    Ok(std::array::from_fn(|_| measurements.next().expect("a measurement for each query")))
}

impl Measurement {
    /// Whether the ranges of times overlap. If they do, these runs do not show which query is faster.
    pub fn within_noise(&self, other: &Measurement) -> bool {
        self.range.0 <= other.range.1 && other.range.0 <= self.range.1
    }
}

impl fmt::Display for Measurement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Measurement { frame, engine, seconds, range: (fastest, slowest), result_mb } = self;
        let rows = frame.height();
        let size = match result_mb {
            mb if *mb < 0.1 => format!("{:.1} kB", 1e3 * mb),
            mb => format!("{mb:.1} MB"),
        };
        writeln!(f, "{engine:?} engine: {rows} rows, a result of {size}")?;
        write!(f, "{seconds:.3} s (median of {RUNS} runs, {fastest:.3} to {slowest:.3} s)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn measurement_contains_result_time_and_size() {
        let values: Vec<i64> = (0..1_000_000).collect();
        let query = df!["x" => values].unwrap().lazy().select([col("x").sum()]);
        let m = measure(&query, Engine::InMemory).unwrap();
        assert_eq!(m.frame.column("x").unwrap().i64().unwrap().get(0), Some(499_999_500_000));
        assert!(m.seconds > 0.0 && m.result_mb > 0.0);
        assert!(m.range.0 <= m.seconds && m.seconds <= m.range.1);
        let text = m.to_string();
        assert!(text.starts_with("InMemory engine: 1 rows, a result of 0.0 kB\n0."), "{text}");
    }

    #[test]
    fn interleaved_measurements_keep_the_order_of_queries() {
        let values: Vec<i64> = (0..100_000).collect();
        let all = df!["x" => values].unwrap().lazy();
        let one = all.clone().limit(1);
        let [a, b] = measure_interleaved([&all, &one], Engine::Streaming).unwrap();
        assert_eq!((a.frame.height(), b.frame.height()), (100_000, 1));
        assert!(measure_interleaved([&one, &all.select([col("y")])], Engine::Streaming).is_err());
    }

    #[test]
    fn within_noise_compares_the_ranges() {
        let query = df!["x" => [1i64]].unwrap().lazy();
        let mut a = measure(&query, Engine::InMemory).unwrap();
        let mut b = a.clone();
        (a.range, b.range) = ((1.0, 2.0), (1.5, 3.0));
        assert!(a.within_noise(&b) && b.within_noise(&a));
        b.range = (2.5, 3.0);
        assert!(!a.within_noise(&b) && !b.within_noise(&a));
    }
}
