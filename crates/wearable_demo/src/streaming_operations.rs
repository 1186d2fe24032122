//! Common operations as small queries on the demo's tables, for
//! [`streaming_support`](polars_profile::streaming_support::streaming_support).

use std::sync::Arc;

use polars::prelude::*;

use crate::error::Result;

/// Returns named operations on the tables of [`scan`](crate::scan), each as a query with little else.
///
/// # Errors
///
/// [`Error::Polars`](crate::Error::Polars) if polars cannot build a query.
pub fn streaming_operations(
    sensor: &LazyFrame,
    sleep_diary: &LazyFrame,
    users: &LazyFrame,
) -> Result<Vec<(&'static str, LazyFrame)>> {
    let (sensor, sleep_diary, users) =
        (|| sensor.clone(), || sleep_diary.clone(), || users.clone());
    let by_device = |aggregation: Expr| sensor().group_by([col("device_id")]).agg([aggregation]);
    let user = [col("user_id")];
    let join = |how: JoinType| sleep_diary().join(users(), &user, &user, JoinArgs::new(how));
    let rate = || col("heart_rate");
    let asof = AsOfOptions {
        strategy: AsofStrategy::Backward,
        tolerance: None,
        tolerance_str: None,
        left_by: None,
        right_by: None,
        allow_eq: true,
        check_sortedness: true,
    };
    let answers = Arc::new(df!["smoker" => ["no", "yes"]]?);
    let smoker = || when(col("waso_minutes").gt(lit(0))).then(lit("yes")).otherwise(lit("no"));
    let mut sql = polars::sql::SQLContext::new();
    sql.register("sensor", sensor());
    let last_hours = RollingGroupOptions {
        index_column: "ts_start".into(),
        period: Duration::parse("3h"),
        offset: Duration::parse("-3h"),
        closed_window: ClosedWindow::Right,
    };
    let window = RollingOptionsFixedWindow { window_size: 5, min_periods: 1, ..Default::default() };
    let lists = sensor().select([col("device_id").str().split(lit("-")).alias("parts")]);
    let dated = |time: &str| col(time).cast(DataType::Date).alias("day");
    let all = || all().as_expr();
    Ok(vec![
        ("filter", sensor().filter(rate().gt(lit(100)))),
        ("select, with_columns", sensor().with_column((rate() * lit(2)).alias("twice"))),
        ("head", sensor().limit(10)),
        ("sum, mean of a column", sensor().select([rate().mean()])),
        ("median of a column", sensor().select([rate().median()])),
        ("group_by: mean", by_device(rate().mean())),
        ("group_by: median", by_device(rate().median())),
        ("group_by: quantile", by_device(rate().quantile(lit(0.9), QuantileMethod::Linear))),
        ("group_by: n_unique", by_device(rate().n_unique())),
        (
            "group_by: a sort inside",
            by_device(rate().sort_by([col("ts_start")], Default::default())),
        ),
        ("inner join", join(JoinType::Inner)),
        ("left join", join(JoinType::Left)),
        ("semi join", join(JoinType::Semi)),
        ("cross join", sleep_diary().limit(10).cross_join(users().limit(10), None)),
        (
            "asof join",
            sleep_diary().select([dated("date")]).sort(["day"], Default::default()).join(
                sensor().select([dated("ts_start")]).sort(["day"], Default::default()),
                [col("day")],
                [col("day")],
                JoinArgs::new(JoinType::AsOf(Box::new(asof))),
            ),
        ),
        ("sort", sensor().sort(["ts_start"], Default::default())),
        ("sort, then head", sensor().sort(["ts_start"], Default::default()).limit(10)),
        ("unique", sensor().select([col("device_id")]).unique(None, UniqueKeepStrategy::Any)),
        ("reverse", sensor().reverse()),
        (
            "pivot",
            sleep_diary().with_column(smoker().alias("smoker")).pivot(
                by_name(["smoker"], true, false),
                answers,
                by_name(["user_id"], true, false),
                by_name(["sleep_duration"], true, false),
                element().mean(),
                false,
                "_".into(),
                Default::default(),
            ),
        ),
        (
            "unpivot",
            sleep_diary().unpivot(UnpivotArgsDSL {
                on: Some(by_name(["sleep_duration", "sleep_latency"], true, false)),
                index: by_name(["user_id", "date"], true, false),
                variable_name: None,
                value_name: None,
            }),
        ),
        (
            "explode",
            lists.explode(
                by_name(["parts"], true, false),
                ExplodeOptions { empty_as_null: false, keep_nulls: false },
            ),
        ),
        (
            "window: over",
            sensor().with_column((rate() - rate().mean().over([col("device_id")])?).alias("off")),
        ),
        ("cumulative: shift", sensor().with_column(rate().shift(lit(1)).alias("before"))),
        ("rolling mean of 5 rows", sensor().with_column(rate().rolling_mean(window).alias("r"))),
        (
            "rolling by time",
            sensor()
                .sort(["ts_start"], Default::default())
                .rolling(col("ts_start"), [], last_hours)
                .agg([rate().mean().alias("mean")]),
        ),
        ("sample", sensor().select([all().sample_n(lit(100), false, Some(true), Some(42))])),
        (
            "concat",
            concat([sleep_diary().select(&user), users().select(&user)], UnionArgs::default())?,
        ),
        (
            "SQL: GROUP BY",
            sql.execute("SELECT device_id, AVG(heart_rate) FROM sensor GROUP BY device_id")?,
        ),
    ])
}
