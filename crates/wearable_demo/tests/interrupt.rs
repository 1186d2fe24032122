//! Interrupts. A test binary of its own, because an interrupt affects all queries of a process.

use std::thread;
use std::time::{Duration, Instant};

use wearable_demo::interrupt::{check, interruptible};
use wearable_demo::prelude::*;

/// Sends SIGINT to this process, as a kernel's supervisor does.
fn interrupt() {
    // SAFETY: `interruptible` has set a signal handler before it runs its argument.
    unsafe { libc::kill(libc::getpid(), libc::SIGINT) };
}

/// Queries that take minutes without an interrupt: a join of many rows, which the streaming engine
/// processes in batches, and many joins of fewer rows for the in-memory engine.
fn long_queries() -> [(LazyFrame, Engine); 2] {
    let k = [col("k")];
    let pairs = |rows: i64, i: i64| {
        let x: Vec<i64> = (0..rows).collect();
        let frame = df!["x" => x, "k" => vec![1i64; rows as usize]].unwrap().lazy();
        let join = frame.clone().join(frame, &k, &k, JoinArgs::new(JoinType::Inner));
        join.select([(col("x") + lit(i)).sum()])
    };
    let joins: Vec<LazyFrame> = (0..500).map(|i| pairs(6_000, i)).collect();
    let one_by_one = UnionArgs { parallel: false, ..Default::default() };
    [(pairs(200_000, 0), Engine::Streaming), (concat(joins, one_by_one).unwrap(), Engine::InMemory)]
}

#[test]
fn interrupt_stops_one_cell_and_keeps_variables() {
    let mut reached = Vec::new();
    for round in 0..3 {
        let stopped = interruptible(&mut || {
            reached.push(round);
            if round == 1 {
                interrupt();
                // Another thread may handle the signal.
                thread::sleep(Duration::from_millis(100));
            }
            check();
            reached.push(10 * round);
        });
        assert_eq!(stopped, round == 1);
    }
    assert_eq!(reached, [0, 0, 1, 2, 20]);

    // Other panics are not handled as interrupts.
    let result = std::panic::catch_unwind(|| interruptible(&mut || panic!("of its own")));
    assert_eq!(result.unwrap_err().downcast_ref::<&str>(), Some(&"of its own"));

    // Interrupt queries of both engines repeatedly. The frame stays usable.
    for (query, engine) in long_queries().into_iter().cycle().take(4) {
        let interrupting = thread::spawn(|| {
            thread::sleep(Duration::from_millis(300));
            interrupt();
        });
        let start = Instant::now();
        let stopped = interruptible(&mut || drop(query.clone().collect_with_engine(engine)));
        assert!(stopped, "{engine:?} ended by itself after {:?}", start.elapsed());
        interrupting.join().unwrap();
    }
    let small = df!["x" => [1i64, 2]].unwrap().lazy().select([col("x").sum()]);
    assert_eq!(small.collect().unwrap().column("x").unwrap().i64().unwrap().get(0), Some(3));

    // An interrupted generator leaves no files.
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("data");
    let mut options = GenerateOptions::new(Size::Rows(30_000), &place);
    options.chunk_rows = 1_000;
    let stopped = interruptible(&mut || {
        let result = generate_dataset_with_progress(&options, &mut |progress| {
            if progress.parts_done == 10 {
                interrupt();
                thread::sleep(Duration::from_millis(100));
            }
        });
        panic!("the generator was not interrupted: {result:?}");
    });
    assert!(stopped && !place.exists());
}
