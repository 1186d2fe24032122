use super::*;

const SOURCE: &str = "---
title: Warm cities
notebook: first
key: city
conditions: CONDITIONS
---
Keep the warm cities.

## Hints

1. First hint,
   in two lines.
2. Second hint.

## Solution

Use `filter`.

## Wrong: all cities

## Expected

```sql
SELECT city, degrees FROM cities WHERE degrees >= 10
```
";

fn cities() -> DataFrame {
    df![
        "city" => ["Oslo", "Rome", "Cairo", "Lima"],
        "degrees" => [4.5, 15.0, 28.0, 19.0],
    ]
    .unwrap()
}

fn exercise_with(source: &str, outputs: &std::path::Path) -> Exercise {
    Exercise::new(3, source, [("cities", cities().lazy())], outputs).unwrap()
}

fn exercise(conditions: &str) -> Exercise {
    exercise_with(&SOURCE.replace("CONDITIONS", conditions), "nowhere".as_ref())
}

fn warm() -> LazyFrame {
    cities().lazy().filter(col("degrees").gt_eq(lit(10)))
}

fn message(exercise: &Exercise, answer: &impl ToAnswer) -> String {
    let feedback = exercise.check(answer);
    assert_eq!(feedback.verdict, Verdict::Wrong, "{feedback}");
    assert!(feedback.next.contains("`exercise(3)?.hint(1)`"), "{feedback}");
    feedback.message
}

fn is_correct(exercise: &Exercise, answer: &impl ToAnswer) {
    let feedback = exercise.check(answer);
    assert_eq!(feedback.verdict, Verdict::Correct, "{feedback}");
}

#[test]
fn placeholder_is_not_attempted() {
    let feedback = exercise("").check(&not_attempted());
    assert_eq!(feedback.verdict, Verdict::NotAttempted);
    assert_eq!(exercise("").check(&None::<i64>), feedback);
    assert!(feedback.to_string().starts_with("○ Exercise 3, Warm cities: not attempted.\nReplace"));
}

#[test]
fn right_rows_are_correct_in_any_order_of_rows_and_columns() {
    let other_order = warm()
        .sort(["degrees"], SortMultipleOptions::default())
        .select([col("degrees"), col("city")]);
    is_correct(&exercise(""), &warm());
    is_correct(&exercise(""), &other_order);
    is_correct(&exercise(""), &warm().collect().unwrap());
    is_correct(&exercise(""), &Some(warm()));
    let feedback = exercise("").check(&warm());
    assert!(feedback.next.contains("exercise(3)?.solution()"), "{feedback}");
}

#[test]
fn feedback_is_the_first_difference() {
    let exercise = exercise("");
    let with = |expr: Expr| warm().with_column(expr);
    for (answer, expected) in [
        (warm().select([col("city")]), "The column `degrees` is missing. The result has `city`."),
        (
            with(lit(1).alias("more")),
            "The result has an extra column `more`. The expected columns are `city`, `degrees`.",
        ),
        (
            with(col("degrees").cast(DataType::Int64)),
            "The column `degrees` has the type i64, expected f64.",
        ),
        (
            cities().lazy(),
            "The result has 4 rows, expected 3. First difference: An unexpected row for city = \"Oslo\".",
        ),
        (
            warm().filter(col("city").neq(lit("Lima"))),
            "The result has 2 rows, expected 3. First difference: No row for city = \"Lima\".",
        ),
        (
            with(lit("Rome").alias("city")),
            "First difference: 3 rows for city = \"Rome\", expected 1.",
        ),
        (
            with(col("degrees") * lit(2.0)),
            "First difference: city = \"Cairo\": `degrees` is 56, expected 28.",
        ),
        (
            with(
                when(col("city").eq(lit("Rome")))
                    .then(lit(NULL))
                    .otherwise(col("degrees"))
                    .alias("degrees"),
            ),
            "First difference: city = \"Rome\": `degrees` is null, expected 15.",
        ),
        (
            with(col("degrees") + lit(1e-7)),
            "First difference: city = \"Cairo\": `degrees` is Float64(28.0000001), expected Float64(28.0).",
        ),
    ] {
        assert_eq!(message(&exercise, &answer), expected);
    }
    is_correct(&exercise, &with(col("degrees") + lit(1e-12)));
}

#[test]
fn failing_query_and_panic_are_feedback() {
    let exercise = exercise("");
    let failing = message(&exercise, &warm().select([col("town")]));
    assert!(failing.starts_with("The query fails: ") && failing.contains("town"), "{failing}");
    assert!(!failing.contains('\n'), "{failing}");
    let panicking = warm().map(|_| panic!("no way"), Default::default(), None, None);
    let panic = message(&exercise, &panicking);
    assert!(panic.contains("no way") && !panic.contains("parquet"), "{panic}");
    let text = message(&exercise, &"SELECT 1");
    assert!(text.starts_with("The answer must be a query"), "{text}");
}

#[test]
fn without_a_key_the_order_matters() {
    let source = SOURCE
        .replace("key: city\n", "")
        .replace("CONDITIONS", "")
        .replace("WHERE degrees >= 10", "ORDER BY degrees DESC LIMIT 2");
    let exercise = exercise_with(&source, "nowhere".as_ref());
    let sorted = |descending: bool| {
        let options = SortMultipleOptions::default().with_order_descending(descending);
        cities().lazy().sort(["degrees"], options)
    };
    is_correct(&exercise, &sorted(true).limit(2));
    let reversed = message(&exercise, &sorted(true).limit(2).reverse());
    assert_eq!(reversed, "First difference: row 1: `city` is \"Lima\", expected \"Cairo\".");
    assert_eq!(message(&exercise, &sorted(true)), "The result has 4 rows, expected 2.");
}

#[test]
fn value_is_compared_without_revealing_it() {
    let of = |sql: &str| {
        let query = "SELECT city, degrees FROM cities WHERE degrees >= 10";
        let source = SOURCE.replace("CONDITIONS", "").replace(query, sql);
        exercise_with(&source, "nowhere".as_ref())
    };
    let count = of("SELECT count(*) AS n FROM cities");
    is_correct(&count, &4);
    is_correct(&count, &4.0);
    assert_eq!(message(&count, &5), "5 is too high.");
    assert_eq!(message(&count, &3), "3 is too low.");
    assert_eq!(message(&count, &"4"), "The answer must be a number, without quotes.");
    assert_eq!(message(&count, &warm()), "The answer must be a number, without quotes.");
    let coldest = of("SELECT city FROM cities ORDER BY degrees LIMIT 1");
    is_correct(&coldest, &"Oslo");
    assert_eq!(message(&coldest, &"Rome"), "`Rome` is not the answer.");
    assert_eq!(message(&coldest, &1), "The answer must be a string, in quotes.");
}

#[test]
fn sql_is_run_on_the_tables() {
    let source = SOURCE.replace("CONDITIONS", "answer is SQL");
    let (head, _) = source.split_once("```sql").unwrap();
    let exercise =
        exercise_with(&format!("{head}The rows of the given query.\n"), "nowhere".as_ref());
    let unknown = exercise.check(&"SELECT * FROM cities");
    assert_eq!(unknown.verdict, Verdict::NotChecked, "{unknown}");
    let exercise = exercise.given(&warm());
    is_correct(&exercise, &"SELECT * FROM cities WHERE degrees > 5");
    assert!(message(&exercise, &"SELECT * FROM cities").contains("Oslo"));
    assert!(message(&exercise, &"SELEC").starts_with("The SQL fails: "));
    assert!(message(&exercise, &warm()).contains("must be a string with an SQL query"));
}

#[test]
fn filter_must_be_in_the_scan() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("cities.parquet");
    ParquetWriter::new(std::fs::File::create(&file).unwrap()).finish(&mut cities()).unwrap();
    let path = PlRefPath::try_from_path(&file).unwrap();
    let scan = LazyFrame::scan_parquet(path, Default::default()).unwrap();
    let exercise = exercise("filters in the scan");
    let warm = |frame: LazyFrame| frame.filter(col("degrees").gt_eq(lit(10)));
    is_correct(&exercise, &warm(scan.clone()));
    let late = warm(scan.with_column(col("degrees").fill_null(lit(0.0))));
    let late = message(&exercise, &late);
    assert!(late.contains("not pushed down") && late.contains("FILTER"), "{late}");
    assert!(message(&exercise, &cities()).contains("leave out `collect()`"));
}

#[test]
fn sort_must_have_a_limit() {
    let exercise = exercise("no full sort");
    let sorted = warm().sort(["degrees"], SortMultipleOptions::default());
    is_correct(&exercise, &sorted.clone().limit(3));
    assert!(message(&exercise, &sorted).contains("sorts all rows"));
}

#[test]
fn join_must_be_validated() {
    let exercise = exercise("joins are validated");
    let key = [col("city")];
    let join = |validation| {
        let arguments = JoinArgs { validation, ..JoinArgs::new(JoinType::Semi) };
        warm().join(cities().lazy(), &key, &key, arguments)
    };
    let inner = |validation| {
        let arguments = JoinArgs { validation, ..JoinArgs::new(JoinType::Inner) };
        let others = cities().lazy().select([col("city")]);
        warm().join(others, &key, &key, arguments)
    };
    is_correct(&exercise, &inner(JoinValidation::ManyToOne));
    assert!(message(&exercise, &inner(JoinValidation::ManyToMany)).contains("unique"));
    assert!(message(&exercise, &join(JoinValidation::ManyToMany)).contains("unique"));
}

#[test]
fn query_must_write_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let source = SOURCE.replace("CONDITIONS", "ends in a sink warm.parquet");
    let outputs = folder.path().join("outputs");
    let exercise = exercise_with(&source, &outputs);
    let sink = |query: &LazyFrame, name: &str| {
        crate::files::with_parquet_sink(query, &outputs.join(name), None).unwrap()
    };
    let none = message(&exercise, &warm());
    assert!(none.contains("does not end in a sink") && none.contains("warm.parquet"), "{none}");
    let other = message(&exercise, &sink(&warm(), "cold.parquet"));
    assert!(other.contains("cold.parquet") && other.contains("expected"), "{other}");
    assert!(!outputs.exists());
    is_correct(&exercise, &sink(&warm(), "warm.parquet"));
    // The file is written again, and compared.
    let cold = message(&exercise, &sink(&cities().lazy(), "warm.parquet"));
    assert!(cold.contains("An unexpected row for city = \"Oslo\""), "{cold}");
    let failing = warm().map(|_| panic!("no way"), Default::default(), None, None);
    assert!(message(&exercise, &sink(&failing, "warm.parquet")).contains("no way"));
    assert!(!outputs.join("warm.parquet").exists());
}

#[test]
fn time_is_compared_with_the_given_query() {
    let frame = df!["x" => (0..300_000i64).collect::<Vec<_>>()].unwrap();
    let source = SOURCE
        .replace("CONDITIONS", "at most 0.5 of the given time")
        .replace("key: city\n", "")
        .replace(
            "SELECT city, degrees FROM cities WHERE degrees >= 10",
            "SELECT max(x) AS x, min(x) AS y FROM cities",
        );
    let exercise =
        Exercise::new(3, &source, [("cities", frame.clone().lazy())], "nowhere").unwrap();
    let fast = frame.clone().lazy().select([col("x").max(), col("x").min().alias("y")]);
    let slow = frame.lazy().sort(["x"], SortMultipleOptions::default()).map(
        |frame| {
            std::thread::sleep(std::time::Duration::from_millis(20));
            Ok(frame)
        },
        Default::default(),
        None,
        None,
    );
    let slow = slow.select([col("x").max(), col("x").min().alias("y")]);
    assert_eq!(exercise.check(&fast).verdict, Verdict::NotChecked);
    let exercise = exercise.given(&slow);
    is_correct(&exercise, &fast);
    let same = message(&exercise, &slow);
    assert!(same.contains("times the given query's time, and at most 0.5 is allowed"), "{same}");
}

#[test]
fn grade_fails_unless_the_answer_is_correct() {
    let exercise = exercise("");
    assert_eq!(exercise.grade(&warm()).unwrap().verdict, Verdict::Correct);
    for (answer, reason) in
        [(not_attempted().to_answer(), "not attempted"), (cities().to_answer(), "Oslo")]
    {
        let error = match answer {
            Answer::Frame(frame) => exercise.grade(&frame),
            _ => exercise.grade(&not_attempted()),
        };
        let error = error.unwrap_err().to_string();
        assert!(error.contains(reason) && error.contains("exercise(3)?.hint(1)"), "{error}");
    }
}

#[test]
fn hints_lead_to_the_solution() {
    let exercise = exercise("");
    let first = exercise.hint(1).to_string();
    assert_eq!(
        first,
        "**Hint 1 of 2.** First hint,\nin two lines.\n\nNext hint: `exercise(3)?.hint(2)`"
    );
    assert!(exercise.hint(2).to_string().ends_with("Solution: `exercise(3)?.solution()`"));
    for number in [0, 3, usize::MAX] {
        let text = exercise.hint(number).to_string();
        assert!(
            text.contains(&format!("has no hint {number}")) && text.contains("hint(1)"),
            "{text}"
        );
    }
    assert!(exercise.solution().to_string().ends_with("\n\nUse `filter`."));
}

#[test]
fn incomplete_source_is_an_error() {
    let source = SOURCE.replace("CONDITIONS", "");
    for (part, other, reason) in [
        ("---\ntitle", "title", "must begin with a line"),
        ("\n---\nKeep", "Keep", "must end the settings"),
        ("title: ", "name: ", "`title` is missing"),
        ("## Hints", "## Tips", "`## Hints` is missing"),
        ("1. First", "- First", "no numbered list"),
        ("```sql", "```", "no SQL block"),
        ("## Solution", "", "`## Solution` is missing"),
        ("conditions: ", "conditions: fast", "`fast` is not a condition"),
    ] {
        let error = Exercise::new(3, &source.replacen(part, other, 1), [], "x").err().unwrap();
        let error = error.to_string();
        assert!(error.contains(reason) && error.contains("exercise 3"), "{error}");
    }
}

#[test]
fn conditions_are_parsed() {
    for (text, condition) in [
        ("fits in 60 MB", Condition::FitsIn(60)),
        ("at most 0.5 of the given time", Condition::ShareOfTime(0.5)),
        ("ends in a sink a.parquet", Condition::Sink("a.parquet".to_owned())),
    ] {
        assert_eq!(Condition::parse(text).unwrap(), condition);
    }
    for text in ["fits in some MB", "at most half of the given time", ""] {
        assert!(Condition::parse(text).unwrap_err().contains("is not a condition"));
    }
}
