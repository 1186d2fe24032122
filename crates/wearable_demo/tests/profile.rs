//! Profiles of queries. These tests fail if a new version of polars reports its metrics in another way.

use polars_profile::Error;
use wearable_demo::prelude::*;

/// 100,000 rows of `x` in order and `key` from 0 to 9, in ten row groups of one file.
fn sorted(folder: &tempfile::TempDir) -> LazyFrame {
    let x: Vec<i64> = (0..100_000).collect();
    let key: Vec<i64> = x.iter().map(|x| x % 10).collect();
    let file = folder.path().join("sorted.parquet");
    let frame = df!["x" => x, "key" => key].unwrap();
    sink_parquet_with(&frame.lazy(), &file, Some(10_000)).unwrap();
    scan_parquet_files(&file).unwrap()
}

#[test]
fn profile_counts_rows_at_each_node() {
    let folder = tempfile::tempdir().unwrap();
    let query = sorted(&folder)
        .filter((col("x") % lit(4)).eq(lit(0)))
        .group_by([col("key")])
        .agg([len().alias("n")]);
    let run = profile(&query, Engine::Streaming).unwrap();
    let scan = run.node("multi-scan").unwrap();
    assert_eq!((scan.rows_in, scan.rows_out), (None, Some(25_000)), "{}", run.table());
    assert_eq!(scan.execution, Some(Execution::Streaming));
    let group_by = run.node("group-by").unwrap();
    assert_eq!((group_by.rows_in, group_by.rows_out), (Some(25_000), Some(5)));
    assert_eq!(group_by.execution, Some(Execution::MemoryIntensive));
    assert_eq!(run.frame.height(), 5);
    assert!(run.seconds > 0.0 && run.nodes.iter().all(|node| node.seconds >= 0.0));
    // The arrows of the picture have the same numbers.
    let graph = run.graph();
    assert_eq!(graph.named("group-by").next().unwrap().rows_out, Some(5));
    assert!(polars_profile::plan_svg::svg(graph).contains(">25,000 rows</text>"));
}

#[test]
fn scan_skips_row_groups_by_their_statistics() {
    let folder = tempfile::tempdir().unwrap();
    let query = sorted(&folder);
    let range = query.clone().filter(col("x").gt_eq(lit(15_000)).and(col("x").lt(lit(25_000))));
    let run = profile(&range, Engine::Streaming).unwrap();
    assert_eq!(run.row_groups(), Some((2, 10)), "{}", run.table());
    assert_eq!(run.frame.height(), 10_000);
    let everywhere = query.filter(col("key").eq(lit(3)));
    let run = profile(&everywhere, Engine::Streaming).unwrap();
    assert_eq!(run.row_groups(), Some((10, 10)), "{}", run.table());
}

#[test]
fn join_builds_the_smaller_side() {
    let folder = tempfile::tempdir().unwrap();
    let large = sorted(&folder);
    let small = df!["key" => [1i64, 2], "name" => ["a", "b"]].unwrap().lazy();
    let on = [col("key")];
    for (left, right, side) in [(&large, &small, "right"), (&small, &large, "left")] {
        let inner = JoinArgs::new(JoinType::Inner);
        let query = left.clone().join(right.clone(), &on, &on, inner);
        let run = profile(&query, Engine::Streaming).unwrap();
        let join = run.node("equi-join").unwrap();
        assert_eq!(join.build_side.as_deref(), Some(side), "{}", run.table());
        assert_eq!(join.rows_out, Some(20_000));
    }
}

#[test]
fn in_memory_engine_reports_its_steps() {
    let folder = tempfile::tempdir().unwrap();
    let query = sorted(&folder).group_by([col("key")]).agg([col("x").sum()]);
    let run = profile(&query, Engine::InMemory).unwrap();
    assert_eq!(run.frame.height(), 10);
    assert!(!run.nodes.is_empty() && run.nodes.iter().all(|node| node.rows_out.is_none()));
    let streaming = profile(&query, Engine::Streaming).unwrap();
    let sort = |frame: &DataFrame| frame.sort(["key"], Default::default()).unwrap();
    assert!(frames_equal(&sort(&run.frame), &sort(&streaming.frame)));
}

#[test]
fn worker_keeps_optimizer_flags() {
    let folder = tempfile::tempdir().unwrap();
    let query = sorted(&folder).filter(col("x").lt(lit(5)));
    let run = profile(&query.with_predicate_pushdown(false), Engine::Streaming).unwrap();
    assert_eq!(run.node("multi-scan").unwrap().rows_out, Some(100_000), "{}", run.table());
}

#[test]
fn failing_query_and_closure_are_errors() {
    let folder = tempfile::tempdir().unwrap();
    let missing = sorted(&folder).select([col("y")]);
    let error = profile(&missing, Engine::Streaming).unwrap_err().to_string();
    assert!(error.contains("y") && error.contains("not"), "{error}");
    let closure = sorted(&folder).map(Ok, AllowedOptimizations::default(), None, Some("opaque"));
    let error = profile(&closure, Engine::Streaming).unwrap_err();
    assert!(matches!(error, Error::NotSerializable { .. }), "{error}");
}

#[cfg(target_os = "linux")]
#[test]
fn memory_limit_ends_only_the_worker() {
    let folder = tempfile::tempdir().unwrap();
    let rows = sorted(&folder);
    let many = concat(vec![rows; 100], UnionArgs::default()).unwrap();
    let sorted = many.clone().sort(["key"], Default::default());
    match profile_with_memory_limit(&sorted, Engine::Streaming, 60).unwrap() {
        LimitedRun::OutOfMemory { limit_mb, stderr } => {
            assert!(limit_mb == 60 && !stderr.is_empty())
        }
        LimitedRun::Finished(run) => {
            panic!("a sort of 160 MB stayed below the limit of 60 MB: {run}")
        }
    }
    let summed = many.group_by([col("key")]).agg([col("x").sum()]);
    match profile_with_memory_limit(&summed, Engine::Streaming, 60).unwrap() {
        LimitedRun::Finished(run) => assert_eq!(run.frame.height(), 10),
        LimitedRun::OutOfMemory { stderr, .. } => {
            panic!("a result of ten rows exceeded the limit: {stderr}")
        }
    }
}

#[test]
fn bytes_depend_on_columns_and_row_groups_read() {
    let folder = tempfile::tempdir().unwrap();
    let query = sorted(&folder);
    let file_bytes = std::fs::metadata(folder.path().join("sorted.parquet")).unwrap().len();
    let bytes = |query: LazyFrame| {
        let run = profile(&query, Engine::Streaming).unwrap();
        run.bytes().unwrap_or_else(|| panic!("no bytes in {}", run.table()))
    };
    let both = bytes(query.clone().select([col("x").max(), col("key").max()]));
    assert!((file_bytes * 9 / 10..=file_bytes * 3 / 2).contains(&both), "{both} of {file_bytes}");
    let one = bytes(query.clone().select([col("key").max()]));
    assert!(4 * one < both, "{one} bytes of a column of ten values, {both} of both");
    let range = query.clone().filter(col("x").lt(lit(10_000))).select([col("x").max()]);
    let all = bytes(query.select([col("x").max()]));
    assert!(2 * bytes(range) < all, "a row group of ten");
}
