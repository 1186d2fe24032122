//! The stages of the summary query on a cluster.

use polars_profile::Graph;

/// Spark's plan of [`query::SUMMARY_SQL`](crate::query::SUMMARY_SQL) for the small dataset, without the
/// column numbers that Spark adds. `./justw cluster test` compares it with the plan of a running Spark.
pub const RECORDED_PLAN: &str = include_str!("summary.plan.txt");

/// The three tables, each with a column that identifies it.
const TABLES: [(&str, &str); 3] = [
    ("sensor_hrv", "device_id"),
    ("sleep_diary", "sleep_efficiency"),
    ("user_profile", "occupation"),
];

/// The stages of a cluster's `plan`; see [`spark_stages::stage_graph`].
pub fn stage_graph(plan: &str, title: &str) -> Graph {
    spark_stages::stage_graph(plan, title, &TABLES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_exchange_ends_a_stage() {
        let graph = stage_graph(RECORDED_PLAN, "t");
        assert_eq!(graph.nodes.len(), 6);
        assert_eq!(graph.nodes.iter().map(|node| node.inputs.len()).sum::<usize>(), 5);
        let at = |stage: usize| graph.nodes[stage].details.join("; ");
        assert_eq!(at(0), "scan sleep_diary; filter; ⇄ broadcast to all workers");
        assert_eq!(
            at(1),
            "scan sensor_hrv; filter; partial aggregation by user_id, date; \
             ⇄ hash partition by user_id, date"
        );
        assert_eq!(at(2), "scan user_profile; filter; ⇄ broadcast to all workers");
        assert_eq!(graph.nodes[3].inputs, [0, 1, 2]);
        assert!(at(3).starts_with("final aggregation by user_id, date; join by user_id, date"));
        assert_eq!(at(5), "sort by occupation, gender");
    }
}
