//! Imports go one way: between the rooms of `src`, and between the files of each.
#![allow(clippy::unwrap_used)]

#[path = "arrows/source.rs"]
mod source;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use source::{Import, Modules, imports};

/// What each room may import from. `python` stands on top, and `lib.rs` names the rooms.
const ROOMS: [(&str, &[&str]); 13] = [
    ("error", &[]),
    ("numbers", &[]),
    ("guard", &["error"]),
    ("insn", &["error"]),
    ("image", &["error", "numbers", "insn"]),
    ("sites", &["error", "numbers", "insn", "image"]),
    ("plan", &["error", "numbers", "insn", "image", "sites"]),
    ("patch", &["error", "insn", "image", "sites", "plan"]),
    ("memory", &["error", "numbers", "insn", "image"]),
    ("verify", &["error", "numbers", "insn", "image", "sites", "memory", "plan"]),
    ("exec", &["error"]),
    ("measure", &["error", "insn", "image", "sites", "plan", "exec"]),
    ("lock", &["error"]),
];

/// The files of `plan` that are a pass, or run them.
const PASSES: [&str; 15] = [
    "alternatives",
    "boot",
    "callthunks",
    "cfi",
    "ftrace",
    "ibt",
    "jump_labels",
    "paravirt",
    "retpolines",
    "returns",
    "runtime_const",
    "smp_locks",
    "static_calls",
    "unlisted",
    "run",
];

type Edges = BTreeMap<Vec<String>, BTreeSet<Vec<String>>>;

fn modules() -> Modules {
    let mut files = BTreeMap::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    read(&root, &mut Vec::new(), &mut files);
    Modules(files)
}

fn read(folder: &Path, module: &mut Vec<String>, files: &mut BTreeMap<Vec<String>, Vec<Import>>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let stem = path.file_stem().unwrap().to_str().unwrap().to_owned();
        if path.is_dir() {
            module.push(stem);
            read(&path, module, files);
            module.pop();
        } else if path.extension().is_some_and(|ext| ext == "rs") {
            let mut name = module.clone();
            if stem != "mod" && stem != "lib" {
                name.push(stem);
            }
            files.insert(name, imports(&std::fs::read_to_string(&path).unwrap()));
        }
    }
}

fn edges(modules: &Modules) -> Edges {
    let of = |(module, imports): (&Vec<String>, &Vec<Import>)| {
        let targets = imports.iter().filter_map(|import| modules.defines(module, &import.path));
        (module.clone(), targets.filter(|target| target != module).collect())
    };
    modules.0.iter().map(of).collect()
}

/// Imports between rooms that no arrow allows.
fn against_the_arrows(edges: &Edges) -> Vec<String> {
    let mut wrong = Vec::new();
    for (from, targets) in edges {
        let Some(room) = from.first().filter(|room| *room != "python") else { continue };
        let allowed = ROOMS.iter().find(|(name, _)| name == room).unwrap_or_else(|| panic!("{room} is in no list")).1;
        for target in targets.iter().filter(|target| target.first() != Some(room)) {
            let known = target.first().is_some_and(|other| allowed.contains(&other.as_str()));
            // The passes are what verify checks: it may share their words, and never run one.
            let pass = room == "verify"
                && target[0] == "plan"
                && target.get(1).is_some_and(|file| PASSES.contains(&file.as_str()));
            if !known || pass {
                wrong.push(format!("{} imports {}", from.join("::"), target.join("::")));
            }
        }
    }
    wrong
}

/// Files that, by their imports, need each other, the `mod.rs` of a room and the files in it too: one line for each circle.
fn circles(edges: &Edges) -> Vec<String> {
    let reach: BTreeMap<_, _> = edges.keys().map(|from| (from, reached(edges, from))).collect();
    let mut found = BTreeSet::new();
    for (from, there) in &reach {
        if there.contains(*from) {
            let back = |other: &&Vec<String>| reach.get(other).is_some_and(|there| there.contains(*from));
            let ring: BTreeSet<String> = there.iter().filter(back).map(|module| module.join("::")).collect();
            found.insert(ring.into_iter().collect::<Vec<_>>().join(", "));
        }
    }
    found.into_iter().collect()
}

fn reached(edges: &Edges, from: &Vec<String>) -> BTreeSet<Vec<String>> {
    let mut seen = BTreeSet::new();
    let mut ahead: Vec<_> = edges[from].iter().cloned().collect();
    while let Some(module) = ahead.pop() {
        if let Some(next) = edges.get(&module).filter(|_| seen.insert(module.clone())) {
            ahead.extend(next.iter().cloned());
        }
    }
    seen
}

fn path(text: &str) -> Vec<String> {
    text.split("::").map(str::to_owned).collect()
}

#[test]
fn no_room_imports_against_the_arrows() {
    let wrong = against_the_arrows(&edges(&modules()));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn no_file_needs_one_that_needs_it() {
    let found = circles(&edges(&modules()));
    assert!(found.is_empty(), "circles:\n{}", found.join("\n"));
}

#[test]
fn an_import_turned_round_is_found() {
    let mut edges = edges(&modules());
    edges.get_mut(&path("sites::paravirt")).unwrap().insert(path("plan::rules"));
    assert_eq!(against_the_arrows(&edges), ["sites::paravirt imports plan::rules"]);
    edges.get_mut(&path("sites::code")).unwrap().insert(path("sites::relative"));
    let found = circles(&edges);
    assert!(found.len() == 1 && found[0].starts_with("sites::code, sites::relative"), "{found:?}");
}

#[test]
fn imports_are_followed_to_the_file_that_defines_the_name() {
    let file = "/// [`crate::no`]\nuse std::fmt;\nuse super::{a, b::{self, C as D}};\npub use inner::E;\nfn f() { crate::x::g(\"crate::s\"); }\n#[cfg(test)]\nmod tests { use crate::t; }";
    let told: Vec<_> = imports(file).iter().map(|import| (import.path.join("::"), import.public)).collect();
    let wanted = [
        ("std::fmt", false),
        ("super::a", false),
        ("super::b", false),
        ("super::b::C", false),
        ("inner::E", true),
        ("crate::x::g", false),
    ];
    assert_eq!(told, wanted.map(|(path, public)| (path.to_owned(), public)));
    let import =
        |path: &str, public| Import { path: self::path(path), name: path.rsplit("::").next().unwrap().into(), public };
    let modules = Modules(
        [
            (vec![], vec![]),
            (path("a"), vec![import("deep::Thing", true)]),
            (path("a::deep"), vec![]),
            (path("b"), vec![]),
        ]
        .into(),
    );
    assert_eq!(modules.defines(&path("b"), &path("crate::a::Thing")), Some(path("a::deep")));
    assert_eq!(modules.defines(&path("b"), &path("super::a::Other")), Some(path("a")));
    assert_eq!(modules.defines(&path("a"), &path("deep::Thing")), Some(path("a::deep")));
    assert_eq!(modules.defines(&path("b"), &path("std::fmt")), None);
}
