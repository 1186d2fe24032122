//! The memory of this process: its peak, and a limit.

pub(crate) use platform::{Peak, limit};

/// The peak of this process's resident memory, as Linux counts it.
#[cfg(target_os = "linux")]
mod platform {
    use std::{fs, io};

    pub struct Peak {
        start_kb: u64,
    }

    impl Peak {
        /// Resets the high-water mark to the memory that is resident now.
        pub fn start() -> Option<Peak> {
            // Memory that the allocator keeps from earlier queries would hide the memory of this one.
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

    /// Limits this process to `mb` MB (1,000,000 bytes) of private memory on top of its current
    /// memory. Pages of files don't count; see RLIMIT_DATA in getrlimit(2).
    pub fn limit(mb: u64) -> io::Result<()> {
        let now = status_kb("VmData:")
            .ok_or_else(|| io::Error::other("/proc/self/status has no VmData"))?;
        let bytes = now * 1024 + mb * 1_000_000;
        let limit = libc::rlimit { rlim_cur: bytes, rlim_max: bytes };
        // SAFETY: the limit is a valid struct for as long as the call takes.
        match unsafe { libc::setrlimit(libc::RLIMIT_DATA, &limit) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    fn status_kb(field: &str) -> Option<u64> {
        let text = fs::read_to_string("/proc/self/status").ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix(field))?;
        line.trim().trim_end_matches("kB").trim().parse().ok()
    }
}

#[cfg(not(target_os = "linux"))]
mod platform {
    use std::io;

    pub enum Peak {}

    pub fn limit(_mb: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

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
    #[cfg(target_os = "linux")]
    #[test]
    fn peak_includes_memory_that_was_freed() {
        let peak = super::Peak::start().unwrap();
        drop(std::hint::black_box(vec![1u8; 200_000_000]));
        let mb = peak.stop_mb().unwrap();
        assert!((150.0..400.0).contains(&mb), "{mb} MB");
    }
}
