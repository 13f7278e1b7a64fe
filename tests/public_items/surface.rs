//! What other crates can name: items that are `pub` in modules that are, and what these import publicly.

use std::collections::{BTreeMap, BTreeSet};

use quote::ToTokens;
use syn::{Attribute, Fields, ImplItem, Item, ItemImpl, TraitItem, Type, UseTree, Visibility};

use super::sources::{Names, Sources, elsewhere};

/// Where a name leads.
enum Target {
    Module(Names),
    /// An item of this name in a module.
    Item(Names, String),
    /// Something of another crate, or that a macro makes.
    Other(String),
}

struct Surface<'s> {
    sources: &'s Sources,
    /// Implementations by where their type is declared.
    impls: BTreeMap<(Names, String), Vec<&'s ItemImpl>>,
    found: BTreeSet<String>,
}

/// A line for each item, and for each function of a type.
pub fn of(sources: &Sources) -> BTreeSet<String> {
    let mut surface = Surface { sources, impls: BTreeMap::new(), found: BTreeSet::new() };
    for (module, items) in &sources.modules {
        for item in items {
            let Item::Impl(held) = item else { continue };
            if let (false, Type::Path(path)) = (elsewhere(&held.attrs), &*held.self_ty) {
                let names: Names = path.path.segments.iter().map(|segment| segment.ident.to_string()).collect();
                if let Target::Item(module, name) = surface.resolve(module, &names, 0) {
                    surface.impls.entry((module, name)).or_default().push(held);
                }
            }
        }
    }
    surface.publish(&Vec::new(), &sources.name);
    surface.found
}

impl Surface<'_> {
    /// All of a module, under the path that users have.
    fn publish(&mut self, module: &Names, shown: &str) {
        for item in &self.sources.modules[module] {
            let (attributes, visibility) = outside(item);
            if elsewhere(attributes) || !matches!(visibility, Some(Visibility::Public(_))) {
                continue;
            }
            match item {
                Item::Mod(inner) => {
                    let name = inner.ident.to_string();
                    self.publish(&[&module[..], std::slice::from_ref(&name)].concat(), &format!("{shown}::{name}"));
                }
                Item::Use(import) => self.import(module, &import.tree, &mut Vec::new(), shown),
                _ => {
                    if let Some(name) = name_of(item) {
                        self.declare(module, &name, &format!("{shown}::{name}"));
                    }
                }
            }
        }
    }

    fn import(&mut self, module: &Names, tree: &UseTree, path: &mut Names, shown: &str) {
        match tree {
            UseTree::Path(inner) => {
                path.push(inner.ident.to_string());
                self.import(module, &inner.tree, path, shown);
                path.pop();
            }
            UseTree::Group(group) => group.items.iter().for_each(|tree| self.import(module, tree, path, shown)),
            UseTree::Glob(_) => match self.resolve(module, path, 0) {
                Target::Module(names) => self.publish(&names, shown),
                _ => panic!("a glob of what is no module here: {}", path.join("::")),
            },
            UseTree::Name(name) => self.named(module, path, &name.ident.to_string(), &name.ident.to_string(), shown),
            UseTree::Rename(name) => self.named(module, path, &name.ident.to_string(), &name.rename.to_string(), shown),
        }
    }

    fn named(&mut self, module: &Names, path: &Names, name: &str, shown_as: &str, shown: &str) {
        let shown = format!("{shown}::{shown_as}");
        match self.resolve(module, &[&path[..], &[name.to_owned()]].concat(), 0) {
            Target::Module(names) => self.publish(&names, &shown),
            Target::Item(names, name) => self.declare(&names, &name, &shown),
            Target::Other(path) => {
                self.found.insert(format!("{shown}: pub use {path}"));
            }
        }
    }

    /// Follows a path from within a module.
    fn resolve(&self, module: &Names, path: &[String], depth: usize) -> Target {
        let mut at = module.clone();
        for (n, name) in path.iter().enumerate() {
            match name.as_str() {
                "crate" => at = Vec::new(),
                "self" => {}
                "super" => drop(at.pop()),
                _ => {
                    let below: Names = [&at[..], std::slice::from_ref(name)].concat();
                    let Some(items) = self.sources.modules.get(&at) else { break };
                    if self.sources.modules.contains_key(&below) {
                        at = below;
                        continue;
                    }
                    let last = n + 1 == path.len();
                    if last && items.iter().any(|item| name_of(item).as_ref() == Some(name)) {
                        return Target::Item(at, name.clone());
                    }
                    let imported =
                        items.iter().filter_map(|item| if let Item::Use(import) = item { Some(import) } else { None });
                    let mut ways = imported.filter_map(|import| leads(&import.tree, name, &mut Vec::new()));
                    return match ways.next() {
                        Some(to) if depth < 8 => self.resolve(&at, &[&to[..], &path[n + 1..]].concat(), depth + 1),
                        _ => Target::Other(path.join("::")),
                    };
                }
            }
        }
        if self.sources.modules.contains_key(&at) { Target::Module(at) } else { Target::Other(path.join("::")) }
    }

    fn declare(&mut self, module: &Names, name: &str, shown: &str) {
        for item in &self.sources.modules[module] {
            if name_of(item).as_deref() == Some(name) && !elsewhere(outside(item).0) {
                self.found.insert(format!("{shown}: {}", declaration(item)));
            }
        }
        let held: Vec<&ItemImpl> = self.impls.get(&(module.clone(), name.to_owned())).cloned().unwrap_or_default();
        for of_type in held {
            if let Some((_, of_trait, _)) = &of_type.trait_ {
                let generics = text(&of_type.generics);
                self.found.insert(format!("{shown}: impl{generics} {} for {}", text(of_trait), text(&of_type.self_ty)));
                continue;
            }
            for item in &of_type.items {
                let (attributes, public, name, told) = match item {
                    ImplItem::Fn(function) => {
                        (&function.attrs, &function.vis, &function.sig.ident, text(&function.sig))
                    }
                    ImplItem::Const(held) => {
                        (&held.attrs, &held.vis, &held.ident, format!("const {}: {}", held.ident, text(&held.ty)))
                    }
                    _ => continue,
                };
                if matches!(public, Visibility::Public(_)) && !elsewhere(attributes) {
                    self.found.insert(format!("{shown}::{name}: {}pub {told}", said(attributes)));
                }
            }
        }
    }
}

/// Where an import of this name leads, if it is one.
fn leads(tree: &UseTree, wanted: &str, path: &mut Names) -> Option<Names> {
    let to = |name: &dyn ToString| [&path[..], &[name.to_string()]].concat();
    match tree {
        UseTree::Path(inner) => {
            path.push(inner.ident.to_string());
            let found = leads(&inner.tree, wanted, path);
            path.pop();
            found
        }
        UseTree::Group(group) => group.items.iter().find_map(|tree| leads(tree, wanted, path)),
        UseTree::Name(name) => (name.ident == wanted).then(|| to(&name.ident)),
        UseTree::Rename(name) => (name.rename == wanted).then(|| to(&name.ident)),
        UseTree::Glob(_) => None,
    }
}

fn outside(item: &Item) -> (&[Attribute], Option<&Visibility>) {
    match item {
        Item::Const(i) => (&i.attrs, Some(&i.vis)),
        Item::Enum(i) => (&i.attrs, Some(&i.vis)),
        Item::Fn(i) => (&i.attrs, Some(&i.vis)),
        Item::Mod(i) => (&i.attrs, Some(&i.vis)),
        Item::Static(i) => (&i.attrs, Some(&i.vis)),
        Item::Struct(i) => (&i.attrs, Some(&i.vis)),
        Item::Trait(i) => (&i.attrs, Some(&i.vis)),
        Item::Type(i) => (&i.attrs, Some(&i.vis)),
        Item::Union(i) => (&i.attrs, Some(&i.vis)),
        Item::Use(i) => (&i.attrs, Some(&i.vis)),
        _ => (&[], None),
    }
}

fn name_of(item: &Item) -> Option<String> {
    let name = match item {
        Item::Const(i) => &i.ident,
        Item::Enum(i) => &i.ident,
        Item::Fn(i) => &i.sig.ident,
        Item::Static(i) => &i.ident,
        Item::Struct(i) => &i.ident,
        Item::Trait(i) => &i.ident,
        Item::Type(i) => &i.ident,
        Item::Union(i) => &i.ident,
        _ => return None,
    };
    Some(name.to_string())
}

/// An item without its documentation, its bodies and what is private in it.
fn declaration(item: &Item) -> String {
    let attributes = said(outside(item).0);
    let declared = match item {
        Item::Const(i) => format!("pub const {}: {}", i.ident, text(&i.ty)),
        Item::Static(i) => format!("pub static {}: {}", i.ident, text(&i.ty)),
        Item::Fn(i) => format!("pub {}", text(&i.sig)),
        Item::Struct(i) => {
            let head = format!("pub struct {}{}", i.ident, text(&i.generics));
            match &i.fields {
                Fields::Unit => format!("{head};"),
                Fields::Unnamed(_) => format!("{head}({})", fields(&i.fields)),
                Fields::Named(_) => format!("{head} {{ {} }}", fields(&i.fields)),
            }
        }
        Item::Enum(i) => {
            let variants = i
                .variants
                .iter()
                .map(|variant| format!("{}{}, ", variant.ident, text(&plain(&variant.fields)).replace("{", " {")));
            format!("pub enum {}{} {{ {}}}", i.ident, text(&i.generics), variants.collect::<String>())
        }
        Item::Trait(i) => {
            let items = i.items.iter().map(|item| match item {
                TraitItem::Fn(f) if f.default.is_some() => format!("{} {{ .. }} ", text(&f.sig)),
                TraitItem::Fn(f) => format!("{}; ", text(&f.sig)),
                TraitItem::Const(c) => format!("const {}: {}; ", c.ident, text(&c.ty)),
                TraitItem::Type(t) => format!(
                    "type {}{}; ",
                    t.ident,
                    if t.bounds.is_empty() { String::new() } else { format!(": {}", text(&t.bounds)) }
                ),
                _ => String::new(),
            });
            let bounds = if i.supertraits.is_empty() { String::new() } else { format!(": {}", text(&i.supertraits)) };
            let safety = if i.unsafety.is_some() { "unsafe " } else { "" };
            format!("pub {safety}trait {}{}{bounds} {{ {}}}", i.ident, text(&i.generics), items.collect::<String>())
        }
        Item::Type(i) => format!("pub type {}{} = {}", i.ident, text(&i.generics), text(&i.ty)),
        other => text(other),
    };
    attributes + &declared
}

/// The public fields; `..` for others.
fn fields(fields: &Fields) -> String {
    let public = fields.iter().filter(|field| matches!(field.vis, Visibility::Public(_)));
    let mut told: Vec<String> = public
        .map(|field| match &field.ident {
            Some(name) => format!("pub {name}: {}", text(&field.ty)),
            None => format!("pub {}", text(&field.ty)),
        })
        .collect();
    if told.len() < fields.len() {
        told.push("..".to_owned());
    }
    told.join(", ")
}

/// Fields without their documentation.
fn plain(fields: &Fields) -> Fields {
    let mut plain = fields.clone();
    plain.iter_mut().for_each(|field| field.attrs.clear());
    plain
}

/// The attributes that are a part of what is promised.
fn said(attributes: &[Attribute]) -> String {
    let kept = attributes.iter().filter(|attribute| {
        let about = |name: &str| attribute.path().is_ident(name);
        let searched = ["loom", "shuttle"].iter().any(|name| text(&attribute.meta).contains(name));
        about("derive") || about("non_exhaustive") || about("repr") || (about("cfg") && !searched)
    });
    kept.map(|attribute| format!("#[{}] ", text(&attribute.meta))).collect()
}

/// Tokens as one would write them, nearly.
pub fn text(tokens: &impl ToTokens) -> String {
    let mut told = tokens.to_token_stream().to_string();
    for (from, to) in [
        (" :: ", "::"),
        (" ,", ","),
        (" ;", ";"),
        ("& '", "&'"),
        ("& ", "&"),
        (" < ", "<"),
        (" >", ">"),
        ("< ", "<"),
        (" (", "("),
        ("( ", "("),
        (" )", ")"),
        (" :", ":"),
        ("[ ", "["),
        (" ]", "]"),
        ("* ", "*"),
        (" <", "<"),
        ("- >", "->"),
        (":: ", "::"),
        ("->", " ->"),
        ("  ", " "),
    ] {
        told = told.replace(from, to);
    }
    told
}
