//! Compares two frames, except for the last digits of floats.
//!
//! Threads add up a group's values in an order that differs from run to run, so a mean may differ
//! in its last digits. Everything else must be equal.

use polars::prelude::*;

/// Largest relative difference of two floats that count as equal.
pub const TOLERANCE: f64 = 1e-9;

/// Whether `a` and `b` have the same columns, types, rows and row order.
///
/// Finite floats, also inside lists and structs, may differ by [`TOLERANCE`] times the larger one. A
/// null equals only a null, NaN only NaN, and an infinity only itself; 0 equals -0.
pub fn frames_equal(a: &DataFrame, b: &DataFrame) -> bool {
    a.schema() == b.schema() && equal_rows(a, b, relative)
}

/// Whether `a` and `b` are results that two engines may return for one query: the same column names,
/// rows and row order.
///
/// Like [`frames_equal`], but integers and floats may have any width, times any unit, and a string may
/// be a category. A column without values may have any type. A float never equals an integer, and a
/// string never equals a number. Finite floats may differ by [`TOLERANCE`] · max(1, |a|, |b|): the
/// relative error of a correlation near zero can be large.
pub fn frames_close(a: &DataFrame, b: &DataFrame) -> bool {
    a.get_column_names() == b.get_column_names()
        && a.columns().iter().zip(b.columns()).all(|(a, b)| compatible_types(a.dtype(), b.dtype()))
        && equal_rows(a, b, absolute_near_zero)
}

/// The allowed difference of two finite floats.
type Tolerance = fn(f64, f64) -> f64;

fn relative(a: f64, b: f64) -> f64 {
    TOLERANCE * a.abs().max(b.abs())
}

fn absolute_near_zero(a: f64, b: f64) -> f64 {
    TOLERANCE * a.abs().max(b.abs()).max(1.0)
}

pub(crate) fn compatible_types(a: &DataType, b: &DataType) -> bool {
    use DataType::{Array, Datetime, Decimal, Duration, List, Null, Struct};
    match (a, b) {
        (Null, _) | (_, Null) => true,
        (List(a) | Array(a, _), List(b) | Array(b, _)) => compatible_types(a, b),
        (Struct(a), Struct(b)) => {
            let values_match =
                |(a, b): (&Field, &Field)| a.name == b.name && compatible_types(&a.dtype, &b.dtype);
            a.len() == b.len() && a.iter().zip(b).all(values_match)
        }
        (Datetime(_, a), Datetime(_, b)) => a == b,
        (Duration(_), Duration(_)) | (Decimal(..), Decimal(..)) => true,
        (a, b) if a.is_integer() && b.is_integer() => true,
        (a, b) if a.is_float() && b.is_float() => true,
        (a, b) if is_string(a) && is_string(b) => true,
        (a, b) => a == b,
    }
}

fn is_string(dtype: &DataType) -> bool {
    matches!(dtype, DataType::String | DataType::Categorical(..) | DataType::Enum(..))
}

/// Whether the values are equal. Their types have been compared before.
fn equal_rows(a: &DataFrame, b: &DataFrame, tolerance: Tolerance) -> bool {
    let equal = |(a, b): (&Column, &Column)| {
        equal_values(a.as_materialized_series(), b.as_materialized_series(), tolerance)
    };
    a.height() == b.height() && a.columns().iter().zip(b.columns()).all(equal)
}

fn equal_values(a: &Series, b: &Series, tolerance: Tolerance) -> bool {
    if a.len() != b.len() || a.null_count() != b.null_count() {
        return false;
    }
    let is_plain = |dtype: &DataType| !dtype.is_nested() && !dtype.is_float();
    if a.dtype() == b.dtype() && is_plain(a.dtype()) {
        return a.equals_missing(b);
    }
    let (a, b) = (a.rechunk(), b.rechunk());
    a.iter().zip(b.iter()).all(|(a, b)| equal_value(&a, &b, tolerance))
}

/// Whether two values are equal as in [`frames_close`].
pub(crate) fn equal_across_engines(a: &AnyValue, b: &AnyValue) -> bool {
    equal_value(a, b, absolute_near_zero)
}

fn equal_value(a: &AnyValue, b: &AnyValue, tolerance: Tolerance) -> bool {
    use AnyValue::Null;
    if let (Null, _) | (_, Null) = (a, b) {
        return matches!((a, b), (Null, Null));
    }
    if let (Some(a), Some(b)) = (items(a), items(b)) {
        return equal_values(&a, &b, tolerance);
    }
    if let (Some(a), Some(b)) = (fields(a), fields(b)) {
        let equal = |(a, b): (&AnyValue, &AnyValue)| equal_value(a, b, tolerance);
        return a.len() == b.len() && a.iter().zip(&b).all(equal);
    }
    match (number(a), number(b)) {
        (Some(Number::Float(a)), Some(Number::Float(b))) => equal_floats(a, b, tolerance),
        (Some(Number::Integer(a)), Some(Number::Integer(b))) => a == b,
        (Some(Number::Decimal(a)), Some(Number::Decimal(b))) => a == b,
        (None, None) => match (a.get_str(), b.get_str()) {
            (Some(a), Some(b)) => a == b,
            _ => a == b,
        },
        _ => false,
    }
}

fn equal_floats(a: f64, b: f64, tolerance: Tolerance) -> bool {
    a == b
        || (a.is_nan() && b.is_nan())
        || (a.is_finite() && b.is_finite() && (a - b).abs() <= tolerance(a, b))
}

/// The items of a list or an array.
fn items(value: &AnyValue) -> Option<Series> {
    match value {
        AnyValue::List(items) | AnyValue::Array(items, _) => Some(items.clone()),
        _ => None,
    }
}

/// The values of a struct.
fn fields<'a>(value: &'a AnyValue) -> Option<Vec<AnyValue<'a>>> {
    match value {
        AnyValue::Struct(..) => Some(value._iter_struct_av().collect()),
        AnyValue::StructOwned(payload) => Some(payload.0.clone()),
        _ => None,
    }
}

enum Number {
    Float(f64),
    /// An integer, or a time in nanoseconds.
    Integer(i128),
    /// Digits without trailing zeros, and the number of digits after the point.
    Decimal((i128, usize)),
}

fn number(value: &AnyValue) -> Option<Number> {
    let nanoseconds = |value: &i64, unit: &TimeUnit| {
        let each = match unit {
            TimeUnit::Nanoseconds => 1,
            TimeUnit::Microseconds => 1_000,
            TimeUnit::Milliseconds => 1_000_000,
        };
        Some(Number::Integer(i128::from(*value) * each))
    };
    match value {
        AnyValue::Datetime(value, unit, _) | AnyValue::DatetimeOwned(value, unit, _) => {
            nanoseconds(value, unit)
        }
        AnyValue::Duration(value, unit) => nanoseconds(value, unit),
        AnyValue::Decimal(digits, _, scale) => {
            let (mut digits, mut scale) = (*digits, *scale);
            while scale > 0 && digits % 10 == 0 {
                (digits, scale) = (digits / 10, scale - 1);
            }
            Some(Number::Decimal((digits, scale)))
        }
        value if value.is_float() => value.extract().map(Number::Float),
        value if value.is_integer() => value.extract().map(Number::Integer),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn one(values: impl IntoSeries) -> DataFrame {
        let series = values.into_series().with_name("x".into());
        DataFrame::new(series.len(), vec![series.into_column()]).unwrap()
    }

    fn floats(values: &[f64]) -> DataFrame {
        df!["x" => values].unwrap()
    }

    fn cast(frame: &DataFrame, dtype: &DataType) -> DataFrame {
        one(frame.column("x").unwrap().strict_cast(dtype).unwrap().take_materialized_series())
    }

    /// Compares in both directions: (equal, close).
    fn compared(a: &DataFrame, b: &DataFrame) -> (bool, bool) {
        assert_eq!(
            (frames_equal(a, b), frames_close(a, b)),
            (frames_equal(b, a), frames_close(b, a)),
            "{a} {b}"
        );
        (frames_equal(a, b), frames_close(a, b))
    }

    const EQUAL: (bool, bool) = (true, true);
    const CLOSE: (bool, bool) = (false, true);
    const DIFFERENT: (bool, bool) = (false, false);

    #[test]
    fn floats_may_differ_in_their_last_bits() {
        let (inf, nan) = (f64::INFINITY, f64::NAN);
        for (a, b, expected) in [
            (0.1 + 0.2, 0.3, EQUAL),
            (1.0, 1.0 + 1e-8, DIFFERENT),
            (1e3, 1e3 + 1e-5, DIFFERENT),
            (0.0, -0.0, EQUAL),
            (1e-10, 2e-10, CLOSE),
            (1e-8, 2e-8, DIFFERENT),
            (0.0, f64::MIN_POSITIVE, CLOSE),
            (inf, inf, EQUAL),
            (-inf, -inf, EQUAL),
            (inf, -inf, DIFFERENT),
            (inf, 1.0, DIFFERENT),
            (inf, f64::MAX, DIFFERENT),
            (f64::MAX, f64::MIN, DIFFERENT),
            (nan, nan, EQUAL),
            (nan, inf, DIFFERENT),
            (nan, 0.0, DIFFERENT),
        ] {
            let (left, right) = (floats(&[a, 7.0]), floats(&[b, 7.0]));
            assert_eq!(compared(&left, &right), expected, "{a} {b}");
            // Also in a list and in a struct.
            let list = |frame: &DataFrame| {
                one(frame.column("x").unwrap().as_materialized_series().implode().unwrap())
            };
            assert_eq!(compared(&list(&left), &list(&right)), expected, "lists of {a} {b}");
            let structs = |frame: &DataFrame| one(frame.clone().into_struct("x".into()));
            assert_eq!(compared(&structs(&left), &structs(&right)), expected, "{a} {b}");
        }
        let null = df!["x" => [None, Some(7.0)]].unwrap();
        assert_eq!(compared(&null, &null), EQUAL);
        for other in [nan, 0.0] {
            assert_eq!(compared(&null, &floats(&[other, 7.0])), DIFFERENT);
        }
    }

    #[test]
    fn values_of_different_kinds_differ() {
        let texts = df!["x" => ["1", "2"]].unwrap();
        let numbers = df!["x" => [1i64, 2]].unwrap();
        let kinds = [
            texts.clone(),
            numbers.clone(),
            floats(&[1.0, 2.0]),
            floats(&[1.7, 2.0]),
            df!["x" => [true, false]].unwrap(),
            cast(&numbers, &DataType::Date),
            cast(&numbers, &DataType::Time),
            cast(&numbers, &DataType::Datetime(TimeUnit::Nanoseconds, None)),
            cast(&numbers, &DataType::Datetime(TimeUnit::Nanoseconds, Some(TimeZone::UTC))),
            cast(&numbers, &DataType::Duration(TimeUnit::Nanoseconds)),
            cast(&numbers, &DataType::Decimal(10, 2)),
            cast(&texts, &DataType::Binary),
            one(Series::new(
                "x".into(),
                [numbers.column("x").unwrap().as_materialized_series().clone()],
            )),
            one(numbers.clone().into_struct("x".into())),
        ];
        for (i, a) in kinds.iter().enumerate() {
            for (j, b) in kinds.iter().enumerate() {
                let expected = if i == j { EQUAL } else { DIFFERENT };
                assert_eq!(compared(a, b), expected, "{a} {b}");
            }
        }
    }

    #[test]
    fn close_frames_may_differ_in_width_and_unit() {
        let numbers = df!["x" => [Some(1i64), None, Some(120)]].unwrap();
        let units = [TimeUnit::Milliseconds, TimeUnit::Microseconds, TimeUnit::Nanoseconds];
        let thousands = df!["x" => [Some(1_000_000i64), None, Some(-7_000_000)]].unwrap();
        let [ms, us, ns] = units.map(|unit| {
            let ns = cast(&thousands, &DataType::Datetime(TimeUnit::Nanoseconds, None));
            cast(&ns, &DataType::Datetime(unit, None))
        });
        let texts = df!["x" => [Some("b"), None, Some("a")]].unwrap();
        let categories = DataType::from_categories(Categories::global());
        for (a, b) in [
            (&numbers, &cast(&numbers, &DataType::Int8)),
            (&numbers, &cast(&numbers, &DataType::UInt32)),
            (&numbers, &cast(&numbers, &DataType::UInt64)),
            (&ms, &us),
            (&ms, &ns),
            (&texts, &cast(&texts, &categories)),
            (&cast(&numbers, &DataType::Float32), &cast(&numbers, &DataType::Float64)),
            (&cast(&numbers, &DataType::Decimal(9, 2)), &cast(&numbers, &DataType::Decimal(9, 4))),
        ] {
            assert_eq!(compared(a, b), CLOSE, "{a} {b}");
            assert_eq!(compared(&a.head(Some(1)), &b.tail(Some(1))), DIFFERENT, "{a} {b}");
        }
        // Not the same number: the other type cannot represent it.
        let largest = df!["x" => [u64::MAX]].unwrap();
        assert_eq!(compared(&largest, &df!["x" => [-1i64]].unwrap()), DIFFERENT);
        let none = |dtype: DataType| one(Series::full_null("x".into(), 3, &dtype));
        assert_eq!(compared(&none(DataType::Null), &none(DataType::String)), CLOSE);
        assert_eq!(compared(&none(DataType::Null), &numbers), DIFFERENT);
    }

    #[test]
    fn nulls_in_lists_and_structs_are_compared() {
        let a = df!["x" => [Some(1i64), None], "y" => [Some("a"), None]].unwrap();
        let b = df!["x" => [Some(1i64), None], "y" => [Some("a"), Some("b")]].unwrap();
        let structs = |frame: &DataFrame| one(frame.clone().into_struct("x".into()));
        assert_eq!(compared(&structs(&a), &structs(&a)), EQUAL);
        assert_eq!(compared(&structs(&a), &structs(&b)), DIFFERENT);
        let none = Series::full_null("x".into(), 2, structs(&a).column("x").unwrap().dtype());
        assert_eq!(compared(&structs(&a), &one(none)), DIFFERENT);
        let lists = |lists: &[Option<&[i64]>]| {
            let lists: Vec<_> =
                lists.iter().map(|l| l.map(|l| Series::new("".into(), l))).collect();
            one(Series::new("x".into(), lists))
        };
        let cases: [&[Option<&[i64]>]; 5] = [
            &[Some(&[1, 2]), None],
            &[Some(&[1]), Some(&[2])],
            &[Some(&[1, 2]), Some(&[])],
            &[None, Some(&[1, 2])],
            &[Some(&[2, 1]), None],
        ];
        for (i, a) in cases.iter().enumerate() {
            for (j, b) in cases.iter().enumerate() {
                let expected = if i == j { EQUAL } else { DIFFERENT };
                assert_eq!(compared(&lists(a), &lists(b)), expected, "{a:?} {b:?}");
            }
        }
    }

    #[test]
    fn names_order_and_height_are_compared() {
        let a = df!["x" => [1.0, 2.0], "y" => ["a", "b"]].unwrap();
        let mut renamed = a.clone();
        renamed.rename("y", "z".into()).unwrap();
        for other in [
            renamed,
            a.select(["y", "x"]).unwrap(),
            a.select(["x"]).unwrap(),
            a.head(Some(1)),
            a.reverse(),
            a.vstack(&a).unwrap(),
        ] {
            assert_eq!(compared(&a, &other), DIFFERENT, "{other}");
        }
        let halves = a.head(Some(1)).vstack(&a.tail(Some(1))).unwrap();
        assert_eq!(compared(&a, &halves), EQUAL);
        let empty = a.clear();
        assert_eq!(compared(&empty, &empty), EQUAL);
        assert_eq!(compared(&empty, &a), DIFFERENT);
        let no_columns = |height| DataFrame::new(height, vec![]).unwrap();
        assert_eq!(compared(&no_columns(2), &no_columns(2)), EQUAL);
        assert_eq!(compared(&no_columns(2), &no_columns(3)), DIFFERENT);
    }

    fn value() -> impl Strategy<Value = Option<f64>> {
        proptest::option::weighted(0.8, prop_oneof![any::<f64>(), -10.0..10.0, Just(0.0)])
    }

    proptest! {
        #[test]
        fn tolerance_is_the_exact_limit(
            rows in proptest::collection::vec((value(), any::<Option<i64>>(), ".{0,4}"), 1..20),
            at in any::<proptest::sample::Index>(),
            factor in prop_oneof![Just(1.0), 0.999_999_999_5..1.000_000_000_5, 0.5..0.9],
        ) {
            let frame = |rows: &[(Option<f64>, Option<i64>, String)]| {
                let floats: Vec<_> = rows.iter().map(|row| row.0).collect();
                let whole: Vec<_> = rows.iter().map(|row| row.1).collect();
                let texts: Vec<_> = rows.iter().map(|row| row.2.as_str()).collect();
                df!["f" => floats, "n" => whole, "t" => texts].unwrap()
            };
            let a = frame(&rows);
            prop_assert!(frames_equal(&a, &a.clone()) && frames_close(&a, &a.clone()));
            let at = at.index(rows.len());
            let mut other = rows.clone();
            other[at].0 = rows[at].0.map(|x| x * factor);
            let is_close = rows[at].0.is_none_or(|x| {
                x == x * factor || x.is_nan() || (x.is_finite() && (factor - 1.0).abs() < 1e-9)
            });
            // Multiplication rounds the smallest numbers by more than the tolerance.
            prop_assume!(rows[at].0.is_none_or(|x| x == 0.0 || !x.is_finite() || x.abs() > 1e-290));
            prop_assert_eq!(compared(&a, &frame(&other)).0, is_close);
            other = rows.clone();
            other[at].1 = other[at].1.map_or(Some(0), |n| n.checked_add(1));
            prop_assert_eq!(compared(&a, &frame(&other)), DIFFERENT);
            other = rows.clone();
            other[at].2.push('!');
            prop_assert_eq!(compared(&a, &frame(&other)), DIFFERENT);
        }
    }
}
