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

/// Whether `a` is what another engine would give for `b`: the same columns, rows and row order, integers
/// of any width, and floats with |a − b| ≤ [`TOLERANCE`] · max(1, |b|), for a correlation near zero
/// differs in its last digits by much of itself.
pub fn alike(a: &DataFrame, b: &DataFrame) -> bool {
    a.get_column_names() == b.get_column_names()
        && a.height() == b.height()
        && a.columns().iter().zip(b.columns()).all(|(a, b)| alike_column(a, b))
}

fn alike_column(a: &Column, b: &Column) -> bool {
    match (a.f64(), b.f64()) {
        (Ok(a), Ok(b)) => a.iter().zip(b.iter()).all(|(a, b)| match (a, b) {
            (Some(a), Some(b)) => {
                (a.is_nan() && b.is_nan()) || (a - b).abs() <= TOLERANCE * b.abs().max(1.0)
            }
            (a, b) => a.is_none() && b.is_none(),
        }),
        _ => a.cast(b.dtype()).is_ok_and(|a| a.equals_missing(b)),
    }
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
    fn another_engine_may_differ_where_a_value_is_near_zero() {
        let near = |x: f64| frame(&[Some(x), None, Some(f64::NAN)], &["a", "b", "c"]);
        assert!(alike(&near(1e-10), &near(2e-10)) && !same(&near(1e-10), &near(2e-10)));
        assert!(!alike(&near(1e-8), &near(2e-8)) && !alike(&near(1e3), &near(1e3 + 1e-5)));
        let counts = |n: &[i64]| df!["n" => n].unwrap();
        assert!(alike(&counts(&[1]), &df!["n" => [1u32]].unwrap()));
        assert!(!alike(&counts(&[1]), &df!["n" => [2u32]].unwrap()));
        assert!(!alike(&counts(&[1]), &counts(&[1, 1])));
        assert!(!alike(&frame(&[None], &["a"]), &frame(&[None], &["b"])));
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
