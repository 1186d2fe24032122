//! Interrupts stop a query and keep the variables of earlier cells.
//!
//! polars checks for an interrupt during a query, and then unwinds. It does so only inside its own
//! handler, so a kernel runs each cell with [`interruptible`]. Long work outside of polars calls
//! [`check`] regularly, and cleans up while it unwinds.

use std::panic::AssertUnwindSafe;
use std::sync::Once;

use polars::error::abort;

pub use crate::platform::{interrupt_on_termination, interrupted_status, terminated_by};

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

/// Unwinds the calling cell if an interrupt is pending. Costs almost nothing otherwise.
pub fn check() {
    abort::try_raise_polars_abort();
}
