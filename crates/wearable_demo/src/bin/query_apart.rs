//! Runs one query in a process of its own, for [`wearable_demo::apart`], and is of no use by itself.

use std::process::ExitCode;

fn main() -> ExitCode {
    wearable_demo::apart::serve()
}
