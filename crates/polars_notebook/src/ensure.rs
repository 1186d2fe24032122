//! Checks statements of a notebook in the cell that makes them.

use std::fmt::Display;

use crate::error::{Error, Result};

/// Prints `statement` with a tick if it holds.
///
/// # Errors
///
/// [`Error::EnsureFailed`] if it does not hold, so a notebook with a false statement fails.
pub fn ensure(holds: bool, statement: impl Display) -> Result<()> {
    if !holds {
        return Err(Error::EnsureFailed { statement: statement.to_string() });
    }
    println!("✓ {statement}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failed_ensure_is_an_error() {
        ensure(true, "one is one").unwrap();
        assert_eq!(
            ensure(false, "one is two").unwrap_err().to_string(),
            "This does not hold: one is two"
        );
    }
}
