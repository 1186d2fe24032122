//! Interrupts stop a query and keep the variables of earlier cells.
//!
//! polars checks for an interrupt during a query, and then unwinds. It does so only inside its own
//! handler, so a kernel runs each cell with [`interruptible`]. Long work outside of polars calls
//! [`check`] regularly, and cleans up while it unwinds.

use std::panic::AssertUnwindSafe;
use std::sync::Once;
#[cfg(target_os = "linux")]
use std::sync::atomic::{AtomicI32, Ordering};

use polars::error::abort;

/// Runs `cell`, which SIGINT can interrupt during a polars query and in [`check`]. Returns whether
/// it was interrupted. An interrupt affects only values that `cell` was creating.
///
/// After the first call, SIGINT no longer ends the process.
pub fn interruptible(cell: &mut dyn FnMut()) -> bool {
    static REGISTERED: Once = Once::new();
    // Installs polars' signal handler, which has no effect outside of catch_keyboard_interrupt.
    REGISTERED.call_once(abort::register_polars_abort_mechanism);
    match abort::catch_polars_abort(AssertUnwindSafe(cell)) {
        Ok(()) => false,
        Err(abort::QueryAborted::KeyboardInterrupt) => true,
        Err(abort::QueryAborted::OocOutOfDisk) => {
            panic!(
                "The disk is full, so polars could not spill intermediate data. Free some disk space, then run the cell again"
            )
        }
    }
}

/// Lets SIGTERM and SIGHUP interrupt [`interruptible`] like SIGINT, so that a program cleans up before
/// it ends. Signals that the process was started to ignore (`nohup`) stay ignored.
#[cfg(target_os = "linux")]
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
#[cfg(target_os = "linux")]
pub fn terminated_by() -> Option<i32> {
    Some(TERMINATED_BY.load(Ordering::Relaxed)).filter(|signal| *signal != 0)
}

#[cfg(target_os = "linux")]
static TERMINATED_BY: AtomicI32 = AtomicI32::new(0);

/// Unwinds the calling cell if an interrupt is pending. Costs almost nothing otherwise.
pub fn check() {
    abort::try_raise_polars_abort();
}
