//! The source that evcxr generates for a cell, changed so that the cell tells how it ended.
//!
//! evcxr puts the user's code between lines of its own. Three of them are replaced, each on its
//! line, so that the compiler's messages are where evcxr looks for them. What they call (`cell.rs`)
//! is a crate that the cell is linked with, or a module at the end. A source that does not have these lines is left as it is: it runs no
//! code of a user's, or is that of an evcxr that does otherwise. Then its own word stands.

/// The crate, or module, that a cell calls.
const MODULE: &str = "kernel_cell";
/// What the function of a cell begins with.
const FUNCTION: &str = "pub extern \"C\" fn run_user_code_";
/// What runs the user's code, with variables of other cells and without.
const CATCH: [&str; 2] = ["match std::panic::catch_unwind(\n", "if std::panic::catch_unwind(||{\n"];
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
