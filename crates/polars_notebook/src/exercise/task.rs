//! The source of an exercise.

use super::Condition;

/// An exercise as its source describes it.
#[derive(Clone, Debug, PartialEq)]
pub struct Task {
    /// Title.
    pub title: String,
    /// The columns that identify a row of the expected result. Without one, the order of the rows
    /// matters.
    pub key: Vec<String>,
    /// Conditions that the query must meet, besides its result.
    pub conditions: Vec<Condition>,
    /// Hints as Markdown, each more explicit than the one before.
    pub hints: Vec<String>,
    /// A solution with its explanation, as Markdown.
    pub solution: String,
    /// The expected result.
    pub expected: Expected,
}

/// Where the expected result comes from.
#[derive(Clone, Debug, PartialEq)]
pub enum Expected {
    /// This SQL query.
    Sql(String),
    /// The query that the notebook gives, for a task whose answer is SQL.
    Given,
}

impl Task {
    /// Parses the source of an exercise.
    ///
    /// It begins with settings between two lines `---`, each as `name: value`:
    ///
    /// - `title`,
    /// - `key`: names of columns, separated by commas; see [`Task::key`],
    /// - `conditions`, separated by `;`; see [`Condition::parse`].
    ///
    /// Sections begin with `## ` and their name. `Hints` is a numbered list. `Solution` is Markdown.
    /// `Expected` has an SQL block, or the line `The rows of the given query.` If the expected result
    /// is one value, the answer must be that number or text, and not a query. Other settings and
    /// sections are for the program that writes notebooks.
    ///
    /// # Errors
    ///
    /// The reason, for a source without one of these parts or with an unknown condition.
    pub fn parse(source: &str) -> Result<Task, String> {
        let rest = source.strip_prefix("---\n").ok_or("it must begin with a line `---`")?;
        let (settings, text) =
            rest.split_once("\n---\n").ok_or("a line `---` must end the settings")?;
        let setting = |name: &str| {
            let mut values = settings.lines().filter_map(|line| line.split_once(": "));
            values.find(|(found, _)| *found == name).map(|(_, value)| value.trim())
        };
        let list = |name: &str, separator: char| {
            let values = setting(name).unwrap_or_default().split(separator).map(str::trim);
            values.filter(|value| !value.is_empty()).map(str::to_owned).collect::<Vec<_>>()
        };
        let conditions = list("conditions", ';');
        let expected = section(text, "Expected")?;
        let expected = match fenced(expected, "sql") {
            Some(sql) => Expected::Sql(sql.to_owned()),
            None if expected == "The rows of the given query." => Expected::Given,
            None => return Err("`## Expected` has no SQL block".to_owned()),
        };
        let hints = numbered(section(text, "Hints")?);
        if hints.is_empty() {
            return Err("`## Hints` has no numbered list".to_owned());
        }
        Ok(Task {
            title: setting("title").ok_or("the setting `title` is missing")?.to_owned(),
            key: list("key", ','),
            conditions: conditions
                .iter()
                .map(|text| Condition::parse(text))
                .collect::<Result<_, _>>()?,
            hints,
            solution: section(text, "Solution")?.to_owned(),
            expected,
        })
    }

    /// The name of the file that the answer must write, if it must end in a sink.
    pub fn sink(&self) -> Option<&str> {
        self.conditions.iter().find_map(|condition| match condition {
            Condition::Sink(name) => Some(name.as_str()),
            _ => None,
        })
    }
}

/// The text of the section `## NAME`.
fn section<'a>(text: &'a str, name: &str) -> Result<&'a str, String> {
    let heading = format!("\n## {name}\n");
    let (_, rest) =
        text.split_once(&heading).ok_or_else(|| format!("the section `## {name}` is missing"))?;
    Ok(rest.split("\n## ").next().unwrap_or_default().trim())
}

/// The content of the first code block of a language.
fn fenced<'a>(text: &'a str, language: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(&format!("```{language}\n"))?;
    Some(rest.split_once("\n```")?.0)
}

/// The items of a list whose lines begin with `1. `, `2. `, …; further lines belong to an item.
fn numbered(text: &str) -> Vec<String> {
    let mut items: Vec<String> = Vec::new();
    for line in text.lines() {
        let next = format!("{}. ", items.len() + 1);
        match (line.strip_prefix(&next), items.last_mut()) {
            (Some(item), _) => items.push(item.to_owned()),
            (None, Some(item)) => {
                item.push('\n');
                item.push_str(line.strip_prefix("   ").unwrap_or(line));
            }
            (None, None) => {}
        }
    }
    items.iter().map(|item| item.trim().to_owned()).collect()
}
