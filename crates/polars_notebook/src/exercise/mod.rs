//! Exercises that check themselves: a learner's answer is compared with the expected result, and the
//! first difference is the feedback.
//!
//! The source of an exercise is a Markdown text, described at [`Task::parse`]. Your library has a
//! function `exercise(number)` that returns an [`Exercise`], because the messages refer to
//! `exercise(1)?.hint(1)`.
//!
//! ```
//! use polars::prelude::*;
//! use polars_notebook::exercise::{Exercise, Verdict, not_attempted};
//!
//! const SOURCE: &str = concat!(
//!     "---\ntitle: Warm cities\nkey: city\n---\n",
//!     "Keep the cities with at least 10 degrees.\n",
//!     "\n## Hints\n\n1. `filter` keeps the rows for which an expression is true.\n",
//!     "\n## Solution\n\n`cities.filter(col(\"degrees\").gt_eq(lit(10)))`\n",
//!     "\n## Expected\n\n```sql\nSELECT city, degrees FROM cities WHERE degrees >= 10\n```\n",
//! );
//!
//! # fn main() -> polars_notebook::Result<()> {
//! let cities = df!["city" => ["Oslo", "Rome"], "degrees" => [4.5, 15.0]]?.lazy();
//! let exercise = Exercise::new(1, SOURCE, [("cities", cities.clone())], "outputs")?;
//!
//! assert_eq!(exercise.check(&not_attempted()).verdict, Verdict::NotAttempted);
//!
//! let feedback = exercise.check(&cities);
//! assert_eq!(feedback.verdict, Verdict::Wrong);
//! assert!(feedback.message.starts_with("The result has 2 rows, expected 1"));
//! assert!(feedback.next.ends_with("`exercise(1)?.hint(1)`."));
//!
//! let answer = cities.filter(col("degrees").gt_eq(lit(10)));
//! assert_eq!(exercise.check(&answer).verdict, Verdict::Correct);
//! # Ok(())
//! # }
//! ```

mod answer;
mod condition;
mod difference;
mod feedback;
mod task;

use std::path::PathBuf;

use polars::prelude::*;
use polars::sql::SQLContext;
use polars_profile::parquet::{decode_parquet, without_panic};

pub use answer::{Answer, NotAttempted, ToAnswer, not_attempted};
pub use condition::Condition;
pub use feedback::{Feedback, Help, Verdict};
pub use task::{Expected, Task};

use crate::error::{Error, Result};
use condition::sink_target;
use difference::first_difference;

/// A task with the tables that its queries read.
#[derive(Clone)]
pub struct Exercise {
    number: usize,
    task: Task,
    tables: Vec<(String, LazyFrame)>,
    outputs: PathBuf,
    given: Option<LazyFrame>,
}

/// The reason why an answer is not correct.
enum Fault {
    /// The answer's.
    Wrong(String),
    /// The check's own.
    NotChecked(String),
}

impl Exercise {
    /// The exercise `number` of a notebook, from its source.
    ///
    /// Its SQL can use `tables` by their names. `outputs` is the folder of a file that an answer
    /// writes.
    ///
    /// # Errors
    ///
    /// [`Error::ExerciseSource`] for a source that is not valid.
    pub fn new<'a>(
        number: usize,
        source: &str,
        tables: impl IntoIterator<Item = (&'a str, LazyFrame)>,
        outputs: impl Into<PathBuf>,
    ) -> Result<Exercise> {
        let task = Task::parse(source)
            .map_err(|reason| Error::ExerciseSource { exercise: number, reason })?;
        let tables = tables.into_iter().map(|(name, table)| (name.to_owned(), table)).collect();
        Ok(Exercise { number, task, tables, outputs: outputs.into(), given: None })
    }

    /// The exercise with the query that the notebook gives, for a task that compares with it.
    pub fn given(mut self, query: &LazyFrame) -> Exercise {
        self.given = Some(query.clone());
        self
    }

    /// The task.
    pub fn task(&self) -> &Task {
        &self.task
    }

    /// Compares an answer with the expected result. The feedback shows in a cell.
    ///
    /// Neither a failing query nor a panic inside polars makes the check fail: both are feedback.
    pub fn check(&self, answer: &impl ToAnswer) -> Feedback {
        let number = self.number;
        let answer = answer.to_answer();
        let try_again = format!(
            "Change your answer, then run its cell and this cell again. For a hint, run `exercise({number})?.hint(1)`."
        );
        let (verdict, message, next) = if matches!(answer, Answer::NotAttempted) {
            let next = format!(
                "Replace `not_attempted()` with your answer, then run its cell and this cell. For a hint, run `exercise({number})?.hint(1)`."
            );
            (Verdict::NotAttempted, String::new(), next)
        } else {
            match self.fault(answer) {
                None => {
                    let next = format!(
                        "Compare your answer with `exercise({number})?.solution()`, or go on to the next exercise."
                    );
                    (Verdict::Correct, String::new(), next)
                }
                Some(Fault::Wrong(message)) => (Verdict::Wrong, message, try_again),
                Some(Fault::NotChecked(message)) => {
                    let next = "Fix the cause, then run this cell again.".to_owned();
                    (Verdict::NotChecked, message, next)
                }
            }
        };
        Feedback { exercise: number, title: self.task.title.clone(), verdict, message, next }
    }

    /// As [`check`](Exercise::check), for a cell that must fail unless the answer is correct.
    ///
    /// # Errors
    ///
    /// [`Error::NotSolved`] with the feedback.
    pub fn grade(&self, answer: &impl ToAnswer) -> Result<Feedback> {
        let feedback = self.check(answer);
        match feedback.verdict {
            Verdict::Correct => Ok(feedback),
            _ => Err(Error::NotSolved { feedback: feedback.to_string() }),
        }
    }

    /// The hint with this number, from 1.
    pub fn hint(&self, number: usize) -> Help {
        let (exercise, hints) = (self.number, &self.task.hints);
        let hint = number.checked_sub(1).and_then(|at| hints.get(at));
        let next = match number < hints.len() {
            true => format!("Next hint: `exercise({exercise})?.hint({})`", number + 1),
            false => format!("Solution: `exercise({exercise})?.solution()`"),
        };
        match hint {
            Some(hint) => {
                Help::new(format!("**Hint {number} of {}.** {hint}\n\n{next}", hints.len()))
            }
            None => Help::new(format!(
                "Exercise {exercise} has no hint {number}. Its hints are 1 to {}: `exercise({exercise})?.hint(1)`",
                hints.len()
            )),
        }
    }

    /// A solution, with its explanation.
    pub fn solution(&self) -> Help {
        Help::new(format!("**A solution of exercise {}.**\n\n{}", self.number, self.task.solution))
    }

    fn fault(&self, answer: Answer) -> Option<Fault> {
        self.try_check(answer).err()
    }

    fn try_check(&self, answer: Answer) -> Result<(), Fault> {
        let needs_sql = self.task.conditions.contains(&Condition::Sql);
        let expected = self.expected()?;
        let query = match answer {
            Answer::NotAttempted => return Err(Fault::Wrong("It is not attempted.".to_owned())),
            Answer::String(sql) if needs_sql => self
                .sql(&sql)
                .map_err(|error| wrong(format!("The SQL fails: {}", brief(&error))))?,
            _ if needs_sql => return Err(wrong("The answer must be a string with an SQL query.")),
            _ if expected.shape() == (1, 1) => return compare_value(&answer, &expected),
            Answer::Number(_) | Answer::String(_) => {
                return Err(wrong("The answer must be a query, without quotes: a `LazyFrame`."));
            }
            Answer::Query(query) => *query,
            Answer::Frame(frame) => {
                // Conditions are about queries. Without one, a collected frame is as good.
                if !self.task.conditions.is_empty() {
                    return Err(wrong("The answer must be a `LazyFrame`: leave out `collect()`."));
                }
                frame.lazy()
            }
        };
        let frame = match self.task.sink() {
            Some(name) => self.run_sink(&query, name)?,
            None => run(query.clone())
                .map_err(|error| wrong(format!("The query fails: {}", brief(&error))))?,
        };
        if let Some(difference) = first_difference(&frame, &expected, &self.task.key) {
            return Err(Fault::Wrong(difference));
        }
        for condition in &self.task.conditions {
            condition.check(&query, self.given.as_ref())?;
        }
        Ok(())
    }

    /// The expected result.
    fn expected(&self) -> Result<DataFrame, Fault> {
        let query = match &self.task.expected {
            Expected::Sql(sql) => self.sql(sql).map_err(not_checked)?,
            Expected::Given => self.given.clone().ok_or_else(|| {
                Fault::NotChecked(format!(
                    "The check needs the given query: `exercise({}).given(&given)`.",
                    self.number
                ))
            })?,
        };
        run(query).map_err(not_checked)
    }

    fn sql(&self, sql: &str) -> PolarsResult<LazyFrame> {
        without_panic(|| {
            let mut context = SQLContext::new();
            for (name, table) in &self.tables {
                context.register(name, table.clone());
            }
            context.execute(sql)
        })
    }

    /// Runs a query that must end in a sink into `name`; returns the rows in the file.
    fn run_sink(&self, query: &LazyFrame, name: &str) -> Result<DataFrame, Fault> {
        let file = self.outputs.join(name);
        let target = sink_target(query)
            .map_err(|error| wrong(format!("The query fails: {}", brief(&error))))?;
        match target {
            None => {
                return Err(wrong(format!(
                    "The query does not end in a sink. It must write {}.",
                    file.display()
                )));
            }
            Some(target) if target != file => {
                return Err(wrong(format!(
                    "The sink writes {}, expected {}.",
                    target.display(),
                    file.display()
                )));
            }
            Some(_) => {}
        }
        std::fs::create_dir_all(&self.outputs)
            .map_err(|error| not_checked(Error::io("create", &self.outputs)(error)))?;
        if let Err(error) = run(query.clone()) {
            // What a failed sink has written is not a whole file.
            let _ = std::fs::remove_file(&file);
            return Err(wrong(format!("The query fails: {}", brief(&error))));
        }
        decode_parquet(&file).map_err(|error| wrong(format!("The file cannot be read: {error}")))
    }
}

fn wrong(message: impl Into<String>) -> Fault {
    Fault::Wrong(message.into())
}

fn not_checked(error: impl std::fmt::Display) -> Fault {
    Fault::NotChecked(format!("The answer could not be checked: {error}"))
}

fn run(query: LazyFrame) -> PolarsResult<DataFrame> {
    Ok(without_panic(|| query.collect_with_engine(Engine::Streaming))?.unwrap_single())
}

/// The first paragraph of polars' message; the plan follows it.
fn brief(error: &PolarsError) -> String {
    let text = error.to_string();
    let text = text.strip_prefix("parquet: ").unwrap_or(&text);
    text.split("\n\n").next().unwrap_or_default().trim().to_owned()
}

/// Compares a number or a string with the only value of the expected result. The message does not
/// contain that value, because it would be the solution.
fn compare_value(answer: &Answer, expected: &DataFrame) -> Result<(), Fault> {
    let value = expected.columns()[0].get(0).map_err(not_checked)?;
    match (answer, value.get_str(), value.extract::<f64>()) {
        (Answer::Number(n), None, Some(e)) if (n - e).abs() <= 1e-9 * e.abs().max(1.0) => Ok(()),
        (Answer::Number(n), None, Some(e)) if *n > e => Err(wrong(format!("{n} is too high."))),
        (Answer::Number(n), None, Some(_)) => Err(wrong(format!("{n} is too low."))),
        (Answer::String(text), Some(expected), _) if text.trim() == expected => Ok(()),
        (Answer::String(text), Some(_), _) => Err(wrong(format!("`{text}` is not the answer."))),
        (_, Some(_), _) => Err(wrong("The answer must be a string, in quotes.")),
        _ => Err(wrong("The answer must be a number, without quotes.")),
    }
}

#[cfg(test)]
mod tests;
