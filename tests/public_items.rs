//! What the crate offers to other crates is a list, `tests/public_items/list.txt`: a change that breaks users is seen before
//! it is released. `PVOPS_WRITE=1 cargo test --test public_items` writes the list anew, with what is new since. What a macro
//! makes is listed by name alone.
#![allow(clippy::expect_used, clippy::panic)] // a test's input is there, or the test fails

#[path = "public_items/sources.rs"]
mod sources;
#[path = "public_items/surface.rs"]
mod surface;

use std::collections::BTreeSet;
use std::path::Path;

use sources::Sources;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn nothing_public_went_or_changed() {
    let sources = Sources::read(&root().join("src/lib.rs"));
    let found = surface::of(&sources);
    let path = root().join("tests/public_items/list.txt");
    if std::env::var_os("PVOPS_WRITE").is_some() {
        let lines: Vec<&str> = found.iter().map(String::as_str).collect();
        std::fs::write(&path, lines.join("\n") + "\n").expect("the list is written");
        return;
    }
    let list = std::fs::read_to_string(&path).expect("the list");
    let listed: BTreeSet<String> = list.lines().map(str::to_owned).collect();
    assert!(listed.len() > 500);
    let gone: Vec<_> = listed.difference(&found).map(|line| format!("- {line}")).collect();
    let new: Vec<_> = found.difference(&listed).map(|line| format!("+ {line}")).collect();
    assert!(
        gone.is_empty(),
        "what went or changed breaks users: the change log says so, and PVOPS_WRITE=1 cargo test --test public_items \
         writes the list anew\n{}",
        [gone, new].concat().join("\n")
    );
}

/// The list of a crate made of these files.
fn made(files: &[(&str, &str)]) -> Vec<String> {
    let files = files.iter().map(|&(path, text)| (path.to_owned(), text.to_owned())).collect();
    surface::of(&Sources::of("pvops", &files)).into_iter().collect()
}

#[test]
fn items_are_listed_where_users_find_them() {
    let listed = made(&[
        ("lib.rs", "pub mod a; mod b; pub use b::{Hidden, f as g}; fn private() {}"),
        ("a/mod.rs", "mod inner; pub use inner::*; pub const N: usize = 1; pub use std::io::Error;"),
        (
            "a/inner.rs",
            "pub struct Deep; pub(crate) struct Not; impl Deep { pub fn new() -> Deep { Deep } fn no() {} }",
        ),
        (
            "b.rs",
            "pub struct Hidden { pub seen: u8, unseen: u8 } pub fn f(x: &str) -> usize { x.len() } pub struct Kept;",
        ),
    ]);
    assert_eq!(
        listed,
        [
            "pvops::Hidden: pub struct Hidden { pub seen: u8, .. }",
            "pvops::a::Deep: pub struct Deep;",
            "pvops::a::Deep::new: pub fn new() -> Deep",
            "pvops::a::Error: pub use std::io::Error",
            "pvops::a::N: pub const N: usize",
            "pvops::g: pub fn f(x: &str) -> usize",
        ]
    );
}

#[test]
fn traits_and_their_implementations_are_listed_and_what_tests_have_is_not() {
    let listed = made(&[(
        "lib.rs",
        "#[derive(Clone, Debug)] #[non_exhaustive] pub enum E { A(u8), B { x: u8 } } \
         pub trait T { type Out; fn need(&self); fn has(&self) -> u8 { 1 } } \
         impl T for E { type Out = u8; fn need(&self) {} } impl<'a> From<&'a E> for u8 { fn from(_: &'a E) -> u8 { 1 } } \
         #[cfg(test)] pub mod tests {} #[cfg(feature = \"std\")] pub fn with_std() {}",
    )]);
    assert_eq!(
        listed,
        [
            "pvops::E: #[derive(Clone, Debug)] #[non_exhaustive] pub enum E { A(u8), B { x: u8 }, }",
            "pvops::E: impl T for E",
            "pvops::T: pub trait T { type Out; fn need(&self); fn has(&self) -> u8 { .. } }",
            "pvops::with_std: #[cfg(feature = \"std\")] pub fn with_std()",
        ]
    );
}
