//! Interrupts: how a reader stops a query without losing what the cells before it have defined.
//!
//! polars looks for an interrupt in the middle of a query, and then unwinds. It does so only while
//! somebody is there to catch that, so a kernel runs each cell by [`interruptible`]. Long work of
//! this crate's own calls [`check`] now and then, and cleans up as it unwinds.

use std::panic::AssertUnwindSafe;
use std::sync::Once;
#[cfg(target_os = "linux")]
use std::sync::atomic::{AtomicI32, Ordering};

use polars::error::abort;

/// Runs `cell`, which SIGINT can interrupt in the middle of a polars query, or of what else calls
/// [`check`]; returns whether that has happened. Everything but what `cell` was about to make is as
/// it was before.
///
/// From the first call on, SIGINT does not end the process any more.
pub fn interruptible(cell: &mut dyn FnMut()) -> bool {
    static REGISTERED: Once = Once::new();
    // polars' own handler of the signal; without a catcher it does nothing.
    REGISTERED.call_once(abort::register_polars_abort_mechanism);
    match abort::catch_polars_abort(AssertUnwindSafe(cell)) {
        Ok(()) => false,
        Err(abort::QueryAborted::KeyboardInterrupt) => true,
        Err(abort::QueryAborted::OocOutOfDisk) => {
            panic!("the disk is full: polars could not spill what the query holds")
        }
    }
}

/// Has SIGTERM and SIGHUP interrupt what [`interruptible`] runs, as SIGINT does, so that a program
/// cleans up before it ends. A signal that the process was started to ignore (`nohup`) is still
/// ignored.
#[cfg(target_os = "linux")]
pub fn interrupt_on_termination() {
    extern "C" fn interrupt(signal: libc::c_int) {
        TERMINATED_BY.store(signal, Ordering::Relaxed);
        // SAFETY: raise may be called in a signal handler.
        unsafe { libc::raise(libc::SIGINT) };
    }
    for signal in [libc::SIGTERM, libc::SIGHUP] {
        // SAFETY: the handler stores a number and raises a signal, which handlers may do.
        unsafe {
            let handler = interrupt as extern "C" fn(libc::c_int) as libc::sighandler_t;
            if libc::signal(signal, handler) == libc::SIG_IGN {
                libc::signal(signal, libc::SIG_IGN);
            }
        }
    }
}

/// The signal that [`interrupt_on_termination`] has turned into an interrupt, if one has come.
#[cfg(target_os = "linux")]
pub fn terminated_by() -> Option<i32> {
    Some(TERMINATED_BY.load(Ordering::Relaxed)).filter(|signal| *signal != 0)
}

#[cfg(target_os = "linux")]
static TERMINATED_BY: AtomicI32 = AtomicI32::new(0);

/// Ends the work of the cell that calls it, if an interrupt has come; costs nothing otherwise.
pub fn check() {
    abort::try_raise_polars_abort();
}
