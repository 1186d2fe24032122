//! Interrupts: how a reader stops a query without losing what the cells before it have defined.
//!
//! polars looks for an interrupt in the middle of a query, and then unwinds. It does so only while
//! somebody is there to catch that, so a kernel runs each cell by [`interruptible`]. Long work of
//! this crate's own calls [`check`] now and then, and cleans up as it unwinds.

use std::panic::AssertUnwindSafe;
use std::sync::Once;

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

/// Ends the work of the cell that calls it, if an interrupt has come; costs nothing otherwise.
pub fn check() {
    abort::try_raise_polars_abort();
}
