//! The source that evcxr generates for a cell, changed before rustc reads it.
//!
//! Every source that runs has a function `run_user_code_N`. The changes are:
//!
//! - the cell reports that it begins and how it ends; what it calls is the crate `cell.rs`;
//! - `return` ends the cell;
//! - a variable whose type depends on definitions in cells is stored with a hash of these
//!   ([`definitions`](crate::definitions));
//! - variables that the cell does not mention stay in evcxr's store: a cell would otherwise be
//!   compiled with code for the type of every variable that there is;
//! - an `impl` block replaces one of an earlier cell ([`impls`](crate::impls)).
//!
//! All lines stay where they are, so that the compiler's messages are where evcxr looks for them. A
//! source that is not as evcxr 0.22 generates it is never run: it gets a `compile_error!`.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::path::Path;

use proc_macro2::{TokenStream, TokenTree};
use quote::ToTokens;
use syn::visit::{self, Visit};
use syn::{Expr, Item, Stmt};

use crate::definitions::{Definitions, plain};
use crate::edits::{self, Edits};
use crate::impls::{self, Order};

/// What the name of a cell's function begins with.
const FUNCTION: &str = "run_user_code_";
/// What cells that are only analysed have instead.
const ANALYSIS: &str = "evcxr_analysis_wrapper";
/// What evcxr calls its own type of errors.
const ERROR: &str = "EvcxrUserCodeError";
/// The message for a lost variable, and the function that it is in.
const LOST: &str = "eprintln!(\"The type of the variable {name} was redefined, so was lost.\",);";
const CHECK: &str = "pub fn check_variable<T: 'static>(&mut self, name: &str) -> bool {";

/// What is known of a kernel and its current cell.
pub struct Kernel<'a> {
    /// The path in Rust of the function that runs a cell so that it can be interrupted, if there is one.
    pub interruptible: Option<&'a str>,
    /// Which `impl` blocks are newer than others.
    pub order: &'a Order,
    /// The folder of the source.
    pub folder: &'a Path,
    /// How many types were redefined, given the types of this source.
    pub redefined: &'a dyn Fn(&Definitions) -> u64,
}

/// A source, changed.
pub struct Changed {
    /// What is compiled.
    pub compiled: String,
    /// The same with the user's lines as they are: where in the cell a line stands is looked up here.
    pub shown: String,
    /// Whether cells define a trait with a method `evcxr_display`.
    pub defines_display: bool,
}

/// The source that is compiled instead of `source`.
pub fn instrumented(source: &str, kernel: &Kernel) -> Changed {
    let refused = |why: &str| {
        let end = if source.ends_with('\n') { "" } else { "\n" };
        let message = format!(
            "the kernel cannot run this cell, because it cannot add the code that reports how the cell \
             ends: {why}. Rewrite the cell, or report this as an error of the kernel."
        );
        Changed {
            compiled: format!("{source}{end}compile_error!({message:?});\n"),
            shown: source.to_owned(),
            defines_display: false,
        }
    };
    match syn::parse_file(source) {
        Ok(file) => changed(source, &file, kernel).unwrap_or_else(|why| refused(&why)),
        Err(error) => refused(&format!("it does not parse ({error})")),
    }
}

/// A source that is only analysed, not run; unchanged if it does not parse.
pub fn analysed(source: &str, order: &Order, folder: &Path) -> String {
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
            let mut returns = Returns { found: Vec::new() };
            returns.visit_block(&item.block);
            for (at, value) in returns.found {
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
        file.items.iter().rev().find_map(cell_function).ok_or("it has no function")?;
    let parts = Parts::of(source, cell)?;
    let input = idents_of(file.to_token_stream()).contains("evcxr_input");

    match &parts.catch {
        Some(catch) => {
            let run = match kernel.interruptible {
                Some(name) => format!("::{name}"),
                None => "::kernel_cell::whole".to_owned(),
            };
            let call = format!("::kernel_cell::caught({number}, {input}, {run}, ");
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
        edits.insert(parts.users_end, "::kernel_cell::reached(); ");
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
        let lost = text.find(LOST).ok_or("its store of variables is another")?;
        let lost = range.start + lost;
        edits.replace(lost..lost + LOST.len(), "::kernel_cell::dropped(name);");
        let check = text.find(CHECK).ok_or("its store of variables is another")?;
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

/// Where the parts of a cell's function are.
struct Parts<'a> {
    /// `std::panic::catch_unwind(`, unless panics are not caught.
    catch: Option<Range<usize>>,
    /// Before the user's code, in one of evcxr's lines.
    before_users: usize,
    /// The user's statements, and evcxr's that store new variables.
    users: Vec<&'a Stmt>,
    /// Behind them.
    users_end: usize,
    /// Whether the user's code is in a function of its own, which returns a result.
    handles_errors: bool,
    /// Before the function's last expression.
    end: usize,
    /// The statements that check, fetch and put back variables.
    check: Vec<&'a Stmt>,
    fetch: Vec<&'a Stmt>,
    put: Vec<&'a Stmt>,
}

impl<'a> Parts<'a> {
    fn of(source: &str, cell: &'a syn::ItemFn) -> Result<Parts<'a>, String> {
        let other = || "evcxr has generated it in another way".to_owned();
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

        // An inner function for `?`, or a block for `await`.
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

/// The block of the innermost closure in evcxr's own expression around the user's code.
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

/// A call of evcxr's store of variables.
struct Stored<'a> {
    name: String,
    kind: &'a syn::Type,
    call: &'a syn::ExprMethodCall,
}

/// The call in a statement of evcxr's, if it is one of `method`.
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

/// Removes what fetches and puts back variables that the user's code does not mention, and stores
/// types of cells with a hash of their definitions.
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
            // The old value, which may be of a type that was redefined, is not fetched.
            edits.replace(edits::range(*statement), "");
            continue;
        }
        // Checked, fetched and put back, or evcxr treats it in another way.
        if lines[&call.name].len() == 3 && !mentioned.has(&call.name) {
            edits.replace(edits::range(*statement), "");
            continue;
        }
        if !call.name.is_ascii() {
            // The compiler writes such a name in its normal form, by which evcxr does not find it.
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

/// Whether the cell declares the variable again before it mentions the old one.
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

/// Traits of the standard library that evcxr names without their path.
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

/// The parts of `kind` that cannot be named so, each with a replacement: traits that evcxr names without
/// their path and that are not in scope, and `!`.
fn qualified(kind: &syn::Type, definitions: &Definitions) -> Vec<(Range<usize>, String)> {
    struct Bounds<'a> {
        definitions: &'a Definitions,
        found: Vec<(Range<usize>, String)>,
    }
    impl<'ast> Visit<'ast> for Bounds<'_> {
        fn visit_type_never(&mut self, never: &'ast syn::TypeNever) {
            // It is no type of a variable yet, but what has it can have any other.
            self.found.push((edits::of_span(never.bang_token.span), "()".to_owned()));
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
                None if self.definitions.names(&name) => return,
                None => match standard {
                    Some((_, path)) => (*path).to_owned(),
                    None => return,
                },
            };
            self.found.push((edits::of_span(first.ident.span()), path));
        }
    }
    let mut bounds = Bounds { definitions, found: Vec::new() };
    bounds.visit_type(kind);
    bounds.found
}

/// The names that the user's code mentions.
struct Mentioned {
    names: HashSet<String>,
    /// Whether it can mention any other, too: a macro may make names.
    all: bool,
}

/// Macros that mention no other names than those in their arguments.
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
        seen: &mut HashSet<String>,
    ) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        for (at, token) in tokens.iter().enumerate() {
            match token {
                TokenTree::Group(group) => self.look(group.stream(), macros, seen),
                TokenTree::Ident(ident) => {
                    let name = ident.to_string();
                    if matches!(tokens.get(at + 1), Some(TokenTree::Punct(next)) if next.as_char() == '!')
                        && matches!(tokens.get(at + 2), Some(TokenTree::Group(_)))
                    {
                        self.call(&name, macros, seen);
                    }
                    self.names.insert(plain(&name));
                }
                TokenTree::Literal(literal) => {
                    // A formatted text can name variables.
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

    /// A macro's call: one of the cells has its own names only, as far as it calls others like it.
    fn call(
        &mut self,
        name: &str,
        macros: &HashMap<String, &TokenStream>,
        seen: &mut HashSet<String>,
    ) {
        const WORDS: [&str; 9] =
            ["return", "in", "if", "while", "match", "else", "break", "move", "yield"];
        if WORDS.contains(&name) || !seen.insert(name.to_owned()) {
            return;
        }
        match macros.get(name) {
            Some(body) => self.look((*body).clone(), macros, seen),
            None => self.all |= !PLAIN_MACROS.contains(&name),
        }
    }

    fn has(&self, name: &str) -> bool {
        // A letter outside of ASCII can be written in several ways.
        self.all || !name.is_ascii() || self.names.contains(name)
    }
}

fn idents_of(tokens: TokenStream) -> HashSet<String> {
    crate::definitions::idents(tokens).into_iter().collect()
}

/// `return` at the level of the cell, which the function around it returns from; with the place
/// behind the word, and the value.
struct Returns<'ast> {
    found: Vec<(usize, Option<&'ast Expr>)>,
}

impl<'ast> Visit<'ast> for Returns<'ast> {
    fn visit_expr_return(&mut self, part: &'ast syn::ExprReturn) {
        let word = edits::of_span(part.return_token.span).end;
        self.found.push((word, part.expr.as_deref()));
        visit::visit_expr_return(self, part);
    }

    // These have their own.
    fn visit_expr_closure(&mut self, _: &'ast syn::ExprClosure) {}
    fn visit_expr_async(&mut self, _: &'ast syn::ExprAsync) {}
    fn visit_item(&mut self, _: &'ast Item) {}
}

/// Has `return` end the cell, whatever function evcxr puts around it.
fn returns(parts: &Parts, edits: &mut Edits) {
    let mut values = Vec::new();
    let mut found = Returns { found: Vec::new() };
    for statement in &parts.users {
        found.visit_stmt(statement);
        arguments(statement, &mut values);
    }
    let mut all: Vec<(usize, Option<Range<usize>>, Returned)> = Vec::new();
    let mut note = |returns: &Returns| {
        for (word, value) in &returns.found {
            all.push((*word, value.map(edits::range), Returned::of(*value)));
        }
    };
    note(&found);
    for value in &values {
        let mut found = Returns { found: Vec::new() };
        found.visit_expr(value);
        note(&found);
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
            // Of the type that the function around it returns.
            Returned::Ok(_) | Returned::IntoError if parts.handles_errors => {}
            Returned::Question => {}
            // Where `?` is not possible yet, evcxr sees by the compiler's error that it must be.
            Returned::IntoError => edits.replace(value, "Err::<(), ()>(())?"),
            Returned::Error(_) | Returned::Ok(_) | Returned::Other => {
                if let Returned::Error(function) = kind {
                    edits.replace(function, "Err::<(), _>");
                }
                let (open, close) = match parts.handles_errors {
                    true => (" Ok(", ")"),
                    false => (" ", ""),
                };
                edits.insert(value.start, format!("{open}::kernel_cell::Ending::ending("));
                edits.insert(value.end, format!(")?{close}"));
            }
        }
    }
}

/// A value that a cell returns.
enum Returned {
    /// `Ok(…)`; where `Ok` stands.
    Ok(Range<usize>),
    /// `Err(…)`; where `Err` stands.
    Error(Range<usize>),
    /// `Err(….into())`, whose type only the function around it decides.
    IntoError,
    /// `Err(…)?`, which leaves the function before it returns.
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

/// The arguments of macros in a statement, as far as they are expressions.
fn arguments(statement: &Stmt, found: &mut Vec<Expr>) {
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
    Macros(found).visit_stmt(statement);
}

/// Reports an error at a `?` instead of printing it.
fn errors(items: &[Item], edits: &mut Edits) -> Result<(), String> {
    let missing = || "its conversion of errors is another".to_owned();
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
            // The store has `self`, which a function outside of an `impl` block cannot have.
            .replace("pub fn check_variable", "impl VariableStore { pub fn check_variable")
            .replace(" true }\n}\n", " true }\n}\n}\n")
        }

        /// The lines that differ, after a check that no other moves.
        fn changed(&self) -> String {
            let source = self.source();
            let order = Order::read(Path::new("/no/such/file"), self.code);
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
    fn a_cell_reports_its_beginning_and_its_end() {
        let made = Cell { code: "let n = 1;", ..CELL }.changed();
        let call = "match ::kernel_cell::caught(7, false, ::kernel_cell::whole, \n";
        assert!(made.contains(call), "{made}");
        assert!(made.contains("::kernel_cell::reached(); }))"), "{made}");
        let made = Cell { code: "let n = 1;", question: true, ..CELL }.changed();
        assert!(made.contains(call) && made.contains("::kernel_cell::reached(); Ok(())})();"));
        assert!(made.contains("#[track_caller] fn from(error: T)"), "{made}");
        assert!(made.contains("::kernel_cell::failed::<T>(&format!(\"{}\", error));"), "{made}");
    }

    #[test]
    fn a_cell_whose_panics_are_not_caught_reports_too() {
        for question in [false, true] {
            let variables = &[("a", "i32")];
            let made = Cell { variables, code: "let n = a;", question, caught: false, ..CELL };
            let made = made.changed();
            assert!(made.contains("; ::kernel_cell::begin_uncaught(7, false); "), "{made}");
            assert!(made.contains("::kernel_cell::end_uncaught(7); evcxr_variable_store"));
        }
    }

    #[test]
    fn a_cell_that_only_defines_items_reports_too() {
        let source = "struct A;\n#[unsafe(no_mangle)]\npub extern \"C\" fn run_user_code_3(\nmut x: *mut std::os::raw::c_void) -> *mut std::os::raw::c_void {x}\n";
        let kernel = Kernel {
            interruptible: None,
            order: &Order::default(),
            folder: Path::new(""),
            redefined: &|_| 0,
        };
        let made = instrumented(source, &kernel).compiled;
        assert!(
            made.contains(
                "{ ::kernel_cell::begin_uncaught(3, false); ::kernel_cell::end_uncaught(3); x}"
            ),
            "{made}"
        );
    }

    #[test]
    fn a_source_that_is_not_evcxrs_does_not_compile() {
        let other = Cell { code: "let n = 1;", ..CELL }.source();
        let kernel = Kernel {
            interruptible: None,
            order: &Order::default(),
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
            let made = instrumented(&source, &kernel).compiled;
            assert!(made.contains("compile_error!"), "{made}");
            assert!(made.starts_with(&source));
        }
    }

    #[test]
    fn a_return_ends_the_cell() {
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
                Some("return  ::kernel_cell::Ending::ending(Err::<(), _>(b))?;"),
                Some("return  Ok(::kernel_cell::Ending::ending(Err::<(), _>(b))?);"),
            ),
            (
                "return f();",
                Some("return  ::kernel_cell::Ending::ending(f())?;"),
                Some("return  Ok(::kernel_cell::Ending::ending(f())?);"),
            ),
            ("a(|| { return; });", None, None),
            ("fn f() { return; }", None, None),
            ("let f = async { return; };", None, None),
        ] {
            for (question, expected) in [(false, without), (true, with)] {
                let made = returned(code, question);
                let mut lines = made.lines().filter(|line| !line.contains("contains_key"));
                let line = lines.find(|line| line.contains("return"));
                match expected {
                    Some(expected) => assert!(line.is_some_and(|l| l.contains(expected)), "{made}"),
                    None => assert_eq!(line, None, "{code}"),
                }
            }
        }
    }

    #[test]
    fn variables_that_are_not_mentioned_stay_in_the_store() {
        let kept = |name: &str, code: &str| {
            let made = Cell { variables: &[(name, "i32")], code, ..CELL }.changed();
            !made.lines().any(str::is_empty)
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
        // A macro of the cells mentions what it calls.
        let of_cells = |body: &str| {
            let items = format!("macro_rules! m {{ ($p:ident) => {{ {body} }} }}");
            let made = Cell { items: &items, variables: &[("a", "i32")], code: "m!(b);", ..CELL };
            !made.changed().lines().any(str::is_empty)
        };
        assert!(of_cells("paste!([<$p x>])") && !of_cells("$p + 1"));
    }

    #[test]
    fn a_variable_that_is_declared_again_is_not_fetched() {
        let fetched = |code: &str| {
            let made = Cell { variables: &[("a", "i32")], new: &[("a", "R")], code, ..CELL };
            // evcxr does not put back the old one.
            let source = made.source();
            let (head, tail) =
                source.rsplit_once("evcxr_variable_store.put_variable::<i32>").unwrap();
            let source = format!("{head}{}", tail.split_once('\n').unwrap().1);
            let kernel = Kernel {
                interruptible: None,
                order: &Order::default(),
                folder: Path::new(""),
                redefined: &|_| 0,
            };
            instrumented(&source, &kernel).compiled.contains("take_variable::<i32>")
        };
        assert!(!fetched("let a = f();") && !fetched("let b = 1; let (a, c) = f(b);"));
        assert!(fetched("let a = a + 1;") && fetched("let b = a; let a = 1;"));
    }

    #[test]
    fn a_type_of_cells_is_stored_with_a_hash() {
        let made = Cell {
            items: "struct R(u8);",
            variables: &[("a", "Vec<R>"), ("b", "i32")],
            new: &[("c", "R")],
            code: "a; b;",
            ..CELL
        };
        let made = made.changed();
        assert_eq!(made.matches("::kernel_cell::Versioned<Vec<R>, 0x").count(), 3, "{made}");
        assert_eq!(made.matches(">(stringify!(a)).0;").count(), 1, "{made}");
        assert_eq!(made.matches(">(stringify!(a), ::kernel_cell::Versioned(a));").count(), 1);
        assert_eq!(made.matches(">(stringify!(c), ::kernel_cell::Versioned(c));").count(), 1);
        assert!(!made.contains("i32"), "{made}");
    }

    #[test]
    fn traits_are_named_by_their_paths() {
        for (kind, expected) in [
            ("Result<(), Box<dyn Any + Send>>", "Box<dyn ::std::any::Any + Send>"),
            ("Result<!, u8>", "Result<(), u8>"),
            ("Box<dyn Speak>", "Box<dyn crate::m::Speak>"),
        ] {
            let items = "mod m { pub trait Speak {} }";
            let made = Cell { items, variables: &[("a", kind)], code: "a;", ..CELL }.changed();
            assert_eq!(made.matches(expected).count(), 3, "{made}");
        }
        let (items, variables) = ("trait Any {}", &[("a", "Box<dyn Any>"), ("b", "fn() -> !")]);
        let made = Cell { items, variables, code: "a; b;", ..CELL }.changed();
        assert!(!made.contains("::std::any") && !made.contains("fn() -> ()"), "{made}");
    }

    #[test]
    fn a_later_impl_replaces_an_earlier_one() {
        let old = "impl S for A { fn s(&self) -> u8 { 1 } }";
        let left = |items: &str| {
            let order = Order::default();
            let source = Cell { items, code: "a;", ..CELL }.source();
            let kernel = Kernel {
                interruptible: None,
                order: &order,
                folder: Path::new(""),
                redefined: &|_| 0,
            };
            let made = instrumented(&source, &kernel).compiled;
            assert_eq!(made.lines().count(), source.lines().count());
            made
        };
        for new in [
            "impl S for A { fn s(&self) -> u8 { 2 } }",
            "impl S for A\n{ fn s(&self)\n -> u8 { 2 } }",
            "#[cfg(unix)] impl S for A { fn s(&self) -> u8 { 2 } }",
        ] {
            let made = left(&format!("{old}\n{new}"));
            assert!(!made.contains("{ 1 }") && made.contains("{ 2 }"), "{made}");
        }
        let made = left(
            "impl<T> S for W<T> { const N: u8 = 1; }\nimpl<U: Copy> S for W<U> where U: Eq { const N: u8 = 2; }",
        );
        assert!(!made.contains("u8 = 1") && made.contains("u8 = 2"), "{made}");
        let made = left("impl A { fn a() { 1 } fn b() { 1 } }\nimpl A { fn b() { 2 } }");
        assert!(made.contains("fn a() { 1 }") && !made.contains("fn b() { 1 }"), "{made}");
        for others in [
            "impl S for B { fn s(&self) -> u8 { 2 } }",
            "impl T for A { fn s(&self) -> u8 { 2 } }",
            "impl S for W<u8> { const N: u8 = 1; } impl S for W<u16> { const N: u8 = 1; }",
            "impl W<u8> { fn a() { 1 } } impl W<u16> { fn a() { 2 } }",
        ] {
            let made = left(&format!("{old}\n{others}"));
            assert!(made.contains(old) && made.contains(others), "{made}");
        }
    }

    #[test]
    fn the_current_cells_impl_replaces_one_that_stands_behind_it() {
        let (one, two) = ("impl S for A { const N: u8 = 1; }", "impl S for A { const N: u8 = 2; }");
        let file = std::env::temp_dir().join(format!("impls-{}", std::process::id()));
        let left = |cell: &str| {
            let order = Order::read(&file, cell);
            order.write(&file).unwrap();
            let source = Cell { items: &format!("{one}\n{two}"), code: "a;", ..CELL }.source();
            let kernel = Kernel {
                interruptible: None,
                order: &order,
                folder: Path::new(""),
                redefined: &|_| 0,
            };
            let made = instrumented(&source, &kernel).compiled;
            (made.contains("u8 = 1"), made.contains("u8 = 2"))
        };
        assert_eq!(left(one), (true, false));
        assert_eq!(left("a;"), (true, false));
        assert_eq!(left(two), (false, true));
        assert_eq!(left(one), (true, false));
        // Both in one cell are for the compiler.
        assert_eq!(left(&format!("{one}\n{two}")), (true, true));
        std::fs::remove_file(file).unwrap();
    }

    #[test]
    fn what_is_analysed_has_the_same_items() {
        let source = "impl S for A { const N: u8 = 1; }\nimpl S for A { const N: u8 = 2; }\nasync fn evcxr_analysis_wrapper(a: Box<dyn Any>,) -> Result<(), EvcxrUserCodeError> {\nreturn;\nOk(())\n}\n";
        let made = analysed(source, &Order::default(), Path::new(""));
        assert!(!made.contains("u8 = 1") && made.contains("return Ok(());"), "{made}");
        assert!(made.contains("a: Box<dyn ::std::any::Any>,"), "{made}");
        assert_eq!(analysed("fn (", &Order::default(), Path::new("")), "fn (");
    }
}
