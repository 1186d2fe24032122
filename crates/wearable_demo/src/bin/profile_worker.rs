//! Runs one query in its own process, for [`polars_profile`]. It links the library's dylib, so it is
//! small.

use std::process::ExitCode;

fn main() -> ExitCode {
    wearable_demo::serve_profile_worker()
}
