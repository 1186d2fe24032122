//! Observing a query: what polars counts and says is found where a new polars might have moved it.

use polars_profile::Error;
use wearable_demo::prelude::*;

/// 100,000 rows of `x` in order and `key` from 0 to 9, in ten row groups of one file.
fn sorted(folder: &tempfile::TempDir) -> LazyFrame {
    let x: Vec<i64> = (0..100_000).collect();
    let key: Vec<i64> = x.iter().map(|x| x % 10).collect();
    let file = folder.path().join("sorted.parquet");
    let frame = df!["x" => x, "key" => key].unwrap();
    sink_row_groups(&frame.lazy(), &file, Some(10_000)).unwrap();
    scan_layout(&file).unwrap()
}

#[test]
fn rows_are_counted_at_each_node() {
    let folder = tempfile::tempdir().unwrap();
    let query = sorted(&folder)
        .filter((col("x") % lit(4)).eq(lit(0)))
        .group_by([col("key")])
        .agg([len().alias("n")]);
    let seen = observe(&query, Engine::Streaming).unwrap();
    let scan = seen.node("multi-scan").unwrap();
    assert_eq!((scan.rows_in, scan.rows_out), (None, Some(25_000)), "{}", seen.table());
    assert_eq!(scan.execution, Some(Execution::Streaming));
    let group_by = seen.node("group-by").unwrap();
    assert_eq!((group_by.rows_in, group_by.rows_out), (Some(25_000), Some(5)));
    assert_eq!(group_by.execution, Some(Execution::MemoryIntensive));
    assert_eq!(seen.frame.height(), 5);
    assert!(seen.seconds > 0.0 && seen.nodes.iter().all(|node| node.seconds >= 0.0));
    // The picture's arrows carry the same numbers.
    let graph = seen.graph();
    assert_eq!(graph.named("group-by").next().unwrap().rows_out, Some(5));
    assert!(polars_profile::plan_svg::svg(graph).contains(">25,000 rows</text>"));
}

#[test]
fn row_groups_are_skipped_by_their_statistics() {
    let folder = tempfile::tempdir().unwrap();
    let query = sorted(&folder);
    let range = query.clone().filter(col("x").gt_eq(lit(15_000)).and(col("x").lt(lit(25_000))));
    let seen = observe(&range, Engine::Streaming).unwrap();
    assert_eq!(seen.row_groups(), Some((2, 10)), "{}", seen.table());
    assert_eq!(seen.frame.height(), 10_000);
    let everywhere = query.filter(col("key").eq(lit(3)));
    let seen = observe(&everywhere, Engine::Streaming).unwrap();
    assert_eq!(seen.row_groups(), Some((10, 10)), "{}", seen.table());
}

#[test]
fn the_small_side_of_a_join_is_built_whichever_way_it_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let large = sorted(&folder);
    let small = df!["key" => [1i64, 2], "name" => ["a", "b"]].unwrap().lazy();
    let on = [col("key")];
    for (left, right, side) in [(&large, &small, "right"), (&small, &large, "left")] {
        let inner = JoinArgs::new(JoinType::Inner);
        let query = left.clone().join(right.clone(), &on, &on, inner);
        let seen = observe(&query, Engine::Streaming).unwrap();
        let join = seen.node("equi-join").unwrap();
        assert_eq!(join.build_side.as_deref(), Some(side), "{}", seen.table());
        assert_eq!(join.rows_out, Some(20_000));
    }
}

#[test]
fn the_in_memory_engine_tells_its_steps() {
    let folder = tempfile::tempdir().unwrap();
    let query = sorted(&folder).group_by([col("key")]).agg([col("x").sum()]);
    let seen = observe(&query, Engine::InMemory).unwrap();
    assert_eq!(seen.frame.height(), 10);
    assert!(!seen.nodes.is_empty() && seen.nodes.iter().all(|node| node.rows_out.is_none()));
    let streaming = observe(&query, Engine::Streaming).unwrap();
    let sort = |frame: &DataFrame| frame.sort(["key"], Default::default()).unwrap();
    assert!(same(&sort(&seen.frame), &sort(&streaming.frame)));
}

#[test]
fn what_was_switched_off_is_off_there_too() {
    let folder = tempfile::tempdir().unwrap();
    let query = sorted(&folder).filter(col("x").lt(lit(5)));
    let seen = observe(&query.with_predicate_pushdown(false), Engine::Streaming).unwrap();
    assert_eq!(seen.node("multi-scan").unwrap().rows_out, Some(100_000), "{}", seen.table());
}

#[test]
fn a_failing_query_says_why_and_a_closure_cannot_be_sent() {
    let folder = tempfile::tempdir().unwrap();
    let missing = sorted(&folder).select([col("y")]);
    let error = observe(&missing, Engine::Streaming).unwrap_err().to_string();
    assert!(error.contains("y") && error.contains("not"), "{error}");
    let closure = sorted(&folder).map(Ok, AllowedOptimizations::default(), None, Some("opaque"));
    let error = observe(&closure, Engine::Streaming).unwrap_err();
    assert!(matches!(error, Error::NotSerializable { .. }), "{error}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_query_that_needs_more_than_its_limit_dies_alone() {
    let folder = tempfile::tempdir().unwrap();
    let rows = sorted(&folder);
    let many = concat(vec![rows; 100], UnionArgs::default()).unwrap();
    let sorted = many.clone().sort(["key"], Default::default());
    match observe_within(&sorted, Engine::Streaming, 60).unwrap() {
        Ending::OutOfMemory { limit_mb, said } => assert!(limit_mb == 60 && !said.is_empty()),
        Ending::Finished(seen) => panic!("160 MB were sorted in 60: {seen}"),
    }
    let summed = many.group_by([col("key")]).agg([col("x").sum()]);
    match observe_within(&summed, Engine::Streaming, 60).unwrap() {
        Ending::Finished(seen) => assert_eq!(seen.frame.height(), 10),
        Ending::OutOfMemory { said, .. } => panic!("ten rows in batches did not fit: {said}"),
    }
}

#[test]
fn bytes_are_those_of_the_columns_and_row_groups_that_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let query = sorted(&folder);
    let file_bytes = std::fs::metadata(folder.path().join("sorted.parquet")).unwrap().len();
    let bytes = |query: LazyFrame| {
        let seen = observe(&query, Engine::Streaming).unwrap();
        seen.bytes().unwrap_or_else(|| panic!("no bytes in {}", seen.table()))
    };
    let both = bytes(query.clone().select([col("x").max(), col("key").max()]));
    assert!((file_bytes * 9 / 10..=file_bytes * 3 / 2).contains(&both), "{both} of {file_bytes}");
    let one = bytes(query.clone().select([col("key").max()]));
    assert!(4 * one < both, "{one} bytes of a column of ten values, {both} of both");
    let range = query.clone().filter(col("x").lt(lit(10_000))).select([col("x").max()]);
    let all = bytes(query.select([col("x").max()]));
    assert!(2 * bytes(range) < all, "a row group of ten");
}
