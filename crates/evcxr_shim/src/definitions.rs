//! Computes a hash of the definitions that determine the memory layout of a type.
//!
//! evcxr stores a variable with its `TypeId`, which depends on the type's name but not on its definition.
//! After a redefinition, a variable of the old type would be read as one of the new type. So the type of a
//! stored variable gets a hash of all definitions that determine its layout: fields, aliases, constants in
//! array lengths, and the methods of a trait object's trait. Comments, formatting, visibility and method
//! bodies are ignored.
//!
//! Name resolution is a superset of Rust's. If a name is not defined in its module, all definitions of that
//! name are included, because an import or a macro may refer to any of them.

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fs;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};

use proc_macro2::{TokenStream, TokenTree};
use quote::ToTokens;
use syn::visit::{self, Visit};
use syn::visit_mut::{self, VisitMut};

/// Traits whose objects may have any type.
const ERASED: [&str; 2] = ["Any", "Error"];
/// Maximum nesting of modules and included files.
const MAX_DEPTH: usize = 64;

/// All definitions in a cell's source.
#[derive(Default)]
pub struct Definitions {
    modules: Vec<Module>,
    all: Vec<Definition>,
    /// Constants and types in `impl` and `trait` blocks, by name.
    associated: HashMap<String, Vec<usize>>,
    /// Associated types in `impl` blocks of traits, by the name of the implementing type.
    of_type: HashMap<String, Vec<usize>>,
}

#[derive(Default)]
struct Module {
    names: HashMap<String, Vec<usize>>,
    children: HashMap<String, usize>,
    parent: usize,
}

struct Definition {
    module: usize,
    /// The canonical text; empty for an import.
    text: String,
    mentions: Mentions,
    /// Whether the item is a struct, an enum or a union.
    is_type: bool,
}

/// The names that an item or a type refers to.
#[derive(Default)]
struct Mentions {
    paths: Vec<Mention>,
    /// Names in the arguments of a macro, which can refer to anything.
    names: Vec<String>,
    files: Vec<PathBuf>,
    erased: bool,
}

struct Mention {
    segments: Vec<String>,
    /// Whether the path is an argument of a generic type, which may use its associated types.
    is_argument: bool,
}

impl Definitions {
    /// Collects the definitions in `items`. Paths of modules and included files are relative to `folder`.
    pub fn new<'a>(items: impl IntoIterator<Item = &'a syn::Item>, folder: &Path) -> Definitions {
        let mut definitions = Definitions::default();
        definitions.modules.push(Module::default());
        for item in items {
            definitions.add(item, 0, folder, 0);
        }
        definitions
    }

    fn define(&mut self, module: usize, name: String, definition: Definition) -> usize {
        self.all.push(definition);
        let at = self.all.len() - 1;
        self.modules[module].names.entry(name).or_default().push(at);
        at
    }

    fn add(&mut self, item: &syn::Item, module: usize, folder: &Path, depth: usize) {
        use syn::Item::*;
        let name = |ident: &syn::Ident| plain(&ident.to_string());
        let definition = |item: syn::Item| Definition {
            module,
            is_type: matches!(item, Struct(_) | Enum(_) | Union(_)),
            mentions: Mentions::of_item(&item, folder),
            text: canonical(item),
        };
        match item {
            Struct(syn::ItemStruct { ident, .. })
            | Enum(syn::ItemEnum { ident, .. })
            | Union(syn::ItemUnion { ident, .. })
            | Type(syn::ItemType { ident, .. })
            | Const(syn::ItemConst { ident, .. })
            | Static(syn::ItemStatic { ident, .. })
            | Fn(syn::ItemFn { sig: syn::Signature { ident, .. }, .. })
            | TraitAlias(syn::ItemTraitAlias { ident, .. })
            | ExternCrate(syn::ItemExternCrate { ident, .. }) => {
                self.define(module, name(ident), definition(item.clone()));
            }
            Trait(item) => {
                let at = self.define(module, name(&item.ident), definition(Trait(item.clone())));
                for part in &item.items {
                    let ident = match part {
                        syn::TraitItem::Const(part) => &part.ident,
                        syn::TraitItem::Type(part) => &part.ident,
                        _ => continue,
                    };
                    self.associated.entry(name(ident)).or_default().push(at);
                }
            }
            Impl(item) => self.add_impl(item, module, folder),
            Macro(item) => {
                if let Some(ident) = &item.ident {
                    self.define(module, name(ident), definition(Macro(item.clone())));
                } else if let Some(file) = included(&item.mac, folder) {
                    self.add_file(&file, module, depth);
                } else {
                    // The macro can define any name that has no other definition.
                    self.define(module, String::new(), definition(Macro(item.clone())));
                }
            }
            Mod(item) => {
                let child = self.modules.len();
                self.modules.push(Module { parent: module, ..Module::default() });
                self.modules[module].children.insert(name(&item.ident), child);
                match &item.content {
                    Some((_, items)) => {
                        for each in items {
                            self.add(each, child, folder, depth + 1);
                        }
                    }
                    None => self.add_file(&module_file(item, folder), child, depth),
                }
            }
            Use(item) => {
                let mut imported = Vec::new();
                imports(&item.tree, &mut Vec::new(), &mut imported);
                for (name, segments) in imported {
                    let mut mentions = Mentions::default();
                    mentions.paths.push(Mention { segments, is_argument: false });
                    let import =
                        Definition { module, text: String::new(), mentions, is_type: false };
                    self.define(module, name, import);
                }
            }
            ForeignMod(item) => {
                for part in &item.items {
                    let ident = match part {
                        syn::ForeignItem::Fn(part) => &part.sig.ident,
                        syn::ForeignItem::Static(part) => &part.ident,
                        syn::ForeignItem::Type(part) => &part.ident,
                        _ => continue,
                    };
                    self.define(module, name(ident), definition(ForeignMod(item.clone())));
                }
            }
            // Unstable syntax defines the name after one of these keywords.
            other => {
                const KEYWORDS: [&str; 7] =
                    ["struct", "enum", "union", "type", "const", "static", "macro"];
                let names = idents(other.to_token_stream());
                for pair in names.windows(2).filter(|pair| KEYWORDS.contains(&pair[0].as_str())) {
                    self.define(module, pair[1].clone(), definition(other.clone()));
                }
            }
        }
    }

    fn add_file(&mut self, file: &Path, module: usize, depth: usize) {
        let folder = file.parent().unwrap_or(Path::new(""));
        let parsed = fs::read_to_string(file).ok().and_then(|text| syn::parse_file(&text).ok());
        if let Some(parsed) = parsed.filter(|_| depth < MAX_DEPTH) {
            for item in &parsed.items {
                self.add(item, module, folder, depth + 1);
            }
        }
    }

    fn add_impl(&mut self, item: &syn::ItemImpl, module: usize, folder: &Path) {
        let of_type = match &*item.self_ty {
            syn::Type::Path(path) => path.path.segments.last().map(|last| last.ident.to_string()),
            _ => None,
        };
        for part in &item.items {
            let (ident, of_trait) = match part {
                syn::ImplItem::Const(part) => (&part.ident, false),
                syn::ImplItem::Type(part) => (&part.ident, item.trait_.is_some()),
                _ => continue,
            };
            // The text includes the block's head, because types may have constants of the same name.
            let only = syn::ItemImpl { items: vec![part.clone()], ..item.clone() };
            let mut mentions = Mentions::of(folder, |collector| collector.visit_impl_item(part));
            mentions.exclude_parameters(&item.generics);
            self.all.push(Definition {
                module,
                text: canonical(syn::Item::Impl(only)),
                mentions,
                is_type: false,
            });
            let at = self.all.len() - 1;
            self.associated.entry(plain(&ident.to_string())).or_default().push(at);
            if let Some(name) = of_type.as_ref().filter(|_| of_trait) {
                self.of_type.entry(plain(name)).or_default().push(at);
            }
        }
    }

    /// Returns a hash of all definitions that the type in `text` depends on; `None` if there are none here.
    ///
    /// A trait object such as `Box<dyn Any>` may have a value of any type. So its hash includes `redefined`,
    /// the number of redefined types.
    pub fn hash(&self, text: &str, redefined: u64) -> Option<u64> {
        let mentions = match syn::parse_str::<syn::Type>(text) {
            Ok(parsed) => Mentions::of(Path::new(""), |collector| collector.visit_type(&parsed)),
            Err(_) => Mentions { names: words(text), ..Mentions::default() },
        };
        self.hash_of(&mentions, 0, redefined)
    }

    /// Returns the path of each type that is defined here, with the hash of its dependencies.
    pub fn types(&self) -> BTreeMap<String, u64> {
        let mut types = BTreeMap::new();
        for (number, module) in self.modules.iter().enumerate() {
            for (name, defined) in &module.names {
                for definition in defined.iter().filter(|at| self.all[**at].is_type) {
                    let mut reached = BTreeSet::from([*definition]);
                    let erased = self.reach(*definition, &mut reached);
                    let hash = self.hash_reached(&reached, erased.then_some(0));
                    types.insert(format!("{}{name}", self.path(number)), hash);
                }
            }
        }
        types
    }

    fn path(&self, module: usize) -> String {
        let mut path = String::new();
        let mut at = module;
        while at != 0 {
            let parent = &self.modules[self.modules[at].parent];
            let name = parent.children.iter().find(|(_, child)| **child == at);
            path = format!("{}::{path}", name.map_or("", |(name, _)| name.as_str()));
            at = self.modules[at].parent;
        }
        path
    }

    fn hash_of(&self, mentions: &Mentions, module: usize, redefined: u64) -> Option<u64> {
        let mut reached = BTreeSet::new();
        let mut erased = mentions.erased;
        for at in self.resolved(mentions, module) {
            if reached.insert(at) {
                erased |= self.reach(at, &mut reached);
            }
        }
        let depends = reached.iter().any(|at| !self.all[*at].text.is_empty());
        (depends || erased).then(|| self.hash_reached(&reached, erased.then_some(redefined)))
    }

    /// Adds the dependencies of a definition to `reached`. Returns whether one is a trait object that may
    /// have any type.
    fn reach(&self, from: usize, reached: &mut BTreeSet<usize>) -> bool {
        let (mut open, mut erased) = (vec![from], false);
        while let Some(at) = open.pop() {
            let definition = &self.all[at];
            erased |= definition.mentions.erased;
            for next in self.resolved(&definition.mentions, definition.module) {
                if reached.insert(next) {
                    open.push(next);
                }
            }
        }
        erased
    }

    fn hash_reached(&self, reached: &BTreeSet<usize>, redefined: Option<u64>) -> u64 {
        let mut texts: Vec<String> = reached
            .iter()
            .map(|at| &self.all[*at])
            .filter(|definition| !definition.text.is_empty())
            .map(|definition| format!("{}{}", self.path(definition.module), definition.text))
            .collect();
        // The order of items in evcxr's source varies.
        texts.sort_unstable();
        let files: BTreeSet<&PathBuf> =
            reached.iter().flat_map(|at| &self.all[*at].mentions.files).collect();
        let mut hasher = DefaultHasher::new();
        texts.hash(&mut hasher);
        for file in files {
            fs::read(file).ok().hash(&mut hasher);
        }
        redefined.hash(&mut hasher);
        hasher.finish()
    }

    /// The definitions to which `mentions` in a module may refer.
    fn resolved(&self, mentions: &Mentions, module: usize) -> Vec<usize> {
        let mut results = Vec::new();
        for mention in &mentions.paths {
            self.resolve(&mention.segments, module, &mut results);
            if mention.is_argument
                && let Some(last) = mention.segments.last()
            {
                results.extend(self.of_type.get(last).into_iter().flatten());
            }
        }
        for name in &mentions.names {
            self.anywhere(name, &mut results);
            results.extend(self.associated.get(name).into_iter().flatten());
        }
        results
    }

    fn resolve(&self, segments: &[String], module: usize, results: &mut Vec<usize>) {
        let (mut module, mut rest) = (module, segments);
        let mut inside = false;
        while let [first, more @ ..] = rest {
            match first.as_str() {
                "crate" => (module, inside) = (0, true),
                "self" => inside = true,
                "super" => (module, inside) = (self.modules[module].parent, true),
                "Self" => break,
                name => {
                    let here = &self.modules[module];
                    // A path may start with a child module, or, in an import, with a module of the root.
                    let child = here
                        .children
                        .get(name)
                        .or_else(|| self.modules[0].children.get(name).filter(|_| !inside));
                    let Some(child) = child.filter(|_| !more.is_empty()) else { break };
                    (module, inside) = (*child, true);
                }
            }
            rest = more;
        }
        let [first, more @ ..] = rest else { return };
        if first != "Self" {
            match self.modules[module].names.get(first) {
                Some(here) => results.extend(here),
                None => {
                    let before = results.len();
                    self.anywhere(first, results);
                    // The path leads to another crate.
                    if results.len() == before
                        && !inside
                        && !more.is_empty()
                        && !self.generic(first)
                    {
                        return;
                    }
                }
            }
        }
        for name in more {
            results.extend(self.associated.get(name).into_iter().flatten());
            // The first segment may be an imported module.
            self.anywhere(name, results);
        }
    }

    /// Whether a name may be a type parameter, whose associated items may belong to any type.
    fn generic(&self, name: &str) -> bool {
        name.chars().next().is_some_and(char::is_uppercase)
    }

    fn anywhere(&self, name: &str, results: &mut Vec<usize>) {
        let before = results.len();
        for module in &self.modules {
            results.extend(module.names.get(name).into_iter().flatten());
        }
        if results.len() == before {
            // A macro call in a module may define the name.
            for module in self.modules.iter().skip(1) {
                for at in module.names.get("").into_iter().flatten() {
                    if self.all[*at].mentions.names.iter().any(|each| each == name) {
                        results.push(*at);
                    }
                }
            }
        }
    }

    /// The path of `name` from the root, if only one module, other than the root, defines it.
    pub fn path_to(&self, name: &str) -> Option<String> {
        if self.modules[0].names.contains_key(name) {
            return None;
        }
        let mut modules =
            (1..self.modules.len()).filter(|at| self.modules[*at].names.contains_key(name));
        let (module, None) = (modules.next()?, modules.next()) else { return None };
        Some(format!("crate::{}{name}", self.path(module)))
    }

    /// Whether cells define or import `name` in the root.
    pub fn has(&self, name: &str) -> bool {
        self.modules[0].names.contains_key(name)
    }
}

impl Mentions {
    fn of_item(item: &syn::Item, folder: &Path) -> Mentions {
        let mut mentions = Mentions::of(folder, |collector| collector.visit_item(item));
        let generics = match item {
            syn::Item::Struct(item) => &item.generics,
            syn::Item::Enum(item) => &item.generics,
            syn::Item::Union(item) => &item.generics,
            syn::Item::Type(item) => &item.generics,
            syn::Item::Trait(item) => &item.generics,
            syn::Item::Fn(item) => &item.sig.generics,
            syn::Item::Verbatim(tokens) => {
                mentions.names.extend(idents(tokens.clone()));
                return mentions;
            }
            _ => return mentions,
        };
        mentions.exclude_parameters(generics);
        mentions
    }

    fn of(folder: &Path, visit: impl FnOnce(&mut Collector)) -> Mentions {
        let mut collector = Collector { mentions: Mentions::default(), folder, arguments: 0 };
        visit(&mut collector);
        collector.mentions
    }

    /// Replaces the names of type parameters with `Self`, which is not resolved.
    fn exclude_parameters(&mut self, generics: &syn::Generics) {
        let names: HashSet<String> = generics
            .params
            .iter()
            .filter_map(|param| match param {
                syn::GenericParam::Type(param) => Some(param.ident.to_string()),
                syn::GenericParam::Const(param) => Some(param.ident.to_string()),
                syn::GenericParam::Lifetime(_) => None,
            })
            .collect();
        for mention in &mut self.paths {
            if mention.segments.first().is_some_and(|first| names.contains(first)) {
                mention.segments[0] = "Self".to_owned();
            }
        }
    }
}

/// A visitor that collects mentions.
struct Collector<'a> {
    mentions: Mentions,
    folder: &'a Path,
    arguments: usize,
}

impl<'ast> Visit<'ast> for Collector<'_> {
    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments: Vec<String> =
            path.segments.iter().map(|segment| plain(&segment.ident.to_string())).collect();
        self.mentions.erased |= segments.last().is_some_and(|last| ERASED.contains(&last.as_str()));
        self.mentions.paths.push(Mention { segments, is_argument: self.arguments > 0 });
        visit::visit_path(self, path);
    }

    fn visit_qself(&mut self, qself: &'ast syn::QSelf) {
        // The path after it names an associated item of the type.
        self.arguments += 1;
        visit::visit_qself(self, qself);
        self.arguments -= 1;
    }

    fn visit_angle_bracketed_generic_arguments(
        &mut self,
        arguments: &'ast syn::AngleBracketedGenericArguments,
    ) {
        self.arguments += 1;
        visit::visit_angle_bracketed_generic_arguments(self, arguments);
        self.arguments -= 1;
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        self.visit_path(&call.path);
        match included(call, self.folder) {
            Some(file) => self.mentions.files.push(file),
            None => self.mentions.names.extend(idents(call.tokens.clone())),
        }
    }

    fn visit_type(&mut self, part: &'ast syn::Type) {
        if let syn::Type::Verbatim(tokens) = part {
            self.mentions.names.extend(idents(tokens.clone()));
        }
        visit::visit_type(self, part);
    }

    fn visit_expr(&mut self, part: &'ast syn::Expr) {
        if let syn::Expr::Verbatim(tokens) = part {
            self.mentions.names.extend(idents(tokens.clone()));
        }
        visit::visit_expr(self, part);
    }

    fn visit_trait_item_fn(&mut self, method: &'ast syn::TraitItemFn) {
        self.visit_signature(&method.sig);
    }

    fn visit_attribute(&mut self, _: &'ast syn::Attribute) {}
}

/// The text of an item, without the parts that do not change the layout of its values.
fn canonical(mut item: syn::Item) -> String {
    Canonical.visit_item_mut(&mut item);
    let mut text = String::new();
    write_tokens(item.to_token_stream(), &mut text);
    text
}

fn write_tokens(tokens: TokenStream, text: &mut String) {
    for token in tokens {
        match token {
            TokenTree::Group(group) => {
                let (open, close) = match group.delimiter() {
                    proc_macro2::Delimiter::Parenthesis => ("(", ")"),
                    proc_macro2::Delimiter::Brace => ("{", "}"),
                    proc_macro2::Delimiter::Bracket => ("[", "]"),
                    proc_macro2::Delimiter::None => ("", ""),
                };
                text.push_str(open);
                write_tokens(group.stream(), text);
                text.push_str(close);
            }
            other => {
                text.push_str(&other.to_string());
                text.push(' ');
            }
        }
    }
}

/// A visitor that removes the parts of an item that do not change the layout.
struct Canonical;

impl Canonical {
    fn is_relevant(attribute: &syn::Attribute) -> bool {
        let path = attribute.path();
        let is = |names: &[&str]| names.iter().any(|name| path.is_ident(name));
        if path.is_ident("derive") {
            const STANDARD: [&str; 9] = [
                "Debug",
                "Clone",
                "Copy",
                "PartialEq",
                "Eq",
                "PartialOrd",
                "Ord",
                "Hash",
                "Default",
            ];
            return idents(attribute.meta.to_token_stream())
                .iter()
                .any(|name| name != "derive" && !STANDARD.contains(&name.as_str()));
        }
        !is(&[
            "doc",
            "allow",
            "warn",
            "deny",
            "forbid",
            "expect",
            "must_use",
            "inline",
            "deprecated",
            "non_exhaustive",
            "default",
            "cold",
            "track_caller",
        ])
    }
}

impl VisitMut for Canonical {
    fn visit_attributes_mut(&mut self, attributes: &mut Vec<syn::Attribute>) {
        attributes.retain(Canonical::is_relevant);
    }

    fn visit_visibility_mut(&mut self, visibility: &mut syn::Visibility) {
        *visibility = syn::Visibility::Inherited;
    }

    fn visit_trait_item_fn_mut(&mut self, method: &mut syn::TraitItemFn) {
        method.default = None;
        method.semi_token = Some(Default::default());
        visit_mut::visit_trait_item_fn_mut(self, method);
    }

    fn visit_signature_mut(&mut self, signature: &mut syn::Signature) {
        signature.inputs.pop_punct();
        for input in &mut signature.inputs {
            if let syn::FnArg::Typed(input) = input
                && let syn::Pat::Ident(_) = &*input.pat
            {
                *input.pat = syn::parse_quote!(_);
            }
        }
        visit_mut::visit_signature_mut(self, signature);
    }

    fn visit_fields_named_mut(&mut self, fields: &mut syn::FieldsNamed) {
        fields.named.pop_punct();
        visit_mut::visit_fields_named_mut(self, fields);
    }

    fn visit_fields_unnamed_mut(&mut self, fields: &mut syn::FieldsUnnamed) {
        fields.unnamed.pop_punct();
        visit_mut::visit_fields_unnamed_mut(self, fields);
    }

    fn visit_item_enum_mut(&mut self, item: &mut syn::ItemEnum) {
        item.variants.pop_punct();
        visit_mut::visit_item_enum_mut(self, item);
    }

    fn visit_generics_mut(&mut self, generics: &mut syn::Generics) {
        generics.params.pop_punct();
        visit_mut::visit_generics_mut(self, generics);
    }

    fn visit_where_clause_mut(&mut self, clause: &mut syn::WhereClause) {
        clause.predicates.pop_punct();
        visit_mut::visit_where_clause_mut(self, clause);
    }

    fn visit_angle_bracketed_generic_arguments_mut(
        &mut self,
        arguments: &mut syn::AngleBracketedGenericArguments,
    ) {
        arguments.args.pop_punct();
        visit_mut::visit_angle_bracketed_generic_arguments_mut(self, arguments);
    }

    fn visit_parenthesized_generic_arguments_mut(
        &mut self,
        arguments: &mut syn::ParenthesizedGenericArguments,
    ) {
        arguments.inputs.pop_punct();
        visit_mut::visit_parenthesized_generic_arguments_mut(self, arguments);
    }

    fn visit_type_bare_fn_mut(&mut self, function: &mut syn::TypeBareFn) {
        function.inputs.pop_punct();
        for input in &mut function.inputs {
            input.name = None;
        }
        visit_mut::visit_type_bare_fn_mut(self, function);
    }

    fn visit_type_tuple_mut(&mut self, tuple: &mut syn::TypeTuple) {
        if tuple.elems.len() > 1 {
            tuple.elems.pop_punct();
        }
        visit_mut::visit_type_tuple_mut(self, tuple);
    }
}

/// A name without `r#`.
pub fn plain(name: &str) -> String {
    name.strip_prefix("r#").unwrap_or(name).to_owned()
}

fn words(text: &str) -> Vec<String> {
    text.split(|c: char| !c.is_alphanumeric() && c != '_').map(str::to_owned).collect()
}

/// All names in `tokens`.
pub fn idents(tokens: TokenStream) -> Vec<String> {
    let mut results = Vec::new();
    for token in tokens {
        match token {
            TokenTree::Group(group) => results.extend(idents(group.stream())),
            TokenTree::Ident(ident) => results.push(plain(&ident.to_string())),
            _ => {}
        }
    }
    results
}

/// The file that `include!`, `include_str!` or `include_bytes!` includes.
fn included(call: &syn::Macro, folder: &Path) -> Option<PathBuf> {
    let name = call.path.segments.last()?.ident.to_string();
    if !["include", "include_str", "include_bytes"].contains(&name.as_str()) {
        return None;
    }
    // Evaluates arguments such as `concat!(env!("HOME"), "/file.rs")`.
    fn text(tokens: TokenStream) -> Option<String> {
        if let Ok(literal) = syn::parse2::<syn::LitStr>(tokens.clone()) {
            return Some(literal.value());
        }
        let call: syn::Macro = syn::parse2(tokens).ok()?;
        if call.path.is_ident("env") {
            return std::env::var(syn::parse2::<syn::LitStr>(call.tokens).ok()?.value()).ok();
        }
        let parts = call.parse_body_with(
            syn::punctuated::Punctuated::<syn::Expr, syn::Token![,]>::parse_terminated,
        );
        let is_concat = call.path.is_ident("concat");
        parts.ok()?.iter().filter(|_| is_concat).map(|part| text(part.to_token_stream())).collect()
    }
    Some(folder.join(text(call.tokens.clone())?))
}

/// The file of `mod name;`.
fn module_file(item: &syn::ItemMod, folder: &Path) -> PathBuf {
    for attribute in &item.attrs {
        if let syn::Meta::NameValue(pair) = &attribute.meta
            && pair.path.is_ident("path")
            && let syn::Expr::Lit(syn::ExprLit { lit: syn::Lit::Str(path), .. }) = &pair.value
        {
            return folder.join(path.value());
        }
    }
    let name = plain(&item.ident.to_string());
    let file = folder.join(format!("{name}.rs"));
    if file.exists() { file } else { folder.join(name).join("mod.rs") }
}

/// Collects the names that a `use` imports, each with its path.
fn imports(tree: &syn::UseTree, path: &mut Vec<String>, results: &mut Vec<(String, Vec<String>)>) {
    let whole = |path: &[String], name: &str| [path, &[name.to_owned()]].concat();
    match tree {
        syn::UseTree::Path(part) => {
            path.push(plain(&part.ident.to_string()));
            imports(&part.tree, path, results);
            path.pop();
        }
        syn::UseTree::Name(part) => {
            let name = plain(&part.ident.to_string());
            if name == "self" {
                results.push((path.last().cloned().unwrap_or_default(), path.clone()));
            } else {
                results.push((name.clone(), whole(path, &name)));
            }
        }
        syn::UseTree::Rename(part) => {
            let name = plain(&part.ident.to_string());
            results.push((plain(&part.rename.to_string()), whole(path, &name)));
        }
        // `resolve` finds names of a glob import in all modules.
        syn::UseTree::Glob(_) => {}
        syn::UseTree::Group(group) => {
            for each in &group.items {
                imports(each, path, results);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The hash of the type `kind` with the definitions `items`.
    fn hash(items: &str, kind: &str) -> Option<u64> {
        let file = syn::parse_file(items).expect("the items parse");
        Definitions::new(&file.items, Path::new("")).hash(kind, 0)
    }

    fn assert_same(kind: &str, one: &str, other: &str) {
        assert!(hash(one, kind).is_some(), "{kind} in {one}");
        assert_eq!(hash(one, kind), hash(other, kind), "{kind}: {one} and {other}");
    }

    fn assert_differs(kind: &str, one: &str, other: &str) {
        assert_ne!(hash(one, kind), hash(other, kind), "{kind}: {one} and {other}");
    }

    #[test]
    fn change_without_effect_on_the_layout_keeps_the_hash() {
        let plain = "struct R { v: i64 }";
        for other in [
            "pub struct R { v: i64 }",
            "pub(crate) struct R { pub v: i64, }",
            "/// R\nstruct R {\n // c\n pub v: i64,\n}\nimpl R { fn n(&self) -> i64 { 3 } }",
            "#[derive(Debug, Clone)]\n#[must_use]\nstruct R { /* c */ v: i64 }",
            "struct R { v: i64 }\nimpl R { const N: usize = 3; }\nfn v() {}",
            "struct R { v: i64 }\nimpl Iterator for R { type Item = i64; fn next(&mut self) -> Option<i64> { None } }",
            "struct Other; struct R { v: i64 } mod m { struct Other; }",
        ] {
            for kind in ["R", "Vec<Vec<R>>", "fn(R) -> u8", "&'static [R; 3]"] {
                if kind.starts_with("Vec") && other.contains("Iterator") {
                    continue;
                }
                assert_same(kind, plain, other);
            }
        }
        assert_same(
            "Box<dyn T>",
            "trait T { fn f(&self) -> i64 { 1 } }",
            "trait T { fn f(&self) -> i64 { 2 } }",
        );
        assert_same("T", "struct T((i64,), u8);", "struct T((i64,), u8,);");
        let (one, other) = ("mod a { pub struct P(u8); }", "mod b { pub struct P(u8); }");
        let edited = "mod b { pub struct P(u16); }";
        assert_same("a::P", &format!("{one}{other}"), &format!("{one}{edited}"));
        assert_differs("b::P", &format!("{one}{other}"), &format!("{one}{edited}"));
    }

    #[test]
    fn change_of_the_layout_changes_the_hash() {
        for (kind, one, other) in [
            ("R", "struct R { v: i64 }", "struct R { v: f64 }"),
            ("R", "struct R { v: i64, w: i64 }", "struct R { w: i64, v: i64 }"),
            ("R", "struct R(u8, u16);", "#[repr(C)] struct R(u8, u16);"),
            ("Vec<Option<R>>", "enum R { A(u8), B }", "enum R { A(u16), B }"),
            ("R", "union R { a: u8 }", "union R { a: u16 }"),
            ("(u8, [W; 3])", "struct W(R); struct R(u8);", "struct W(R); struct R(u16);"),
            ("G<R>", "struct G<T>(T); struct R(u8);", "struct G<T>(T); struct R(u16);"),
            ("G<u8>", "struct G<T>(T);", "struct G<T>(T, T);"),
            ("Box<dyn T>", "trait T { fn a(&self); }", "trait T { fn b(&self); fn a(&self); }"),
            ("Box<dyn T>", "trait T: S {} trait S { fn a(&self); }", "trait T: S {} trait S {}"),
            (
                "Box<dyn T>",
                "trait T { fn a(&self) -> R; } struct R(u8);",
                "trait T { fn a(&self) -> R; } struct R(u16);",
            ),
            ("Box<dyn Fn(R) -> u8>", "struct R(u8);", "struct R(u16);"),
            ("fn(&R)", "struct R(u8);", "struct R(u16);"),
            ("R", "type A = u8; struct R(A);", "type A = u16; struct R(A);"),
            ("A", "type A = Vec<R>; struct R(u8);", "type A = Vec<R>; struct R(u16);"),
            (
                "m::R",
                "mod m { pub struct R(super::S); } struct S(u8);",
                "mod m { pub struct R(super::S); } struct S(u16);",
            ),
            (
                "R",
                "use m::S as R; mod m { pub struct S(u8); }",
                "use m::S as R; mod m { pub struct S(u16); }",
            ),
            (
                "R",
                "use m::*; mod m { pub struct R(u8); }",
                "use m::*; mod m { pub struct R(u16); }",
            ),
            (
                "R",
                "const N: usize = 2; struct R([u8; N]);",
                "const N: usize = 3; struct R([u8; N]);",
            ),
            (
                "R",
                "const N: usize = f(); const fn f() -> usize { 2 } struct R([u8; N]);",
                "const N: usize = f(); const fn f() -> usize { 3 } struct R([u8; N]);",
            ),
            (
                "R",
                "struct X; impl X { const N: usize = 2; } struct R([u8; X::N]);",
                "struct X; impl X { const N: usize = 3; } struct R([u8; X::N]);",
            ),
            (
                "R",
                "trait H { type O; } struct X; impl H for X { type O = u8; } struct R(<X as H>::O);",
                "trait H { type O; } struct X; impl H for X { type O = u16; } struct R(<X as H>::O);",
            ),
            (
                "W<X>",
                "trait H { type O; } struct X; impl H for X { type O = u8; } struct W<T: H>(T::O);",
                "trait H { type O; } struct X; impl H for X { type O = u16; } struct W<T: H>(T::O);",
            ),
            (
                "std::iter::Peekable<X>",
                "struct X; impl Iterator for X { type Item = u8; }",
                "struct X; impl Iterator for X { type Item = u16; }",
            ),
            (
                "R",
                "macro_rules! t { () => { u8 } } struct R(t!());",
                "macro_rules! t { () => { u16 } } struct R(t!());",
            ),
            (
                "m::R",
                "macro_rules! d { ($n:ident) => { pub struct $n(u8); } } mod m { d!(R); }",
                "macro_rules! d { ($n:ident) => { pub struct $n(u16); } } mod m { d!(R); }",
            ),
            ("r#R", "struct R(u8);", "struct R(u16);"),
        ] {
            assert_differs(kind, one, other);
            assert!(hash(one, kind).is_some(), "{kind} in {one}");
        }
    }

    #[test]
    fn types_of_other_crates_have_no_hash() {
        let items = "struct R(u8); unsafe extern \"C\" { fn fork() -> i32; } use std::vec::Vec; fn value() {}";
        for kind in
            ["i32", "Vec<i32>", "std::fmt::R", "(u8, &'static str)", "Box<dyn Fn(i32) -> i32>"]
        {
            assert_eq!(hash(items, kind), None, "{kind}");
        }
    }

    #[test]
    fn trait_object_of_any_type_depends_on_every_redefinition() {
        let definitions = Definitions::new(&[], Path::new(""));
        for kind in ["Box<dyn Any + Send>", "Box<dyn std::error::Error>", "std::io::Error"] {
            assert_ne!(definitions.hash(kind, 1), definitions.hash(kind, 2), "{kind}");
        }
    }

    #[test]
    fn change_of_an_included_file_changes_the_hash() {
        let folder = std::env::temp_dir().join(format!("included-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let items = "mod m { include!(\"r.rs\"); } #[path = \"r.rs\"] mod n; mod r;";
        let file = syn::parse_file(items).unwrap();
        let hashes = |text: &str| {
            fs::write(folder.join("r.rs"), text).unwrap();
            let definitions = Definitions::new(&file.items, &folder);
            ["m::R", "n::R", "r::R"].map(|kind| definitions.hash(kind, 0).expect("it is defined"))
        };
        let (one, other) = (hashes("pub struct R(u8);"), hashes("pub struct R(u16);"));
        assert!(one.iter().zip(&other).all(|(one, other)| one != other));
        fs::remove_dir_all(folder).unwrap();
    }
}
