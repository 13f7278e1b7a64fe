//! A crate's modules, parsed.

use std::collections::BTreeMap;
use std::path::Path;

use syn::{Attribute, Item};

/// The names of a module from the crate's root on.
pub type Names = Vec<String>;

/// The items of each module.
pub struct Sources {
    pub name: String,
    pub modules: BTreeMap<Names, Vec<Item>>,
}

impl Sources {
    /// Reads a crate of this project.
    pub fn read(root: &Path) -> Sources {
        let folder = root.parent().expect("a folder");
        let mut files = BTreeMap::new();
        let mut open = vec![folder.to_owned()];
        while let Some(place) = open.pop() {
            for entry in std::fs::read_dir(&place).expect("a folder").map(|entry| entry.expect("an entry").path()) {
                if entry.is_dir() {
                    open.push(entry);
                } else if entry.extension().is_some_and(|ext| ext == "rs") {
                    let name = entry.strip_prefix(folder).expect("below it").to_str().expect("text").to_owned();
                    files.insert(name, std::fs::read_to_string(&entry).expect("a source"));
                }
            }
        }
        Sources::of("pvops", &files)
    }

    /// A crate of files by name, `lib.rs` the first.
    pub fn of(name: &str, files: &BTreeMap<String, String>) -> Sources {
        let mut sources = Sources { name: name.to_owned(), modules: BTreeMap::new() };
        let items = parsed(files, "lib.rs").expect("lib.rs");
        sources.add(files, Vec::new(), items);
        sources
    }

    fn add(&mut self, files: &BTreeMap<String, String>, at: Names, items: Vec<Item>) {
        for item in &items {
            let Item::Mod(module) = item else { continue };
            if elsewhere(&module.attrs) {
                continue;
            }
            let name = module.ident.to_string();
            let below: Names = [&at[..], &[name]].concat();
            let path = below.join("/");
            let held = match &module.content {
                Some((_, items)) => Some(items.clone()),
                None => parsed(files, &format!("{path}.rs")).or_else(|| parsed(files, &format!("{path}/mod.rs"))),
            };
            self.add(files, below, held.unwrap_or_else(|| panic!("there is no module {path}")));
        }
        self.modules.insert(at, items);
    }
}

fn parsed(files: &BTreeMap<String, String>, name: &str) -> Option<Vec<Item>> {
    let text = files.get(name)?;
    Some(syn::parse_file(text).unwrap_or_else(|error| panic!("{name}: {error}")).items)
}

/// Whether something is not there for other crates: tests, the Python module, what loom and shuttle see.
pub fn elsewhere(attributes: &[Attribute]) -> bool {
    attributes.iter().filter(|attribute| attribute.path().is_ident("cfg")).any(|attribute| {
        let said = super::surface::text(&attribute.meta);
        ["cfg(test", "cfg(loom", "cfg(any(loom", "cfg(shuttle", "cfg(feature = \"python\"", "cfg(all(test"]
            .iter()
            .any(|begins| said.starts_with(begins))
    })
}
