//! The values that a learner can answer with.

use polars::prelude::*;

/// A learner's answer.
#[derive(Clone)]
pub enum Answer {
    /// The placeholder of the starter.
    NotAttempted,
    /// A query.
    Query(Box<LazyFrame>),
    /// A collected result.
    Frame(DataFrame),
    /// A number.
    Number(f64),
    /// A string, such as SQL.
    String(String),
}

/// A value that can be an answer.
pub trait ToAnswer {
    /// The value as an answer; copies no data.
    fn to_answer(&self) -> Answer;
}

/// The answer of a starter: it compiles and runs, and the check reports that the exercise is not
/// attempted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotAttempted;

/// The placeholder in a starter: `let answer_1 = not_attempted();`.
pub fn not_attempted() -> NotAttempted {
    NotAttempted
}

impl ToAnswer for NotAttempted {
    fn to_answer(&self) -> Answer {
        Answer::NotAttempted
    }
}

impl ToAnswer for LazyFrame {
    fn to_answer(&self) -> Answer {
        Answer::Query(Box::new(self.clone()))
    }
}

impl ToAnswer for DataFrame {
    fn to_answer(&self) -> Answer {
        Answer::Frame(self.clone())
    }
}

impl ToAnswer for str {
    fn to_answer(&self) -> Answer {
        Answer::String(self.to_owned())
    }
}

impl ToAnswer for String {
    fn to_answer(&self) -> Answer {
        Answer::String(self.clone())
    }
}

impl<T: ToAnswer + ?Sized> ToAnswer for &T {
    fn to_answer(&self) -> Answer {
        (**self).to_answer()
    }
}

/// `None` is not attempted.
impl<T: ToAnswer> ToAnswer for Option<T> {
    fn to_answer(&self) -> Answer {
        self.as_ref().map_or(Answer::NotAttempted, ToAnswer::to_answer)
    }
}

macro_rules! numbers {
    ($($number:ty),*) => {
        $(impl ToAnswer for $number {
            fn to_answer(&self) -> Answer {
                Answer::Number(*self as f64)
            }
        })*
    };
}
numbers!(i32, i64, u32, u64, usize, f32, f64);
