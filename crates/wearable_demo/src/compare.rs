//! Whether two results are the same, up to the last bits of floating-point sums.
//!
//! Threads add up a group's values in an order that differs from run to run, so a mean may differ
//! in its last digits. Everything else must be equal.

use polars::prelude::*;

/// Largest relative difference of two floats that count as the same.
pub const TOLERANCE: f64 = 1e-9;

/// Whether `a` and `b` have the same columns, types, rows and row order, with floats equal to
/// within a relative difference of [`TOLERANCE`], nulls equal to nulls and NaN to NaN.
pub fn same(a: &DataFrame, b: &DataFrame) -> bool {
    a.schema() == b.schema()
        && a.height() == b.height()
        && a.columns().iter().zip(b.columns()).all(|(a, b)| same_column(a, b))
}

fn same_column(a: &Column, b: &Column) -> bool {
    match (a.f64(), b.f64()) {
        (Ok(a), Ok(b)) => a.iter().zip(b.iter()).all(|(a, b)| match (a, b) {
            (Some(a), Some(b)) => same_float(a, b),
            (a, b) => a.is_none() && b.is_none(),
        }),
        _ => a.equals_missing(b),
    }
}

fn same_float(a: f64, b: f64) -> bool {
    a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= TOLERANCE * a.abs().max(b.abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(x: &[Option<f64>], s: &[&str]) -> DataFrame {
        df!["x" => x, "s" => s].unwrap()
    }

    #[test]
    fn the_last_bits_of_a_float_do_not_count() {
        let a = frame(&[Some(0.1 + 0.2), None, Some(f64::NAN)], &["a", "b", "c"]);
        assert!(same(&a, &frame(&[Some(0.3), None, Some(f64::NAN)], &["a", "b", "c"])));
    }

    #[test]
    fn everything_else_does() {
        let a = frame(&[Some(1.0), None], &["a", "b"]);
        for other in [
            frame(&[Some(1.0 + 1e-8), None], &["a", "b"]),
            frame(&[Some(1.0), Some(0.0)], &["a", "b"]),
            frame(&[None, Some(1.0)], &["b", "a"]),
            frame(&[Some(1.0), None], &["a", "c"]),
            frame(&[Some(1.0)], &["a"]),
            a.select(["s", "x"]).unwrap(),
        ] {
            assert!(!same(&a, &other), "{other}");
        }
    }
}
