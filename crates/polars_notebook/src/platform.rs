//! The operating system's part: signals that end a program.
//!
//! | signal | Unix | Windows |
//! | --- | --- | --- |
//! | SIGINT (Ctrl+C) | interrupts | the same, in polars |
//! | SIGTERM, SIGHUP | interrupt | do not exist |

pub use signals::{interrupt_on_termination, terminated_by};

/// The number of SIGINT, on every system.
const SIGINT: u8 = 2;

/// The exit status of a program that a signal interrupted: 128 + the signal's number, as shells report
/// it. `signal` is the result of [`terminated_by`], and None means SIGINT.
pub fn interrupted_status(signal: Option<i32>) -> u8 {
    128 + signal.and_then(|signal| u8::try_from(signal).ok()).unwrap_or(SIGINT)
}

#[cfg(unix)]
mod signals {
    use std::sync::atomic::{AtomicI32, Ordering};

    static TERMINATED_BY: AtomicI32 = AtomicI32::new(0);

    /// Lets SIGTERM and SIGHUP interrupt [`interruptible`](crate::interrupt::interruptible) like SIGINT, so
    /// that a program cleans up before it ends. Signals that the process was started to ignore (`nohup`)
    /// stay ignored.
    pub fn interrupt_on_termination() {
        extern "C" fn interrupt(signal: libc::c_int) {
            TERMINATED_BY.store(signal, Ordering::Relaxed);
            // SAFETY: a signal handler may call raise.
            unsafe { libc::raise(libc::SIGINT) };
        }
        for signal in [libc::SIGTERM, libc::SIGHUP] {
            // SAFETY: the handler only stores a number and raises a signal, which a handler may do.
            unsafe {
                let handler = interrupt as extern "C" fn(libc::c_int) as libc::sighandler_t;
                if libc::signal(signal, handler) == libc::SIG_IGN {
                    libc::signal(signal, libc::SIG_IGN);
                }
            }
        }
    }

    /// The signal that [`interrupt_on_termination`] turned into an interrupt, if any.
    pub fn terminated_by() -> Option<i32> {
        Some(TERMINATED_BY.load(Ordering::Relaxed)).filter(|signal| *signal != 0)
    }
}

#[cfg(not(unix))]
mod signals {
    /// Does nothing on this system, which has neither SIGTERM nor SIGHUP.
    pub fn interrupt_on_termination() {}

    /// The signal that [`interrupt_on_termination`] turned into an interrupt: on this system, none.
    pub fn terminated_by() -> Option<i32> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_is_that_of_the_signal() {
        assert_eq!(interrupted_status(Some(15)), 143);
        assert_eq!(interrupted_status(Some(1)), 129);
        // On systems without `terminated_by`, only SIGINT interrupts.
        assert_eq!(interrupted_status(None), 130);
    }
}
