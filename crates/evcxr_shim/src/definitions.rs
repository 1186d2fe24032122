//! The definitions that a type depends on, and a hash of them.
//!
//! evcxr stores a variable with its `TypeId`, which is made of the type's name and not of its
//! definition. After a type is redefined, a variable of the old type would be read as one of the new.
//! So the type of a stored variable gets a hash of all definitions that it depends on, as far as they
//! decide how its values are laid out: fields, aliases, constants in array lengths, methods of a trait
//! whose object it is. Comments, formatting, visibility and the bodies of methods do not count.
//!
//! Names are resolved as in Rust, but roughly. A name that is not found where it is used may be any
//! definition of that name, because an import or a macro may lead there.

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fs;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};

use proc_macro2::{TokenStream, TokenTree};
use quote::ToTokens;
use syn::visit::{self, Visit};
use syn::visit_mut::{self, VisitMut};

/// Types whose values may be of any other type.
const ERASED: [&str; 2] = ["Any", "Error"];
/// Modules in modules, and files in files.
const DEPTH: usize = 64;

/// All definitions of a cell's source.
#[derive(Default)]
pub struct Definitions {
    modules: Vec<Module>,
    all: Vec<Definition>,
    /// Constants and types in `impl` and `trait` blocks, by name.
    associated: HashMap<String, Vec<usize>>,
    /// Types in `impl` blocks of traits, by the name of the type that the block is for.
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
    /// The canonical text; empty if it only leads to others.
    text: String,
    mentions: Mentions,
    /// Whether it is a struct, an enum or a union.
    is_type: bool,
}

#[derive(Default)]
struct Mentions {
    paths: Vec<Mention>,
    /// Names that stand in a macro, where they can mean anything.
    names: Vec<String>,
    files: Vec<PathBuf>,
    erased: bool,
}

struct Mention {
    segments: Vec<String>,
    /// Whether it is an argument of a generic type, which may use the types that belong to it.
    is_argument: bool,
}

impl Definitions {
    /// The definitions in `items`; `folder` is where files are looked for.
    pub fn new<'a>(items: impl IntoIterator<Item = &'a syn::Item>, folder: &Path) -> Definitions {
        let mut definitions = Definitions::default();
        definitions.modules.push(Module::default());
        for item in items {
            definitions.add(item, 0, folder, 0);
        }
        definitions
    }

    fn define(&mut self, module: usize, name: String, made: Definition) -> usize {
        self.all.push(made);
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
                    // It may define anything: whatever is looked for and has no other definition.
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
                let mut found = Vec::new();
                imports(&item.tree, &mut Vec::new(), &mut found);
                for (name, segments) in found {
                    let mut mentions = Mentions::default();
                    mentions.paths.push(Mention { segments, is_argument: false });
                    let made = Definition { module, text: String::new(), mentions, is_type: false };
                    self.define(module, name, made);
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
            // Syntax that is not stable: it defines the name behind one of these words.
            other => {
                const WORDS: [&str; 7] =
                    ["struct", "enum", "union", "type", "const", "static", "macro"];
                let found = idents(other.to_token_stream());
                for pair in found.windows(2).filter(|pair| WORDS.contains(&pair[0].as_str())) {
                    self.define(module, pair[1].clone(), definition(other.clone()));
                }
            }
        }
    }

    fn add_file(&mut self, file: &Path, module: usize, depth: usize) {
        let folder = file.parent().unwrap_or(Path::new(""));
        let parsed = fs::read_to_string(file).ok().and_then(|text| syn::parse_file(&text).ok());
        if let Some(parsed) = parsed.filter(|_| depth < DEPTH) {
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
            // What the block is for belongs to it: a constant may be that of another type.
            let only = syn::ItemImpl { items: vec![part.clone()], ..item.clone() };
            let mut mentions = Mentions::of(folder, |seen| seen.visit_impl_item(part));
            mentions.leave_out(&item.generics);
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

    /// Whether the type that `text` names depends on a definition here, and a hash of all that it
    /// depends on. `redefined` counts the types that were redefined: a value of a type that is not
    /// known may be of any of them.
    pub fn hash(&self, text: &str, redefined: u64) -> Option<u64> {
        let mentions = match syn::parse_str::<syn::Type>(text) {
            Ok(parsed) => Mentions::of(Path::new(""), |seen| seen.visit_type(&parsed)),
            Err(_) => Mentions { names: words(text), ..Mentions::default() },
        };
        self.hash_of(&mentions, 0, redefined)
    }

    /// The types that are defined here, each by its path, with a hash of what it depends on.
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
        let leads_here = reached.iter().any(|at| !self.all[*at].text.is_empty());
        (leads_here || erased).then(|| self.hash_reached(&reached, erased.then_some(redefined)))
    }

    /// Adds what a definition depends on; whether a value of an unknown type is among it.
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
        // evcxr writes items in any order.
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

    /// The definitions that are mentioned in a module.
    fn resolved(&self, mentions: &Mentions, module: usize) -> Vec<usize> {
        let mut found = Vec::new();
        for mention in &mentions.paths {
            self.resolve(&mention.segments, module, &mut found);
            if mention.is_argument
                && let Some(last) = mention.segments.last()
            {
                found.extend(self.of_type.get(last).into_iter().flatten());
            }
        }
        for name in &mentions.names {
            self.anywhere(name, &mut found);
            found.extend(self.associated.get(name).into_iter().flatten());
        }
        found
    }

    fn resolve(&self, segments: &[String], module: usize, found: &mut Vec<usize>) {
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
                    // A module is found in its own module, and as a path of an import in the root.
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
                Some(here) => found.extend(here),
                None => {
                    let before = found.len();
                    self.anywhere(first, found);
                    // A path into another crate, or of a type of another crate.
                    if found.len() == before && !inside && !more.is_empty() && !self.generic(first)
                    {
                        return;
                    }
                }
            }
        }
        for name in more {
            found.extend(self.associated.get(name).into_iter().flatten());
            // Through an import of a module.
            self.anywhere(name, found);
        }
    }

    /// Whether a name may be that of a type parameter, whose parts belong to any type.
    fn generic(&self, name: &str) -> bool {
        name.chars().next().is_some_and(char::is_uppercase)
    }

    fn anywhere(&self, name: &str, found: &mut Vec<usize>) {
        let before = found.len();
        for module in &self.modules {
            found.extend(module.names.get(name).into_iter().flatten());
        }
        if found.len() == before {
            // A macro in a module may define it.
            for module in self.modules.iter().skip(1) {
                for at in module.names.get("").into_iter().flatten() {
                    if self.all[*at].mentions.names.iter().any(|each| each == name) {
                        found.push(*at);
                    }
                }
            }
        }
    }

    /// The path by which `name` is found from the root, if it is defined in one other module only.
    pub fn path_to(&self, name: &str) -> Option<String> {
        if self.modules[0].names.contains_key(name) {
            return None;
        }
        let mut there =
            (1..self.modules.len()).filter(|at| self.modules[*at].names.contains_key(name));
        let (module, None) = (there.next()?, there.next()) else { return None };
        Some(format!("crate::{}{name}", self.path(module)))
    }

    /// Whether cells define or import `name`.
    pub fn names(&self, name: &str) -> bool {
        self.modules[0].names.contains_key(name)
    }
}

impl Mentions {
    fn of_item(item: &syn::Item, folder: &Path) -> Mentions {
        let mut mentions = Mentions::of(folder, |seen| seen.visit_item(item));
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
        mentions.leave_out(generics);
        mentions
    }

    fn of(folder: &Path, look: impl FnOnce(&mut Seen)) -> Mentions {
        let mut seen = Seen { mentions: Mentions::default(), folder, arguments: 0 };
        look(&mut seen);
        seen.mentions
    }

    /// Leaves out the names of type parameters.
    fn leave_out(&mut self, generics: &syn::Generics) {
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
struct Seen<'a> {
    mentions: Mentions,
    folder: &'a Path,
    arguments: usize,
}

impl<'ast> Visit<'ast> for Seen<'_> {
    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments: Vec<String> =
            path.segments.iter().map(|segment| plain(&segment.ident.to_string())).collect();
        self.mentions.erased |= segments.last().is_some_and(|last| ERASED.contains(&last.as_str()));
        self.mentions.paths.push(Mention { segments, is_argument: self.arguments > 0 });
        visit::visit_path(self, path);
    }

    fn visit_qself(&mut self, qself: &'ast syn::QSelf) {
        // The path behind it names what belongs to the type.
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

/// The text of an item without what does not change how its values are laid out.
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

/// A visitor that removes what does not count.
struct Canonical;

impl Canonical {
    fn counts(attribute: &syn::Attribute) -> bool {
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
        attributes.retain(Canonical::counts);
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
    let mut found = Vec::new();
    for token in tokens {
        match token {
            TokenTree::Group(group) => found.extend(idents(group.stream())),
            TokenTree::Ident(ident) => found.push(plain(&ident.to_string())),
            _ => {}
        }
    }
    found
}

/// The file that a macro like `include!` puts in.
fn included(call: &syn::Macro, folder: &Path) -> Option<PathBuf> {
    let name = call.path.segments.last()?.ident.to_string();
    if !["include", "include_str", "include_bytes"].contains(&name.as_str()) {
        return None;
    }
    // The parts of `concat!(env!("HOME"), "/file.rs")`.
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

/// The names that a `use` brings, each with its path.
fn imports(tree: &syn::UseTree, path: &mut Vec<String>, found: &mut Vec<(String, Vec<String>)>) {
    let whole = |path: &[String], name: &str| [path, &[name.to_owned()]].concat();
    match tree {
        syn::UseTree::Path(part) => {
            path.push(plain(&part.ident.to_string()));
            imports(&part.tree, path, found);
            path.pop();
        }
        syn::UseTree::Name(part) => {
            let name = plain(&part.ident.to_string());
            if name == "self" {
                found.push((path.last().cloned().unwrap_or_default(), path.clone()));
            } else {
                found.push((name.clone(), whole(path, &name)));
            }
        }
        syn::UseTree::Rename(part) => {
            let name = plain(&part.ident.to_string());
            found.push((plain(&part.rename.to_string()), whole(path, &name)));
        }
        // What it brings is found by its own name.
        syn::UseTree::Glob(_) => {}
        syn::UseTree::Group(group) => {
            for each in &group.items {
                imports(each, path, found);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The hash of a type, with these items.
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
    fn what_does_not_change_a_type_keeps_its_hash() {
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
    fn what_changes_a_type_changes_its_hash() {
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
    fn a_value_of_any_type_depends_on_every_redefinition() {
        let definitions = Definitions::new(&[], Path::new(""));
        for kind in ["Box<dyn Any + Send>", "Box<dyn std::error::Error>", "std::io::Error"] {
            assert_ne!(definitions.hash(kind, 1), definitions.hash(kind, 2), "{kind}");
        }
    }

    #[test]
    fn a_file_that_is_included_counts() {
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
