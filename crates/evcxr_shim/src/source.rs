//! Instruments the source that evcxr generates for a cell, before rustc reads it.
//!
//! The source of a cell that runs has a function `run_user_code_N`. The changes are:
//!
//! - The cell reports that it begins and how it ends, with calls of the crate in `cell.rs`.
//! - `return` ends the cell.
//! - A variable whose type depends on definitions in cells is stored with a hash of these
//!   ([`definitions`](crate::definitions)).
//! - Variables that the cell does not mention stay in evcxr's variable store. Otherwise each cell would
//!   compile code for the types of all variables.
//! - An `impl` block replaces that of an earlier cell (see the module `impls`).
//!
//! Line numbers stay the same, because evcxr maps the lines of the compiler's messages to the cell. If a
//! source differs from those of evcxr 0.22, it gets a `compile_error!` and never runs.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::path::Path;

use proc_macro2::{TokenStream, TokenTree};
use quote::ToTokens;
use syn::visit::{self, Visit};
use syn::{Expr, Item, Stmt};

use crate::definitions::{Definitions, plain};
use crate::edits::{self, Edits};
use crate::impls::{self, DefinitionOrder};

/// The prefix of the name of a cell's function.
const FUNCTION: &str = "run_user_code_";
/// The name of the function in a source that evcxr only analyses.
const ANALYSIS: &str = "evcxr_analysis_wrapper";
/// The name of evcxr's error type.
const ERROR: &str = "EvcxrUserCodeError";
/// evcxr's message for a lost variable, and the function that prints it.
const LOST: &str = "eprintln!(\"The type of the variable {name} was redefined, so was lost.\",);";
const CHECK: &str = "pub fn check_variable<T: 'static>(&mut self, name: &str) -> bool {";

/// The state of a kernel before its current cell.
pub struct Kernel<'a> {
    /// The Rust path of the function that runs a cell so that it can be interrupted, if there is one.
    pub interruptible: Option<&'a str>,
    /// The order in which cells defined `impl` blocks.
    pub order: &'a DefinitionOrder,
    /// The folder of the source.
    pub folder: &'a Path,
    /// Returns the number of redefined types, given the types of this source.
    pub redefined: &'a dyn Fn(&Definitions) -> u64,
}

/// An instrumented source.
pub struct Changed {
    /// The source for the compiler.
    pub compiled: String,
    /// The same source with the user's lines unchanged. The kernel finds the lines of the cell here.
    pub shown: String,
    /// Whether cells define a trait with a method `evcxr_display`.
    pub defines_display: bool,
}

/// Instruments `source`.
pub fn instrumented(source: &str, kernel: &Kernel) -> Changed {
    let refused = |why: &str| {
        let end = if source.ends_with('\n') { "" } else { "\n" };
        let message = format!(
            "the kernel cannot instrument this cell: {why}. Rewrite the cell, or report this as an error \
             of the kernel."
        );
        Changed {
            compiled: format!("{source}{end}compile_error!({message:?});\n"),
            shown: source.to_owned(),
            defines_display: false,
        }
    };
    match syn::parse_file(source) {
        Ok(file) => changed(source, &file, kernel).unwrap_or_else(|why| refused(&why)),
        Err(error) => refused(&format!("its source does not parse ({error})")),
    }
}

/// Changes a source that evcxr only analyses and does not run. A source that does not parse stays unchanged.
pub fn analysed(source: &str, order: &DefinitionOrder, folder: &Path) -> String {
    let Ok(file) = syn::parse_file(source) else { return source.to_owned() };
    let mut edits = Edits::default();
    impls::replace(&file.items, order, &mut edits);
    for item in &file.items {
        if let Item::Fn(item) = item
            && item.sig.ident == ANALYSIS
        {
            let definitions = Definitions::new(&file.items, folder);
            for input in &item.sig.inputs {
                if let syn::FnArg::Typed(input) = input {
                    for (at, path) in qualified(&input.ty, &definitions) {
                        edits.replace(at, path);
                    }
                }
            }
            let mut returns = Returns { results: Vec::new() };
            returns.visit_block(&item.block);
            for (at, value) in returns.results {
                if value.is_none() {
                    edits.insert(at, " Ok(())");
                }
            }
        }
    }
    edits.apply(source)
}

fn changed(source: &str, file: &syn::File, kernel: &Kernel) -> Result<Changed, String> {
    let (mut edits, mut shown) = (Edits::default(), Edits::default());
    let items = impls::replace(&file.items, kernel.order, &mut edits);
    let (cell, number) =
        file.items.iter().rev().find_map(cell_function).ok_or("its source has no cell function")?;
    let parts = Parts::of(source, cell)?;
    let input = idents_of(file.to_token_stream()).contains("evcxr_input");

    match &parts.catch {
        Some(catch) => {
            let run = match kernel.interruptible {
                Some(name) => format!("::{name}"),
                None => "::kernel_cell::run_uninterruptible".to_owned(),
            };
            let call = format!("::kernel_cell::run_catching_panics({number}, {input}, {run}, ");
            shown.replace(catch.clone(), call.as_str());
            edits.replace(catch.clone(), call);
        }
        None => {
            edits.insert(
                parts.before_users,
                format!(" ::kernel_cell::begin_uncaught({number}, {input}); "),
            );
            edits.insert(parts.end, format!("::kernel_cell::end_uncaught({number}); "));
        }
    }
    if parts.catch.is_some() {
        edits.insert(parts.users_end, "::kernel_cell::mark_completed(); ");
    }
    returns(&parts, &mut edits);
    if parts.handles_errors {
        errors(&file.items, &mut edits)?;
    }

    let of_cells: Vec<&Item> = items.iter().filter(|item| !is_evcxrs(item)).collect();
    let definitions = Definitions::new(of_cells.iter().copied(), kernel.folder);
    let redefined = (kernel.redefined)(&definitions);
    variables(source, &parts, &definitions, redefined, &of_cells, &mut edits);
    if let Some(store) = file.items.iter().find(|item| is_module(item, "evcxr_internal_runtime")) {
        let range = edits::range(store);
        let text = &source[range.clone()];
        let unexpected = "its variable store is not that of evcxr 0.22";
        let lost = text.find(LOST).ok_or(unexpected)?;
        let lost = range.start + lost;
        edits.replace(lost..lost + LOST.len(), "::kernel_cell::dropped(name);");
        let check = text.find(CHECK).ok_or(unexpected)?;
        edits.insert(
            range.start + check + CHECK.len(),
            " if !self.variables.contains_key(name) { ::kernel_cell::missing(name); \
             println!(\"{VARIABLE_CHANGED_TYPE}{name}\"); return false; }",
        );
    }
    let displays = |part: &syn::TraitItem| matches!(part, syn::TraitItem::Fn(method) if method.sig.ident == "evcxr_display");
    let defines_display = of_cells
        .iter()
        .any(|item| matches!(item, Item::Trait(item) if item.items.iter().any(displays)));
    Ok(Changed { compiled: edits.apply(source), shown: shown.apply(source), defines_display })
}

/// The function of a cell, and the cell's number.
fn cell_function(item: &Item) -> Option<(&syn::ItemFn, u32)> {
    let Item::Fn(item) = item else { return None };
    let number = item.sig.ident.to_string().strip_prefix(FUNCTION)?.parse().ok()?;
    Some((item, number))
}

fn is_module(item: &Item, name: &str) -> bool {
    matches!(item, Item::Mod(module) if module.ident == name)
}

/// Whether evcxr generates the item for every cell.
fn is_evcxrs(item: &Item) -> bool {
    match item {
        Item::Mod(module) => module.ident == "evcxr_internal_runtime",
        Item::Struct(item) => item.ident == ERROR,
        Item::Impl(item) => is_path(&item.self_ty, ERROR),
        Item::Fn(_) => cell_function(item).is_some(),
        _ => false,
    }
}

fn is_path(kind: &syn::Type, name: &str) -> bool {
    matches!(kind, syn::Type::Path(path) if path.path.is_ident(name))
}

/// The parts of a cell's function, and their positions.
struct Parts<'a> {
    /// `std::panic::catch_unwind(`, unless panics are not caught.
    catch: Option<Range<usize>>,
    /// A position before the user's code, in a line of evcxr.
    before_users: usize,
    /// The user's statements, and those with which evcxr stores new variables.
    users: Vec<&'a Stmt>,
    /// The position after these statements.
    users_end: usize,
    /// Whether the user's code is in an inner function that returns a result.
    handles_errors: bool,
    /// The position before the function's last expression.
    end: usize,
    /// The statements that check, take and put back variables.
    check: Vec<&'a Stmt>,
    fetch: Vec<&'a Stmt>,
    put: Vec<&'a Stmt>,
}

impl<'a> Parts<'a> {
    fn of(source: &str, cell: &'a syn::ItemFn) -> Result<Parts<'a>, String> {
        let other = || "its source is not in the form that evcxr 0.22 generates".to_owned();
        let starts = |statement: &Stmt, text: &str| {
            source[edits::range(statement).start..].starts_with(text)
        };
        let block = &cell.block;
        let [statements @ .., last] = block.stmts.as_slice() else { return Err(other()) };
        let end = edits::range(last).start;
        let mut before_users = edits::of_span(block.brace_token.span.open()).end;
        let mut rest = statements;

        let (mut check, mut fetch) = (Vec::new(), Vec::new());
        if rest.first().is_some_and(|first| starts(first, "if evcxr_variable_store.is_null() {\n"))
        {
            let [_, _, Stmt::Expr(Expr::Block(checks), _), after @ ..] = rest else {
                return Err(other());
            };
            check = checks.block.stmts.iter().filter(|s| starts(s, "vars_ok &= ")).collect();
            rest = after;
            before_users = edits::range(checks).end;
            while let [first, after @ ..] = rest
                && stored(first, "take_variable").is_some()
            {
                before_users = edits::range(first).end;
                fetch.push(first);
                rest = after;
            }
        }

        let catch = rest.first().and_then(|first| {
            ["match ", "if "].iter().find_map(|word| {
                let call = format!("{word}std::panic::catch_unwind(");
                let lines = [
                    format!("{call}\n  std::panic::AssertUnwindSafe(||{{\n"),
                    format!("{call}||{{\n"),
                ];
                lines.iter().any(|line| starts(first, line)).then(|| {
                    let start = edits::range(first).start;
                    start + word.len()..start + call.len()
                })
            })
        });
        let mut put: Vec<&Stmt> = Vec::new();
        let mut users: Vec<&Stmt> = rest.iter().collect();
        let mut users_end = end;
        if catch.is_some() {
            let (first, after) = rest.split_first().ok_or_else(other)?;
            put = after.iter().collect();
            let Stmt::Expr(expression, _) = first else { return Err(other()) };
            let inside = closure(expression).ok_or_else(other)?;
            users = inside.stmts.iter().collect();
            users_end = edits::of_span(inside.brace_token.span.close()).start;
        } else {
            while let Some(last) = users.last()
                && stored(last, "put_variable").is_some()
            {
                put.push(users.pop().expect("there is a last one"));
            }
        }

        // The code is in an inner function if it has `?`, and in a block if it has `await`.
        let mut handles_errors = false;
        let wrapped = match users.as_slice() {
            [Stmt::Local(local)]
                if starts(
                    users[0],
                    &format!("let _ = (|| -> std::result::Result<(), {ERROR}> {{\n"),
                ) =>
            {
                handles_errors = true;
                local.init.as_ref().and_then(|init| closure(&init.expr))
            }
            [Stmt::Local(_), Stmt::Expr(runtime, _), ..]
                if starts(users[0], "let mut mutex = evcxr_variable_store") =>
            {
                let Expr::MethodCall(call) = runtime else { return Err(other()) };
                let Some(Expr::Async(block)) = call.args.first() else { return Err(other()) };
                handles_errors = block
                    .block
                    .stmts
                    .last()
                    .is_some_and(|last| starts(last, &format!("Ok::<(), {ERROR}>(())")));
                Some(&block.block)
            }
            _ => None,
        };
        if let Some(inside) = wrapped {
            users = inside.stmts.iter().collect();
            users_end = edits::of_span(inside.brace_token.span.close()).start;
            if handles_errors {
                users_end = edits::range(users.pop().ok_or_else(other)?).start;
            }
        }
        Ok(Parts { catch, before_users, users, users_end, handles_errors, end, check, fetch, put })
    }
}

/// The block of the innermost closure in evcxr's expression around the user's code.
fn closure(expression: &Expr) -> Option<&syn::Block> {
    match expression {
        Expr::Match(part) => closure(&part.expr),
        Expr::If(part) => closure(&part.cond),
        Expr::MethodCall(part) => closure(&part.receiver),
        Expr::Paren(part) => closure(&part.expr),
        Expr::Call(part) => match part.args.first() {
            Some(argument) => closure(argument),
            None => closure(&part.func),
        },
        Expr::Closure(part) => match &*part.body {
            Expr::Block(body) => Some(&body.block),
            _ => None,
        },
        _ => None,
    }
}

/// A call of evcxr's variable store.
struct Stored<'a> {
    name: String,
    kind: &'a syn::Type,
    call: &'a syn::ExprMethodCall,
}

/// The call in a statement of evcxr, if it calls `method` of the variable store.
fn stored<'a>(statement: &'a Stmt, method: &str) -> Option<Stored<'a>> {
    let expression = match statement {
        Stmt::Local(local) => &*local.init.as_ref()?.expr,
        Stmt::Expr(Expr::Binary(assignment), _) => &*assignment.right,
        Stmt::Expr(expression, _) => expression,
        _ => return None,
    };
    let Expr::MethodCall(call) = expression else { return None };
    let Expr::Path(receiver) = &*call.receiver else { return None };
    if call.method != method || !receiver.path.is_ident("evcxr_variable_store") {
        return None;
    }
    let Some(syn::GenericArgument::Type(kind)) = call.turbofish.as_ref()?.args.first() else {
        return None;
    };
    let Expr::Macro(name) = call.args.first()? else { return None };
    Some(Stored { name: plain(&name.mac.tokens.to_string()), kind, call })
}

/// Removes the statements that take and put back variables which the user's code does not mention. Adds
/// the hash of the definitions to variables with types of cells.
fn variables(
    source: &str,
    parts: &Parts,
    definitions: &Definitions,
    redefined: u64,
    items: &[&Item],
    edits: &mut Edits,
) {
    let mut lines: HashMap<String, Vec<&Stmt>> = HashMap::new();
    let new = parts.users.iter().rev().take_while(|s| stored(s, "put_variable").is_some());
    let groups = [
        ("check_variable", &parts.check),
        ("take_variable", &parts.fetch),
        ("put_variable", &parts.put),
    ];
    let all = groups
        .iter()
        .flat_map(|(method, statements)| statements.iter().map(move |s| (*method, *s)))
        .chain(new.map(|statement| ("put_variable", *statement)));
    let all: Vec<(&Stmt, Stored)> =
        all.filter_map(|(method, s)| Some((s, stored(s, method)?))).collect();
    for (statement, call) in &all {
        lines.entry(call.name.clone()).or_default().push(statement);
    }
    let mentioned = Mentioned::new(&parts.users, items);
    let put_back: HashSet<String> =
        parts.put.iter().filter_map(|s| Some(stored(s, "put_variable")?.name)).collect();
    let new_names: HashSet<&String> = all
        .iter()
        .filter(|(_, call)| call.call.method == "put_variable" && !put_back.contains(&call.name))
        .map(|(_, call)| &call.name)
        .collect();
    let replaced: HashSet<&str> = all
        .iter()
        .filter(|(_, call)| {
            call.call.method == "take_variable"
                && new_names.contains(&call.name)
                && is_replaced_unread(&call.name, &parts.users, items)
        })
        .map(|(_, call)| call.name.as_str())
        .collect();
    for (statement, call) in &all {
        let fetches = call.call.method != "put_variable";
        if fetches && replaced.contains(call.name.as_str()) {
            // Do not take the old value, because its type may be redefined.
            edits.replace(edits::range(*statement), "");
            continue;
        }
        // Only variables that are checked, taken and put back can stay in the store.
        if lines[&call.name].len() == 3 && !mentioned.has(&call.name) {
            edits.replace(edits::range(*statement), "");
            continue;
        }
        if !call.name.is_ascii() {
            // `stringify!` normalises such a name, and evcxr does not find the normalised one.
            let text = call.name.as_str();
            edits.replace(edits::range(&call.call.args[0]), format!("{text:?}"));
        }
        let range = edits::range(call.kind);
        let text = &source[range.clone()];
        for (at, path) in qualified(call.kind, definitions) {
            edits.replace(at, path);
        }
        let Some(hash) = definitions.hash(text, redefined) else { continue };
        edits.insert(range.start, "::kernel_cell::Versioned<");
        edits.insert(range.end, format!(", {hash:#x}>"));
        match call.call.method.to_string().as_str() {
            "take_variable" => edits.insert(edits::range(call.call).end, ".0"),
            "put_variable" => {
                if let Some(value) = call.call.args.iter().nth(1) {
                    let range = edits::range(value);
                    edits.insert(range.start, "::kernel_cell::Versioned(");
                    edits.insert(range.end, ")");
                }
            }
            _ => {}
        }
    }
}

/// Whether the cell declares the variable again without reading the old one before.
fn is_replaced_unread(name: &str, users: &[&Stmt], items: &[&Item]) -> bool {
    struct Binds<'a>(&'a str, bool);
    impl<'ast> Visit<'ast> for Binds<'_> {
        fn visit_pat_ident(&mut self, pattern: &'ast syn::PatIdent) {
            self.1 |= plain(&pattern.ident.to_string()) == self.0;
            visit::visit_pat_ident(self, pattern);
        }
    }
    for statement in users {
        if let Stmt::Local(local) = statement {
            let mut binds = Binds(name, false);
            binds.visit_pat(&local.pat);
            let read = local.init.as_ref().is_some_and(|init| {
                let mut mentioned = Mentioned::of_tokens(init.expr.to_token_stream(), items);
                if let Some((_, diverge)) = &init.diverge {
                    mentioned.all |=
                        Mentioned::of_tokens(diverge.to_token_stream(), items).has(name);
                }
                mentioned.has(name)
            });
            if binds.1 {
                return !read;
            }
        }
        if Mentioned::of_tokens(statement.to_token_stream(), items).has(name) {
            return false;
        }
    }
    false
}

/// Traits of the standard library that evcxr writes without their path.
const TRAITS: [(&str, &str); 26] = [
    ("Any", "::std::any::Any"),
    ("Error", "::std::error::Error"),
    ("Debug", "::std::fmt::Debug"),
    ("Display", "::std::fmt::Display"),
    ("LowerHex", "::std::fmt::LowerHex"),
    ("UpperHex", "::std::fmt::UpperHex"),
    ("Binary", "::std::fmt::Binary"),
    ("Octal", "::std::fmt::Octal"),
    ("Pointer", "::std::fmt::Pointer"),
    ("LowerExp", "::std::fmt::LowerExp"),
    ("UpperExp", "::std::fmt::UpperExp"),
    ("Read", "::std::io::Read"),
    ("Write", "::std::io::Write"),
    ("BufRead", "::std::io::BufRead"),
    ("Seek", "::std::io::Seek"),
    ("Hasher", "::std::hash::Hasher"),
    ("Wake", "::std::task::Wake"),
    ("Deref", "::std::ops::Deref"),
    ("DerefMut", "::std::ops::DerefMut"),
    ("Borrow", "::std::borrow::Borrow"),
    ("BorrowMut", "::std::borrow::BorrowMut"),
    ("Index", "::std::ops::Index"),
    ("RangeBounds", "::std::ops::RangeBounds"),
    ("UnwindSafe", "::std::panic::UnwindSafe"),
    ("RefUnwindSafe", "::std::panic::RefUnwindSafe"),
    ("IsTerminal", "::std::io::IsTerminal"),
];

/// Replacements for the parts of `kind` that do not compile: traits without a path that are not in scope,
/// and `!`.
fn qualified(kind: &syn::Type, definitions: &Definitions) -> Vec<(Range<usize>, String)> {
    struct Bounds<'a> {
        definitions: &'a Definitions,
        results: Vec<(Range<usize>, String)>,
    }
    impl<'ast> Visit<'ast> for Bounds<'_> {
        fn visit_type_never(&mut self, never: &'ast syn::TypeNever) {
            // `!` is unstable in types of variables. No value of it exists, so any type can replace it.
            self.results.push((edits::of_span(never.bang_token.span), "()".to_owned()));
        }

        fn visit_return_type(&mut self, output: &'ast syn::ReturnType) {
            if let syn::ReturnType::Type(_, kind) = output
                && !matches!(**kind, syn::Type::Never(_))
            {
                self.visit_type(kind);
            }
        }

        fn visit_trait_bound(&mut self, bound: &'ast syn::TraitBound) {
            visit::visit_trait_bound(self, bound);
            let Some(first) = bound.path.segments.first() else { return };
            if bound.path.segments.len() != 1 || bound.path.leading_colon.is_some() {
                return;
            }
            let name = plain(&first.ident.to_string());
            let standard = TRAITS.iter().find(|(short, _)| *short == name);
            let path = match self.definitions.path_to(&name) {
                Some(path) => path,
                None if self.definitions.has(&name) => return,
                None => match standard {
                    Some((_, path)) => (*path).to_owned(),
                    None => return,
                },
            };
            self.results.push((edits::of_span(first.ident.span()), path));
        }
    }
    let mut bounds = Bounds { definitions, results: Vec::new() };
    bounds.visit_type(kind);
    bounds.results
}

/// The names that the user's code mentions.
struct Mentioned {
    names: HashSet<String>,
    /// Whether the code may mention any other name, because a macro may generate names.
    all: bool,
}

/// Macros that mention only the names in their arguments.
const PLAIN_MACROS: [&str; 36] = [
    "assert",
    "assert_eq",
    "assert_ne",
    "cfg",
    "column",
    "compile_error",
    "concat",
    "dbg",
    "debug_assert",
    "debug_assert_eq",
    "debug_assert_ne",
    "df",
    "env",
    "eprint",
    "eprintln",
    "file",
    "format",
    "format_args",
    "include_bytes",
    "include_str",
    "line",
    "macro_rules",
    "matches",
    "module_path",
    "option_env",
    "panic",
    "print",
    "println",
    "stringify",
    "thread_local",
    "todo",
    "unimplemented",
    "unreachable",
    "vec",
    "write",
    "writeln",
];

impl Mentioned {
    fn new(users: &[&Stmt], items: &[&Item]) -> Mentioned {
        let mut tokens = TokenStream::new();
        for statement in users {
            statement.to_tokens(&mut tokens);
        }
        Mentioned::of_tokens(tokens, items)
    }

    fn of_tokens(tokens: TokenStream, items: &[&Item]) -> Mentioned {
        let macros: HashMap<String, &TokenStream> = items
            .iter()
            .filter_map(|item| match item {
                Item::Macro(item) => Some((item.ident.as_ref()?.to_string(), &item.mac.tokens)),
                _ => None,
            })
            .collect();
        let mut mentioned = Mentioned { names: HashSet::new(), all: false };
        mentioned.look(tokens, &macros, &mut HashSet::new());
        mentioned
    }

    fn look(
        &mut self,
        tokens: TokenStream,
        macros: &HashMap<String, &TokenStream>,
        visited: &mut HashSet<String>,
    ) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        for (at, token) in tokens.iter().enumerate() {
            match token {
                TokenTree::Group(group) => self.look(group.stream(), macros, visited),
                TokenTree::Ident(ident) => {
                    let name = ident.to_string();
                    if matches!(tokens.get(at + 1), Some(TokenTree::Punct(next)) if next.as_char() == '!')
                        && matches!(tokens.get(at + 2), Some(TokenTree::Group(_)))
                    {
                        self.call(&name, macros, visited);
                    }
                    self.names.insert(plain(&name));
                }
                TokenTree::Literal(literal) => {
                    // A format string can mention variables.
                    let text = match syn::parse_str::<syn::LitStr>(&literal.to_string()) {
                        Ok(text) => text.value(),
                        Err(_) => literal.to_string(),
                    };
                    let names = text.split(|c: char| !c.is_alphanumeric() && c != '_');
                    self.names.extend(names.map(str::to_owned));
                }
                TokenTree::Punct(_) => {}
            }
        }
    }

    /// Adds the names of a called macro. A macro that cells define mentions only the names in its body, and
    /// those of the macros that it calls.
    fn call(
        &mut self,
        name: &str,
        macros: &HashMap<String, &TokenStream>,
        visited: &mut HashSet<String>,
    ) {
        const KEYWORDS: [&str; 9] =
            ["return", "in", "if", "while", "match", "else", "break", "move", "yield"];
        if KEYWORDS.contains(&name) || !visited.insert(name.to_owned()) {
            return;
        }
        match macros.get(name) {
            Some(body) => self.look((*body).clone(), macros, visited),
            None => self.all |= !PLAIN_MACROS.contains(&name),
        }
    }

    fn has(&self, name: &str) -> bool {
        // Names with characters outside of ASCII have several spellings.
        self.all || !name.is_ascii() || self.names.contains(name)
    }
}

fn idents_of(tokens: TokenStream) -> HashSet<String> {
    crate::definitions::idents(tokens).into_iter().collect()
}

/// The `return` expressions at the level of the cell, outside of closures and items: the position after
/// the keyword, and the value.
struct Returns<'ast> {
    results: Vec<(usize, Option<&'ast Expr>)>,
}

impl<'ast> Visit<'ast> for Returns<'ast> {
    fn visit_expr_return(&mut self, part: &'ast syn::ExprReturn) {
        let word = edits::of_span(part.return_token.span).end;
        self.results.push((word, part.expr.as_deref()));
        visit::visit_expr_return(self, part);
    }

    // A `return` in these does not return from the cell.
    fn visit_expr_closure(&mut self, _: &'ast syn::ExprClosure) {}
    fn visit_expr_async(&mut self, _: &'ast syn::ExprAsync) {}
    fn visit_item(&mut self, _: &'ast Item) {}
}

/// Makes `return` end the cell, independent of the function that evcxr generates around it.
fn returns(parts: &Parts, edits: &mut Edits) {
    let mut values = Vec::new();
    let mut results = Returns { results: Vec::new() };
    for statement in &parts.users {
        results.visit_stmt(statement);
        arguments(statement, &mut values);
    }
    let mut all: Vec<(usize, Option<Range<usize>>, Returned)> = Vec::new();
    let mut note = |returns: &Returns| {
        for (word, value) in &returns.results {
            all.push((*word, value.map(edits::range), Returned::of(*value)));
        }
    };
    note(&results);
    for value in &values {
        let mut results = Returns { results: Vec::new() };
        results.visit_expr(value);
        note(&results);
    }
    for (word, value, kind) in all {
        let Some(value) = value else {
            if parts.handles_errors {
                edits.insert(word, " Ok(())");
            }
            continue;
        };
        match kind {
            Returned::Ok(function) if !parts.handles_errors => {
                edits.replace(function, "::std::mem::drop");
            }
            // The value has the return type of the inner function.
            Returned::Ok(_) | Returned::IntoError if parts.handles_errors => {}
            Returned::Question => {}
            // Without an inner function, `?` does not compile. evcxr then adds the inner function.
            Returned::IntoError => edits.replace(value, "Err::<(), ()>(())?"),
            Returned::Error(_) | Returned::Ok(_) | Returned::Other => {
                if let Returned::Error(function) = kind {
                    edits.replace(function, "Err::<(), _>");
                }
                let (open, close) = match parts.handles_errors {
                    true => (" Ok(", ")"),
                    false => (" ", ""),
                };
                edits.insert(
                    value.start,
                    format!("{open}::kernel_cell::IntoCellResult::into_cell_result("),
                );
                edits.insert(value.end, format!(")?{close}"));
            }
        }
    }
}

/// A value that a cell returns.
enum Returned {
    /// `Ok(…)`; the range of `Ok`.
    Ok(Range<usize>),
    /// `Err(…)`; the range of `Err`.
    Error(Range<usize>),
    /// `Err(….into())`, whose type depends on the inner function.
    IntoError,
    /// `Err(…)?`, where `?` already ends the function.
    Question,
    Other,
}

impl Returned {
    fn of(value: Option<&Expr>) -> Returned {
        let call = match value {
            Some(Expr::Call(call)) => call,
            Some(Expr::Try(part)) => {
                return match Returned::of(Some(&part.expr)) {
                    Returned::Error(_) | Returned::IntoError => Returned::Question,
                    _ => Returned::Other,
                };
            }
            Some(Expr::Paren(part)) => return Returned::of(Some(&part.expr)),
            _ => return Returned::Other,
        };
        let Expr::Path(function) = &*call.func else { return Returned::Other };
        if function.path.is_ident("Ok") {
            return Returned::Ok(edits::range(&*call.func));
        }
        if !function.path.is_ident("Err") {
            return Returned::Other;
        }
        match call.args.first() {
            Some(Expr::MethodCall(error)) if error.method == "into" && error.args.is_empty() => {
                Returned::IntoError
            }
            _ => Returned::Error(edits::range(&*call.func)),
        }
    }
}

/// Collects the arguments of macros in a statement that are expressions.
fn arguments(statement: &Stmt, results: &mut Vec<Expr>) {
    struct Macros<'a>(&'a mut Vec<Expr>);
    impl<'ast> Visit<'ast> for Macros<'_> {
        fn visit_macro(&mut self, call: &'ast syn::Macro) {
            let parser = syn::punctuated::Punctuated::<Expr, syn::Token![,]>::parse_terminated;
            if let Ok(parsed) = call.parse_body_with(parser) {
                for each in &parsed {
                    self.visit_expr(each);
                }
                self.0.extend(parsed);
            }
        }
        fn visit_expr_closure(&mut self, _: &'ast syn::ExprClosure) {}
        fn visit_expr_async(&mut self, _: &'ast syn::ExprAsync) {}
        fn visit_item(&mut self, _: &'ast Item) {}
    }
    Macros(results).visit_stmt(statement);
}

/// Makes evcxr's conversion of errors at a `?` report the error instead of printing it.
fn errors(items: &[Item], edits: &mut Edits) -> Result<(), String> {
    let missing = || "its conversion of errors is not that of evcxr 0.22".to_owned();
    let convert = items.iter().find_map(|item| match item {
        Item::Impl(item) if item.trait_.is_some() && is_path(&item.self_ty, ERROR) => {
            item.items.iter().find_map(|part| match part {
                syn::ImplItem::Fn(part) if part.sig.ident == "from" => Some(part),
                _ => None,
            })
        }
        _ => None,
    });
    let convert = convert.ok_or_else(missing)?;
    let Some(Stmt::Macro(print)) = convert.block.stmts.first() else { return Err(missing()) };
    if !print.mac.path.is_ident("eprintln") {
        return Err(missing());
    }
    edits.insert(edits::range(convert).start, "#[track_caller] ");
    let delimiter = print.mac.delimiter.span();
    let open = edits::of_span(delimiter.open());
    let close = edits::of_span(delimiter.close());
    let start = edits::range(&print.mac.path).start;
    edits.replace(start..open.end, "::kernel_cell::failed::<T>(&format!(");
    edits.insert(close.start, ")");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A cell as evcxr 0.22 generates it, with variables of earlier cells and new ones.
    struct Cell<'a> {
        items: &'a str,
        variables: &'a [(&'a str, &'a str)],
        new: &'a [(&'a str, &'a str)],
        code: &'a str,
        question: bool,
        caught: bool,
    }

    const CELL: Cell =
        Cell { items: "", variables: &[], new: &[], code: "", question: false, caught: true };

    impl Cell<'_> {
        fn source(&self) -> String {
            let each =
                |variables: &[(&str, &str)], line: &dyn Fn(&str, &str) -> String| -> String {
                    variables.iter().map(|(name, kind)| line(name, kind) + "\n").collect()
                };
            let put = |name: &str, kind: &str| {
                format!("evcxr_variable_store.put_variable::<{kind}>(stringify!({name}), {name});")
            };
            let mut code = format!("{}\n{}", self.code, each(self.new, &put));
            if self.question {
                code = format!(
                    "let _ = (|| -> std::result::Result<(), EvcxrUserCodeError> {{\n{code}Ok(())}})();\n"
                );
            }
            if self.caught {
                code = format!(
                    "match std::panic::catch_unwind(\n  std::panic::AssertUnwindSafe(||{{\n{code}}})) {{ \n  Ok(_) => {{}}\n  Err(_) => {{\n    println!(\"EVCXR_PANIC_NOTIFICATION\");\n}}}}\n"
                );
            }
            let errors = "
            struct EvcxrUserCodeError {}
            impl<T: std::fmt::Display> From<T> for EvcxrUserCodeError {
                fn from(error: T) -> Self {
                    eprintln!(\"{}\", error);
                    println!(\"{}\", evcxr_internal_runtime::USER_ERROR_OCCURRED);
                    EvcxrUserCodeError {}
                }
            }
";
            format!(
                "#![allow(unused_imports, unused_mut, dead_code)]\n{}\n{}mod evcxr_internal_runtime {{\n{CHECK}\n{LOST}\n true }}\n}}\n#[unsafe(no_mangle)]\npub extern \"C\" fn run_user_code_7(\nmut evcxr_variable_store: *mut evcxr_internal_runtime::VariableStore)\n  -> *mut evcxr_internal_runtime::VariableStore {{\nif evcxr_variable_store.is_null() {{\n  evcxr_variable_store = evcxr_internal_runtime::create_variable_store();\n}}\nlet evcxr_variable_store = unsafe {{&mut *evcxr_variable_store}};\n{{let mut vars_ok = true;\n{}if !vars_ok {{return evcxr_variable_store;}}}}\n{}{code}{}evcxr_variable_store\n}}\n",
                self.items,
                if self.question { errors } else { "" },
                each(self.variables, &|name, kind| format!(
                    "vars_ok &= evcxr_variable_store.check_variable::<{kind}>(stringify!({name}));"
                )),
                each(self.variables, &|name, kind| format!(
                    "let {name} = evcxr_variable_store.take_variable::<{kind}>(stringify!({name}));"
                )),
                each(self.variables, &put),
            )
            // The store's method has `self`, so it must be in an `impl` block.
            .replace("pub fn check_variable", "impl VariableStore { pub fn check_variable")
            .replace(" true }\n}\n", " true }\n}\n}\n")
        }

        /// The changed lines. Asserts that the number of lines stays the same.
        fn changed(&self) -> String {
            let source = self.source();
            let order = DefinitionOrder::read(Path::new("/no/such/file"), self.code);
            let kernel = Kernel {
                interruptible: None,
                order: &order,
                folder: Path::new(""),
                redefined: &|_| 0,
            };
            let changed = instrumented(&source, &kernel).compiled;
            assert_eq!(source.lines().count(), changed.lines().count(), "{changed}");
            syn::parse_file(&changed).expect("it still parses");
            let lines = source.lines().zip(changed.lines());
            lines.filter(|(a, b)| a != b).map(|(_, b)| format!("{b}\n")).collect()
        }
    }

    #[test]
    fn cell_reports_its_begin_and_end() {
        let result = Cell { code: "let n = 1;", ..CELL }.changed();
        let call = "match ::kernel_cell::run_catching_panics(7, false, ::kernel_cell::run_uninterruptible, \n";
        assert!(result.contains(call), "{result}");
        assert!(result.contains("::kernel_cell::mark_completed(); }))"), "{result}");
        let result = Cell { code: "let n = 1;", question: true, ..CELL }.changed();
        assert!(
            result.contains(call)
                && result.contains("::kernel_cell::mark_completed(); Ok(())})();")
        );
        assert!(result.contains("#[track_caller] fn from(error: T)"), "{result}");
        assert!(
            result.contains("::kernel_cell::failed::<T>(&format!(\"{}\", error));"),
            "{result}"
        );
    }

    #[test]
    fn cell_with_uncaught_panics_reports_its_begin_and_end() {
        for question in [false, true] {
            let variables = &[("a", "i32")];
            let result = Cell { variables, code: "let n = a;", question, caught: false, ..CELL };
            let result = result.changed();
            assert!(result.contains("; ::kernel_cell::begin_uncaught(7, false); "), "{result}");
            assert!(result.contains("::kernel_cell::end_uncaught(7); evcxr_variable_store"));
        }
    }

    #[test]
    fn cell_with_only_items_reports_its_begin_and_end() {
        let source = "struct A;\n#[unsafe(no_mangle)]\npub extern \"C\" fn run_user_code_3(\nmut x: *mut std::os::raw::c_void) -> *mut std::os::raw::c_void {x}\n";
        let kernel = Kernel {
            interruptible: None,
            order: &DefinitionOrder::default(),
            folder: Path::new(""),
            redefined: &|_| 0,
        };
        let result = instrumented(source, &kernel).compiled;
        assert!(
            result.contains(
                "{ ::kernel_cell::begin_uncaught(3, false); ::kernel_cell::end_uncaught(3); x}"
            ),
            "{result}"
        );
    }

    #[test]
    fn source_in_an_unexpected_form_does_not_compile() {
        let other = Cell { code: "let n = 1;", ..CELL }.source();
        let kernel = Kernel {
            interruptible: None,
            order: &DefinitionOrder::default(),
            folder: Path::new(""),
            redefined: &|_| 0,
        };
        for source in [
            "fn main() {}".to_owned(),
            "fn run_user_code_1() {}".to_owned(),
            "let".to_owned(),
            other.replace(LOST, "other();"),
            Cell { question: true, ..CELL }.source().replace("eprintln", "print"),
        ] {
            let result = instrumented(&source, &kernel).compiled;
            assert!(result.contains("compile_error!"), "{result}");
            assert!(result.starts_with(&source));
        }
    }

    #[test]
    fn return_ends_the_cell() {
        let returned = |code: &str, question: bool| Cell { code, question, ..CELL }.changed();
        for (code, without, with) in [
            ("return;", None, Some("return Ok(());")),
            ("if a { return }", None, Some("if a { return Ok(()) }")),
            ("let Some(a) = b else { return };", None, Some("else { return Ok(()) };")),
            ("println!(\"{}\", match a { _ => return });", None, Some("_ => return Ok(()) });")),
            ("return Ok(());", Some("return ::std::mem::drop(());"), None),
            ("return Err(\"a\".into());", Some("return Err::<(), ()>(())?;"), None),
            ("return Err(\"a\")?;", None, None),
            (
                "return Err(b);",
                Some("return  ::kernel_cell::IntoCellResult::into_cell_result(Err::<(), _>(b))?;"),
                Some(
                    "return  Ok(::kernel_cell::IntoCellResult::into_cell_result(Err::<(), _>(b))?);",
                ),
            ),
            (
                "return f();",
                Some("return  ::kernel_cell::IntoCellResult::into_cell_result(f())?;"),
                Some("return  Ok(::kernel_cell::IntoCellResult::into_cell_result(f())?);"),
            ),
            ("a(|| { return; });", None, None),
            ("fn f() { return; }", None, None),
            ("let f = async { return; };", None, None),
        ] {
            for (question, expected) in [(false, without), (true, with)] {
                let result = returned(code, question);
                let mut lines = result.lines().filter(|line| !line.contains("contains_key"));
                let line = lines.find(|line| line.contains("return"));
                match expected {
                    Some(expected) => {
                        assert!(line.is_some_and(|l| l.contains(expected)), "{result}")
                    }
                    None => assert_eq!(line, None, "{code}"),
                }
            }
        }
    }

    #[test]
    fn unmentioned_variables_stay_in_the_store() {
        let kept = |name: &str, code: &str| {
            let result = Cell { variables: &[(name, "i32")], code, ..CELL }.changed();
            !result.lines().any(str::is_empty)
        };
        for code in [
            "a + 1;",
            "f(&|| a);",
            "println!(\"{a}\");",
            "format!(\"{0:>a$}\", 1);",
            "include!(\"file.rs\");",
            "paste! { [<a b>] };",
            "vec![paste!(x)];",
        ] {
            assert!(kept("a", code), "{code}");
        }
        for code in ["b + 1;", "aa;", "println!(\"{ab}\");", "// a\nb;", "!(b);", "if !{ b } {}"] {
            assert!(!kept("a", code), "{code}");
        }
        assert!(kept("r#type", "r#type + 1;") && kept("r#use", "println!(\"{use}\");"));
        assert!(kept("e\u{301}", "b;"));
        // A macro of the cells mentions the names of the macros that it calls.
        let of_cells = |body: &str| {
            let items = format!("macro_rules! m {{ ($p:ident) => {{ {body} }} }}");
            let result = Cell { items: &items, variables: &[("a", "i32")], code: "m!(b);", ..CELL };
            !result.changed().lines().any(str::is_empty)
        };
        assert!(of_cells("paste!([<$p x>])") && !of_cells("$p + 1"));
    }

    #[test]
    fn redeclared_variable_is_not_taken() {
        let fetched = |code: &str| {
            let result = Cell { variables: &[("a", "i32")], new: &[("a", "R")], code, ..CELL };
            // evcxr does not put back the old variable.
            let source = result.source();
            let (head, tail) =
                source.rsplit_once("evcxr_variable_store.put_variable::<i32>").unwrap();
            let source = format!("{head}{}", tail.split_once('\n').unwrap().1);
            let kernel = Kernel {
                interruptible: None,
                order: &DefinitionOrder::default(),
                folder: Path::new(""),
                redefined: &|_| 0,
            };
            instrumented(&source, &kernel).compiled.contains("take_variable::<i32>")
        };
        assert!(!fetched("let a = f();") && !fetched("let b = 1; let (a, c) = f(b);"));
        assert!(fetched("let a = a + 1;") && fetched("let b = a; let a = 1;"));
    }

    #[test]
    fn variable_with_a_type_of_cells_is_stored_with_a_hash() {
        let result = Cell {
            items: "struct R(u8);",
            variables: &[("a", "Vec<R>"), ("b", "i32")],
            new: &[("c", "R")],
            code: "a; b;",
            ..CELL
        };
        let result = result.changed();
        assert_eq!(result.matches("::kernel_cell::Versioned<Vec<R>, 0x").count(), 3, "{result}");
        assert_eq!(result.matches(">(stringify!(a)).0;").count(), 1, "{result}");
        assert_eq!(result.matches(">(stringify!(a), ::kernel_cell::Versioned(a));").count(), 1);
        assert_eq!(result.matches(">(stringify!(c), ::kernel_cell::Versioned(c));").count(), 1);
        assert!(!result.contains("i32"), "{result}");
    }

    #[test]
    fn traits_get_their_paths() {
        for (kind, expected) in [
            ("Result<(), Box<dyn Any + Send>>", "Box<dyn ::std::any::Any + Send>"),
            ("Result<!, u8>", "Result<(), u8>"),
            ("Box<dyn Speak>", "Box<dyn crate::m::Speak>"),
        ] {
            let items = "mod m { pub trait Speak {} }";
            let result = Cell { items, variables: &[("a", kind)], code: "a;", ..CELL }.changed();
            assert_eq!(result.matches(expected).count(), 3, "{result}");
        }
        let (items, variables) = ("trait Any {}", &[("a", "Box<dyn Any>"), ("b", "fn() -> !")]);
        let result = Cell { items, variables, code: "a; b;", ..CELL }.changed();
        assert!(!result.contains("::std::any") && !result.contains("fn() -> ()"), "{result}");
    }

    #[test]
    fn later_impl_replaces_an_earlier_one() {
        let old = "impl S for A { fn s(&self) -> u8 { 1 } }";
        let left = |items: &str| {
            let order = DefinitionOrder::default();
            let source = Cell { items, code: "a;", ..CELL }.source();
            let kernel = Kernel {
                interruptible: None,
                order: &order,
                folder: Path::new(""),
                redefined: &|_| 0,
            };
            let result = instrumented(&source, &kernel).compiled;
            assert_eq!(result.lines().count(), source.lines().count());
            result
        };
        for new in [
            "impl S for A { fn s(&self) -> u8 { 2 } }",
            "impl S for A\n{ fn s(&self)\n -> u8 { 2 } }",
            "#[cfg(unix)] impl S for A { fn s(&self) -> u8 { 2 } }",
        ] {
            let result = left(&format!("{old}\n{new}"));
            assert!(!result.contains("{ 1 }") && result.contains("{ 2 }"), "{result}");
        }
        let result = left(
            "impl<T> S for W<T> { const N: u8 = 1; }\nimpl<U: Copy> S for W<U> where U: Eq { const N: u8 = 2; }",
        );
        assert!(!result.contains("u8 = 1") && result.contains("u8 = 2"), "{result}");
        let result = left("impl A { fn a() { 1 } fn b() { 1 } }\nimpl A { fn b() { 2 } }");
        assert!(result.contains("fn a() { 1 }") && !result.contains("fn b() { 1 }"), "{result}");
        for others in [
            "impl S for B { fn s(&self) -> u8 { 2 } }",
            "impl T for A { fn s(&self) -> u8 { 2 } }",
            "impl S for W<u8> { const N: u8 = 1; } impl S for W<u16> { const N: u8 = 1; }",
            "impl W<u8> { fn a() { 1 } } impl W<u16> { fn a() { 2 } }",
        ] {
            let result = left(&format!("{old}\n{others}"));
            assert!(result.contains(old) && result.contains(others), "{result}");
        }
    }

    #[test]
    fn impl_of_the_current_cell_replaces_one_after_it_in_the_source() {
        let (one, two) = ("impl S for A { const N: u8 = 1; }", "impl S for A { const N: u8 = 2; }");
        let file = std::env::temp_dir().join(format!("impls-{}", std::process::id()));
        let left = |cell: &str| {
            let order = DefinitionOrder::read(&file, cell);
            order.write(&file).unwrap();
            let source = Cell { items: &format!("{one}\n{two}"), code: "a;", ..CELL }.source();
            let kernel = Kernel {
                interruptible: None,
                order: &order,
                folder: Path::new(""),
                redefined: &|_| 0,
            };
            let result = instrumented(&source, &kernel).compiled;
            (result.contains("u8 = 1"), result.contains("u8 = 2"))
        };
        assert_eq!(left(one), (true, false));
        assert_eq!(left("a;"), (true, false));
        assert_eq!(left(two), (false, true));
        assert_eq!(left(one), (true, false));
        // The compiler reports two blocks in one cell.
        assert_eq!(left(&format!("{one}\n{two}")), (true, true));
        std::fs::remove_file(file).unwrap();
    }

    #[test]
    fn analysed_source_has_the_same_items() {
        let source = "impl S for A { const N: u8 = 1; }\nimpl S for A { const N: u8 = 2; }\nasync fn evcxr_analysis_wrapper(a: Box<dyn Any>,) -> Result<(), EvcxrUserCodeError> {\nreturn;\nOk(())\n}\n";
        let result = analysed(source, &DefinitionOrder::default(), Path::new(""));
        assert!(!result.contains("u8 = 1") && result.contains("return Ok(());"), "{result}");
        assert!(result.contains("a: Box<dyn ::std::any::Any>,"), "{result}");
        assert_eq!(analysed("fn (", &DefinitionOrder::default(), Path::new("")), "fn (");
    }
}
