//! The source that evcxr generates for a cell, changed so that the cell tells how it ended.
//!
//! evcxr puts the user's code between lines of its own. Three of them are replaced, each on its
//! line, so that the compiler's messages are where evcxr looks for them. What they call (`cell.rs`)
//! is a crate that the cell is linked with, or a module at the end. A source that does not have these lines is left as it is: it runs no
//! code of a user's, or is that of an evcxr that does otherwise. Then its own word stands.

use std::collections::{HashMap, HashSet};

/// The crate, or module, that a cell calls.
const MODULE: &str = "kernel_cell";
/// What the function of a cell begins with.
const FUNCTION: &str = "pub extern \"C\" fn run_user_code_";
/// What runs the user's code, with variables of other cells and without.
const CATCH: [&str; 2] = ["match std::panic::catch_unwind(\n", "if std::panic::catch_unwind(||{\n"];
/// Before and behind a cell's last expression, which is shown; and what shows it if it has no
/// `evcxr_display`.
const SHOWN: [&str; 2] = ["(\n", ").evcxr_display();\n"];
const SEND: &str = "evcxr_send_text_plain(&format!(";
/// What becomes of an error at a `?`.
const FROM: &str = " for EvcxrUserCodeError {\n";
const HEAD: &str = "fn from(error: T) -> Self {\n";
const PRINT: &str = "eprintln!(";

/// `source` so that the cell tells how it ended; None if it is not as evcxr 0.22 makes it.
///
/// `module` is the path of `cell.rs`, if that is to be a module; `interruptible` the path in Rust of the function that runs a
/// cell so that it can be interrupted, if one can be named there.
pub fn telling(source: &str, module: Option<&str>, interruptible: Option<&str>) -> Option<String> {
    let start = source.find(FUNCTION)?;
    let number: u32 = source[start + FUNCTION.len()..].split('(').next()?.parse().ok()?;
    let errors = told_errors(&source[..start]);
    // There is none if no user's code is run, or if `:preserve_vars_on_panic` is off.
    let called = CATCH
        .into_iter()
        .filter_map(|line| Some((start + source[start..].find(&format!("\n{line}"))? + 1, line)))
        .min()
        .map(|(at, line)| {
            let whole = format!("{MODULE}::whole");
            let run = interruptible.map_or(whole, |name| format!("::{name}"));
            let call = format!("{MODULE}::caught({number}, {run}, ");
            let line_told = line.replace("std::panic::catch_unwind(", &call);
            format!("{}{line_told}{}", &source[start..at], &source[at + line.len()..])
        });
    if errors.is_none() && called.is_none() {
        return None;
    }
    let errors = errors.unwrap_or_else(|| source[..start].to_owned());
    let mut made = errors + &called.unwrap_or_else(|| source[start..].to_owned());
    if let Some(path) = module {
        let end = if made.ends_with('\n') { "" } else { "\n" };
        made += &format!("{end}#[allow(warnings)] #[path = {path:?}] mod {MODULE};\n");
    }
    Some(made)
}

/// `source` without what fetches and puts back variables that the user's code does not mention; they
/// stay in evcxr's store meanwhile. A line that goes leaves an empty one.
///
/// A cell would otherwise be compiled with code for the type of every variable that there is. One
/// that is mentioned only inside a string counts as mentioned: a formatted string can name it. That
/// a type was redefined, and a variable lost by it, is seen by the next cell that mentions it.
pub fn with_less_to_carry(source: &str) -> String {
    let mut lines: Vec<&str> = source.split_inclusive('\n').collect();
    let start = lines.iter().position(|line| line.contains(FUNCTION));
    let called = |line: &&str| CATCH.contains(line);
    let Some(start) = start else { return source.to_owned() };
    let Some(call) = lines[start..].iter().position(called).map(|at| start + at) else {
        return source.to_owned();
    };
    // Behind the user's code, the last lines put back what was fetched before it.
    fn put(line: &str) -> Option<&str> {
        variable(line, "evcxr_variable_store.put_variable::<", ");\n")
    }
    let trailing = lines.iter().rev().take_while(|line| {
        ["}\n", "}", "evcxr_variable_store\n"].contains(line) || put(line).is_some()
    });
    let end = lines.len() - trailing.count();
    let users = lines[call..end.max(call)].concat();
    let mentioned: HashSet<&str> =
        users.split(|c: char| !c.is_alphanumeric() && c != '_').collect();

    let mut places: HashMap<&str, Vec<usize>> = HashMap::new();
    for (at, line) in lines.iter().enumerate().skip(start) {
        let name = match at {
            _ if at < call => variable(line, "let ", ");\n")
                .filter(|_| line.contains(" = evcxr_variable_store.take_variable::<"))
                .or_else(|| {
                    variable(line, "vars_ok &= evcxr_variable_store.check_variable::<", ");\n")
                }),
            _ if at >= end => put(line),
            _ => None,
        };
        if let Some(name) = name {
            places.entry(name).or_default().push(at);
        }
    }
    // Checked, fetched and put back, each in a line of its own, or it is not as it should be.
    let unused = places.iter().filter(|(name, at)| at.len() == 3 && !mentioned.contains(**name));
    for at in unused.flat_map(|(_, at)| at.clone()).collect::<Vec<_>>() {
        lines[at] = "\n";
    }
    lines.concat()
}

/// `source` so that what a cell shows begins at the start of a line of stdout; evcxr would take a
/// line without its end, printed before, for a part of it.
///
/// A last expression in which a line is just `(` is left as it is: it might be the wrong one.
pub fn with_lines_ended(source: &str) -> String {
    let mut lines: Vec<String> = source.split_inclusive('\n').map(str::to_owned).collect();
    let of_users = lines.iter().position(|line| CATCH.contains(&line.as_str())).unwrap_or(0);
    let at = |text: &str| -> Vec<usize> {
        (of_users..lines.len()).filter(|&at| lines[at] == text).collect()
    };
    if let ([open], [close]) = (at(SHOWN[0]).as_slice(), at(SHOWN[1]).as_slice())
        && open < close
    {
        let (open, close) = (*open, *close);
        lines[open] = format!("(*{MODULE}::on_a_new_line(&(\n");
        lines[close] = format!(")){}", SHOWN[1]);
    }
    for line in &mut lines[of_users..] {
        if let Some(arguments) = line.strip_prefix(SEND) {
            *line = format!("{MODULE}::send(evcxr_send_text_plain, &format!({arguments}");
        }
    }
    lines.concat()
}

/// The variable that a line of evcxr's between `head` and `tail` names in `stringify!`.
fn variable<'a>(line: &'a str, head: &str, tail: &str) -> Option<&'a str> {
    let body = line.strip_prefix(head)?.strip_suffix(tail)?;
    let name = body.split_once("(stringify!(")?.1.split(')').next()?;
    (!name.is_empty()).then_some(name)
}

/// evcxr's `From` for errors at a `?`, with the error told of instead of printed; None without one.
fn told_errors(before: &str) -> Option<String> {
    let from = before.rfind(FROM)? + FROM.len();
    let head = from + before[from..].find(HEAD)?;
    let body = head + HEAD.len();
    let print = body + before[body..].find(PRINT)?;
    // Nothing but spaces between one line and the next, or it is not evcxr's.
    let blank = |text: &str| text.trim_matches(' ').is_empty();
    if !blank(&before[from..head]) || !blank(&before[body..print]) {
        return None;
    }
    let (arguments, rest) = before[print + PRINT.len()..].split_once(");\n")?;
    Some(format!(
        "{}#[track_caller] {}{MODULE}::failed::<T>(&format!({arguments}));\n{rest}",
        &before[..head],
        &before[head..print],
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A cell `let n: i32 = "x".parse()?;` as evcxr 0.22 makes it, in short.
    const SOURCE: &str = r#"#![allow(unused_imports, unused_mut, dead_code)]

            struct EvcxrUserCodeError {}
            impl<T: std::fmt::Display> From<T> for EvcxrUserCodeError {
                fn from(error: T) -> Self {
                    eprintln!("{}", error);
                    println!("{}", evcxr_internal_runtime::USER_ERROR_OCCURRED);
                    EvcxrUserCodeError {}
                }
            }
mod evcxr_internal_runtime {
}
#[unsafe(no_mangle)]
pub extern "C" fn run_user_code_12(
match std::panic::catch_unwind(
  std::panic::AssertUnwindSafe(||{
let _ = (|| -> std::result::Result<(), EvcxrUserCodeError> {
let n: i32 = "x".parse()?;
Ok(())})();
})) { 
  Ok(_) => {}
"#;

    #[test]
    fn the_users_code_stays_on_its_lines() {
        let told = telling(SOURCE, Some("/cell.rs"), None).unwrap();
        assert_eq!(told.lines().count(), SOURCE.lines().count() + 1);
        let changed: Vec<(&str, &str)> =
            SOURCE.lines().zip(told.lines()).filter(|(before, after)| before != after).collect();
        assert_eq!(changed.len(), 3, "{changed:#?}");
        assert!(changed[0].1.ends_with("#[track_caller] fn from(error: T) -> Self {"));
        assert!(changed[1].1.ends_with(r#"kernel_cell::failed::<T>(&format!("{}", error));"#));
        assert_eq!(changed[2].1, "match kernel_cell::caught(12, kernel_cell::whole, ");
        assert!(told.ends_with("#[allow(warnings)] #[path = \"/cell.rs\"] mod kernel_cell;\n"));
    }

    #[test]
    fn errors_are_told_of_where_panics_are_not_caught() {
        let source = SOURCE.replace("match std::panic::catch_unwind(\n", "\n");
        let told = telling(&source, Some("/cell.rs"), None).unwrap();
        assert!(told.contains("::failed::<T>(") && !told.contains("::caught("));
    }

    #[test]
    fn a_cell_that_can_be_interrupted_is_run_by_the_library() {
        let source = SOURCE.replace(CATCH[0], CATCH[1]);
        let told = telling(&source, Some("/cell.rs"), Some("library::interruptible")).unwrap();
        assert!(!telling(&source, None, None).unwrap().contains("mod kernel_cell"));
        assert!(told.contains("\nif kernel_cell::caught(12, ::library::interruptible, ||{\n"));
    }

    #[test]
    fn variables_that_are_not_mentioned_stay_where_they_are() {
        let carry = |name: &str, kind: &str| {
            [
                format!(
                    "vars_ok &= evcxr_variable_store.check_variable::<{kind}>(stringify!({name}));\n"
                ),
                format!(
                    "let {name} = evcxr_variable_store.take_variable::<{kind}>(stringify!({name}));\n"
                ),
                format!(
                    "evcxr_variable_store.put_variable::<{kind}>(stringify!({name}), {name});\n"
                ),
            ]
        };
        let variables = [
            ("used", "Vec<i32>"),
            ("printed", "i32"),
            ("unused", "HashMap<String, (i32, f64)>"),
            ("use", "u8"),
        ];
        let lines = |part: usize, kept: fn(&str) -> bool| -> String {
            let line = |(name, kind): &(&str, &str)| match kept(name) {
                true => carry(name, kind)[part].clone(),
                false => "\n".to_owned(),
            };
            variables.iter().map(line).collect()
        };
        let source = |kept: fn(&str) -> bool| {
            format!(
                "pub extern \"C\" fn run_user_code_3(\n{{let mut vars_ok = true;\n{}if !vars_ok {{return evcxr_variable_store;}}}}\n{}match std::panic::catch_unwind(\n{}\nlet new = used.len();\nprintln!(\"{{printed}}\");\nevcxr_variable_store.put_variable::<usize>(stringify!(new), new);\n}})) {{ \n  Ok(_) => {{}}\n}}}}\n{}evcxr_variable_store\n}}\n",
                lines(0, kept),
                lines(1, kept),
                "  std::panic::AssertUnwindSafe(||{",
                lines(2, kept),
            )
        };
        let made = with_less_to_carry(&source(|_| true));
        assert_eq!(made, source(|name| ["used", "printed"].contains(&name)));
        // One that evcxr does not put back is another's affair.
        let lost = source(|_| true).replace(&carry("unused", variables[2].1)[2], "\n");
        assert!(with_less_to_carry(&lost).contains("take_variable::<HashMap"));
        for other in ["", "fn main() {}", SOURCE] {
            assert_eq!(with_less_to_carry(other), other);
        }
    }

    #[test]
    fn what_is_shown_begins_on_a_new_line() {
        let source = |open: &str, close: &str| {
            format!("(\nmatch std::panic::catch_unwind(\n{open}frame.head()\n{close}Ok(())\n")
        };
        let made = with_lines_ended(&source("(\n", ").evcxr_display();\n"));
        assert_eq!(made, source("(*kernel_cell::on_a_new_line(&(\n", "))).evcxr_display();\n"));
        let made =
            with_lines_ended(&source("evcxr_send_text_plain(&format!(\"{:?}\",&(\n", ")));\n"));
        assert_eq!(
            made,
            source("kernel_cell::send(evcxr_send_text_plain, &format!(\"{:?}\",&(\n", ")));\n")
        );
        for other in [source("(\n(\n", ")).evcxr_display();\n"), source("", "")] {
            assert_eq!(with_lines_ended(&other), other);
        }
    }

    #[test]
    fn what_a_user_writes_is_left_alone() {
        let users = SOURCE.replace(
            "let n: i32 = \"x\".parse()?;\n",
            "match std::panic::catch_unwind(\n|| 1) { _ => {} }\nfn from(error: T) -> Self {\neprintln!(\"mine\");\n",
        );
        let told = telling(&users, Some("/cell.rs"), None).unwrap();
        assert!(told.contains("\nmatch std::panic::catch_unwind(\n|| 1)"));
        assert!(told.contains("\nfn from(error: T) -> Self {\neprintln!(\"mine\");\n"));
    }

    #[test]
    fn another_source_is_not_changed() {
        let nothing_to_run = "#[unsafe(no_mangle)]\npub extern \"C\" fn run_user_code_1(\nmut x: *mut u8) -> *mut u8 {x}\n";
        let other = SOURCE.replace("catch_unwind", "other").replace("eprintln", "print");
        for source in ["", "fn main() {}", nothing_to_run, &other] {
            assert_eq!(telling(source, Some("/cell.rs"), None), None, "{source}");
        }
    }
}
