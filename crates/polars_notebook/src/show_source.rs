//! Shows the source of a function in a cell.

use crate::display::send;
use crate::error::{Error, Result};

/// Shows the source of a public function with its documentation. `sources` contains the path of each
/// module, such as `my_crate::query`, and the text of its file, for example from `include_str!`.
///
/// # Errors
///
/// [`Error::NoSource`] if the function's module is not in `sources`.
pub fn show_source<F>(_function: F, sources: &[(&str, &str)]) -> Result<()> {
    let code = source_of(std::any::type_name::<F>(), sources)?;
    send("text/markdown", &format!("```rust\n{code}\n```"));
    send("text/plain", &code);
    Ok(())
}

/// The source of the function with the path `name`, such as `my_crate::query::nightly`, with its
/// documentation. Relies on rustfmt's indentation: none for a function and its closing brace, four
/// columns for a method.
fn source_of(name: &str, sources: &[(&str, &str)]) -> Result<String> {
    let none = || Error::NoSource {
        name: name.to_owned(),
        modules: sources.iter().map(|(module, _)| (*module).to_owned()).collect(),
    };
    let path: Vec<&str> = name.split("::").collect();
    let (krate, module, function, indent) = match *path.as_slice() {
        [krate, module, function] => (krate, module, function, ""),
        [krate, module, _, function] => (krate, module, function, "    "),
        _ => return Err(none()),
    };
    let module = format!("{krate}::{module}");
    let source = sources.iter().find(|(name, _)| *name == module);
    let lines: Vec<&str> = source.ok_or_else(none)?.1.lines().collect();
    let is_head = |line: &&str| {
        let rest = line.strip_prefix(indent).and_then(|line| line.strip_prefix("pub fn "));
        let rest = rest.and_then(|rest| rest.strip_prefix(function));
        rest.is_some_and(|rest| rest.starts_with(['(', '<']))
    };
    let first = lines.iter().position(is_head).ok_or_else(none)?;
    let is_doc = |line: &&&str| line.trim_start().starts_with("///");
    let docs = lines[..first].iter().rev().take_while(is_doc).count();
    let end = format!("{indent}}}");
    let length = lines[first..].iter().position(|line| *line == end).ok_or_else(none)?;
    let lines = lines[first - docs..=first + length].iter();
    Ok(lines.map(|line| line.strip_prefix(indent).unwrap_or(line)).collect::<Vec<_>>().join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn source_of_a_function_has_body_and_documentation() {
        let code = source_of("polars_notebook::ensure::ensure", &crate::SOURCES).unwrap();
        assert!(code.starts_with("/// Prints `statement` with a tick"), "{code}");
        assert!(code.contains("pub fn ensure(") && code.ends_with("\n}"), "{code}");
        assert_eq!(code.matches("fn ").count(), 1, "{code}");
    }

    #[test]
    fn source_of_a_method_is_not_indented() {
        let plot = std::any::type_name_of_val(&crate::chart::Chart::plot);
        let code = source_of(plot, &crate::SOURCES).unwrap();
        assert!(code.starts_with("/// Renders the chart."), "{code}");
        assert!(code.contains("\npub fn plot(&self)") && code.ends_with("\n}"), "{code}");
    }

    #[test]
    fn function_of_a_module_without_source_is_refused() {
        for name in
            ["alloc::vec::from_elem", "polars_notebook::ensure::nonsense", "x::ensure::ensure"]
        {
            let error = source_of(name, &crate::SOURCES).unwrap_err();
            assert!(matches!(error, Error::NoSource { .. }), "{name}");
        }
    }
}
