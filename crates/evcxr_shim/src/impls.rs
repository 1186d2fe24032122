//! Removes `impl` blocks that a later cell replaces.
//!
//! evcxr replaces an item with a new one of the same name. An `impl` block has no name, so after an edit the
//! source has the old and the new block, and does not compile. This module keeps only the newest: one
//! implementation of a trait for a type, one method of each name, and one foreign function of each name.

use std::collections::HashMap;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::ops::Range;
use std::path::Path;

use proc_macro2::{TokenStream, TokenTree};
use quote::ToTokens;

use crate::definitions::plain;
use crate::edits::{self, Edits};

/// A part of an item that may occur only once in a crate.
struct Part {
    /// Equal for parts that conflict.
    key: String,
    /// A hash of the part's tokens.
    hash: u64,
    range: Range<usize>,
}

/// The hashes of parts in the order in which cells defined them, the newest at the end.
#[derive(Default)]
pub struct DefinitionOrder {
    hashes: Vec<u64>,
    /// The hashes of the current cell's parts.
    current: Vec<u64>,
}

impl DefinitionOrder {
    /// Reads the order from `file` and appends the parts in `code`, the current cell.
    pub fn read(file: &Path, code: &str) -> DefinitionOrder {
        let stored = fs::read_to_string(file).unwrap_or_default();
        let mut hashes: Vec<u64> = stored.lines().filter_map(|line| line.parse().ok()).collect();
        let current: Vec<u64> = parts_in_cell(code).iter().map(|part| part.hash).collect();
        hashes.retain(|hash| !current.contains(hash));
        hashes.extend(&current);
        DefinitionOrder { hashes, current }
    }

    pub fn write(&self, file: &Path) -> io::Result<()> {
        let lines: String = self.hashes.iter().map(|hash| format!("{hash}\n")).collect();
        fs::write(file, lines)
    }

    fn position(&self, hash: u64) -> Option<usize> {
        self.hashes.iter().position(|each| *each == hash)
    }

    /// Whether the current cell has both parts. The compiler must report this error.
    fn conflict(&self, one: &Part, other: &Part) -> bool {
        one.hash != other.hash
            && self.current.contains(&one.hash)
            && self.current.contains(&other.hash)
    }
}

/// Removes replaced parts from the source, and returns the remaining items.
///
/// In evcxr's source, items without a name are in the order of their cells, after the named items.
pub fn replace(items: &[syn::Item], order: &DefinitionOrder, edits: &mut Edits) -> Vec<syn::Item> {
    let all: Vec<Part> = items.iter().flat_map(parts).collect();
    let mut newest: HashMap<&str, (Option<usize>, &Part)> = HashMap::new();
    for part in &all {
        let position = order.position(part.hash);
        let best = newest.entry(&part.key).or_insert((position, part));
        if position >= best.0 {
            *best = (position, part);
        }
    }
    let replaced: Vec<&Range<usize>> = all
        .iter()
        .filter(|part| {
            let best = newest[part.key.as_str()].1;
            best.range != part.range && !order.conflict(best, part)
        })
        .map(|part| &part.range)
        .collect();
    for range in &replaced {
        edits.replace((*range).clone(), "");
    }
    let remains = |range: Range<usize>| !replaced.contains(&&range);
    items
        .iter()
        .filter(|item| remains(edits::range(*item)))
        .cloned()
        .map(|mut item| {
            match &mut item {
                syn::Item::Impl(item) => item.items.retain(|part| remains(edits::range(part))),
                syn::Item::ForeignMod(item) => {
                    item.items.retain(|part| remains(edits::range(part)));
                }
                _ => {}
            }
            item
        })
        .collect()
}

/// The parts of an item without a name; empty for other items.
fn parts(item: &syn::Item) -> Vec<Part> {
    match item {
        syn::Item::Impl(item) => match &item.trait_ {
            Some((not, path, _)) => vec![Part {
                key: key(&item.generics, |tokens| {
                    not.to_tokens(tokens);
                    path.to_tokens(tokens);
                    quote::quote!(for).to_tokens(tokens);
                    item.self_ty.to_tokens(tokens);
                }),
                hash: hash(item),
                range: edits::range(item),
            }],
            None => {
                let block = key(&item.generics, |tokens| item.self_ty.to_tokens(tokens));
                let member = |member: &syn::ImplItem| {
                    let ident = match member {
                        syn::ImplItem::Const(member) => &member.ident,
                        syn::ImplItem::Fn(member) => &member.sig.ident,
                        syn::ImplItem::Type(member) => &member.ident,
                        _ => return None,
                    };
                    let key = format!("{block} :: {}", plain(&ident.to_string()));
                    Some(Part { key, hash: hash(member), range: edits::range(member) })
                };
                item.items.iter().filter_map(member).collect()
            }
        },
        syn::Item::ForeignMod(item) => {
            let member = |member: &syn::ForeignItem| {
                let ident = match member {
                    syn::ForeignItem::Fn(member) => &member.sig.ident,
                    syn::ForeignItem::Static(member) => &member.ident,
                    syn::ForeignItem::Type(member) => &member.ident,
                    _ => return None,
                };
                let key = format!("extern {}", plain(&ident.to_string()));
                Some(Part { key, hash: hash(member), range: edits::range(member) })
            };
            item.items.iter().filter_map(member).collect()
        }
        _ => Vec::new(),
    }
}

/// The parts in a cell's code.
fn parts_in_cell(code: &str) -> Vec<Part> {
    let Ok(statements) = syn::parse::Parser::parse_str(syn::Block::parse_within, code) else {
        return Vec::new();
    };
    let items = statements.iter().filter_map(|statement| match statement {
        syn::Stmt::Item(item) => Some(item),
        _ => None,
    });
    items.flat_map(parts).collect()
}

/// A text without the names and bounds of type parameters, because blocks that differ only in these still
/// conflict.
fn key(generics: &syn::Generics, write: impl FnOnce(&mut TokenStream)) -> String {
    let mut tokens = TokenStream::new();
    write(&mut tokens);
    let mut numbers: HashMap<String, usize> = HashMap::new();
    let names: Vec<String> = generics
        .params
        .iter()
        .map(|param| match param {
            syn::GenericParam::Type(param) => param.ident.to_string(),
            syn::GenericParam::Const(param) => param.ident.to_string(),
            syn::GenericParam::Lifetime(param) => format!("'{}", param.lifetime.ident),
        })
        .collect();
    let mut text = String::new();
    renamed(tokens, &names, &mut numbers, &mut text);
    text
}

fn renamed(
    tokens: TokenStream,
    names: &[String],
    numbers: &mut HashMap<String, usize>,
    text: &mut String,
) {
    let mut lifetime = false;
    for token in tokens {
        match token {
            TokenTree::Group(group) => {
                text.push_str(&format!("{:?}(", group.delimiter()));
                renamed(group.stream(), names, numbers, text);
                text.push(')');
            }
            TokenTree::Punct(punct) if punct.as_char() == '\'' => lifetime = true,
            TokenTree::Ident(ident) => {
                let name = format!("{}{}", if lifetime { "'" } else { "" }, ident);
                lifetime = false;
                if names.contains(&name) || name == "'_" {
                    let next = numbers.len();
                    // Each `'_` is a different lifetime.
                    let name = if name == "'_" { format!("'_{next}") } else { name };
                    let number = numbers.entry(name).or_insert(next);
                    text.push_str(&format!("#{number} "));
                } else {
                    text.push_str(&format!("{} ", plain(&name)));
                }
            }
            other => text.push_str(&format!("{other} ")),
        }
    }
}

/// A hash of a part's tokens.
fn hash(part: &impl ToTokens) -> u64 {
    let mut hasher = DefaultHasher::new();
    part.to_token_stream().to_string().hash(&mut hasher);
    hasher.finish()
}
