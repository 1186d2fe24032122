//! How long a query takes, how large its result is, and how much memory it needed on the way.

use std::fmt;
use std::time::Instant;

use polars::prelude::*;

use crate::error::{Error, Result};

/// Timed runs of a query, after one that is not timed.
pub const RUNS: usize = 5;

/// In front of every number that differs from run to run, so that two runs can be compared without
/// them.
pub const MEASURED: &str = "⏱";

/// A query's result and what it cost.
#[derive(Clone, Debug)]
pub struct Measurement {
    /// The result of the last run.
    pub frame: DataFrame,
    /// The engine that ran it.
    pub engine: Engine,
    /// Median of [`RUNS`] runs, in seconds of wall time.
    pub seconds: f64,
    /// Size of the result in memory, in MB (1,000,000 bytes).
    pub result_mb: f64,
    /// What the first run added to the process's resident memory at its peak, in MB, pages of
    /// mapped files included. None where the system does not tell (it is read from Linux's
    /// `/proc/self`).
    pub peak_mb: Option<f64>,
}

/// Runs `query` once to warm up (file cache, thread pool) and [`RUNS`] times for the clock.
///
/// # Errors
///
/// [`Error::Polars`] where the query fails.
pub fn measure(query: &LazyFrame, engine: Engine) -> Result<Measurement> {
    let run = || {
        let result = query.clone().collect_with_engine(engine);
        result
            .map(|r| r.unwrap_single())
            .map_err(Error::polars(format!("run the query ({engine:?})")))
    };
    let memory = memory::Peak::start();
    let mut frame = run()?;
    let peak_mb = memory.and_then(memory::Peak::stop_mb);

    let mut seconds = [0.0; RUNS];
    for seconds in &mut seconds {
        let start = Instant::now();
        frame = run()?;
        *seconds = start.elapsed().as_secs_f64();
    }
    seconds.sort_by(f64::total_cmp);
    let result_mb = frame.estimated_size() as f64 / 1e6;
    Ok(Measurement { frame, engine, seconds: seconds[RUNS / 2], result_mb, peak_mb })
}

impl fmt::Display for Measurement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Measurement { frame, engine, seconds, result_mb, peak_mb } = self;
        let rows = frame.height();
        writeln!(f, "{engine:?} engine: {rows} rows, a result of {result_mb:.2} MB")?;
        write!(f, "{MEASURED} {seconds:.3} s (median of {RUNS} runs)")?;
        match peak_mb {
            Some(peak) => write!(f, ", {peak:.0} MB more memory at the peak of a first run"),
            None => write!(f, ", memory not measured: /proc/self cannot be used here"),
        }
    }
}

/// The process's peak of resident memory, as Linux counts it.
#[cfg(target_os = "linux")]
mod memory {
    use std::fs;

    pub struct Peak {
        start_kb: u64,
    }

    impl Peak {
        /// Sets the kernel's high-water mark back to what is resident now.
        pub fn start() -> Option<Peak> {
            // Memory that the allocator keeps from earlier queries would hide what this one needs.
            #[cfg(target_env = "gnu")]
            // SAFETY: malloc_trim only returns free pages; any thread may call it at any time.
            unsafe {
                libc::malloc_trim(0);
            }
            // 5 resets VmHWM; see proc_pid_clear_refs(5).
            fs::write("/proc/self/clear_refs", "5").ok()?;
            Some(Peak { start_kb: status_kb("VmRSS:")? })
        }

        pub fn stop_mb(self) -> Option<f64> {
            let peak_kb = status_kb("VmHWM:")?;
            Some(peak_kb.saturating_sub(self.start_kb) as f64 * 1024.0 / 1e6)
        }
    }

    fn status_kb(field: &str) -> Option<u64> {
        let status = fs::read_to_string("/proc/self/status").ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix(field))?;
        line.trim().trim_end_matches("kB").trim().parse().ok()
    }
}

#[cfg(not(target_os = "linux"))]
mod memory {
    pub enum Peak {}

    impl Peak {
        pub fn start() -> Option<Peak> {
            None
        }

        pub fn stop_mb(self) -> Option<f64> {
            match self {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_measurement_carries_the_result_and_what_it_cost() {
        let values: Vec<i64> = (0..1_000_000).collect();
        let query = df!["x" => values].unwrap().lazy().select([col("x").sum()]);
        let m = measure(&query, Engine::InMemory).unwrap();
        assert_eq!(m.frame.column("x").unwrap().i64().unwrap().get(0), Some(499_999_500_000));
        assert!(m.seconds > 0.0 && m.result_mb > 0.0);
        assert!(m.to_string().contains("1 rows") || m.to_string().contains("1 row"));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_peak_counts_what_is_allocated_and_freed_again() {
        let peak = memory::Peak::start().unwrap();
        drop(std::hint::black_box(vec![1u8; 200_000_000]));
        let mb = peak.stop_mb().unwrap();
        assert!((150.0..400.0).contains(&mb), "{mb} MB");
    }
}
