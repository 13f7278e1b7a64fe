//! The imports of a source file: enough of Rust's grammar to follow `use` and paths that begin with `crate` or `super`.

use std::collections::BTreeMap;

/// A path of an import, its segments as written, and the name it is imported under.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Import {
    pub path: Vec<String>,
    pub name: String,
    /// `pub use`: others may ask this file for the name.
    pub public: bool,
}

/// All imports of a file, but for those of its tests.
pub fn imports(source: &str) -> Vec<Import> {
    let tokens = tokens(&without_tests(&without_comments(source)));
    let mut found = Vec::new();
    // How many braces are open, and at how many each module within the file began.
    let (mut open, mut inner) = (0, Vec::new());
    let mut at = 0;
    while at < tokens.len() {
        match tokens[at].as_str() {
            "{" => {
                if at > 1 && tokens[at - 2] == "mod" {
                    inner.push(open);
                }
                open += 1;
            }
            "}" => {
                open -= 1;
                inner.pop_if(|began| *began == open);
            }
            _ => {}
        }
        let first = found.len();
        if tokens[at] == "use" {
            let end = (at..tokens.len()).find(|&i| tokens[i] == ";").unwrap_or(tokens.len());
            // `pub use`, `pub(super) use`, `pub(in crate::image) use`.
            let before = tokens[..at].iter().rposition(|t| matches!(t.as_str(), ";" | "}" | "{" | "]"));
            let public = tokens[before.map_or(0, |i| i + 1)..at].iter().any(|t| t == "pub");
            let mut rest = at + 1;
            tree(&tokens[..end], &mut rest, &mut Vec::new(), public, &mut found);
            found[first..].iter_mut().for_each(|import| of_file(import, inner.len()));
            at = end + 1;
            continue;
        }
        let begins = matches!(tokens[at].as_str(), "crate" | "super" | "self")
            && tokens.get(at + 1).is_some_and(|t| t == "::")
            // `pub(in crate::image)` is no import.
            && !(at > 0 && matches!(tokens[at - 1].as_str(), "::" | "in"));
        if begins {
            let mut path = vec![tokens[at].clone()];
            while tokens.get(at + 1).is_some_and(|t| t == "::") && tokens.get(at + 2).is_some_and(|t| is_name(t)) {
                path.push(tokens[at + 2].clone());
                at += 2;
            }
            let name = path.last().cloned().unwrap_or_default();
            found.push(Import { path, name, public: false });
            found[first..].iter_mut().for_each(|import| of_file(import, inner.len()));
        }
        at += 1;
    }
    found
}

/// The same import, as the file would write it: `super` of a module within the file is the file.
fn of_file(import: &mut Import, depth: usize) {
    let up = import.path.iter().take_while(|segment| *segment == "super").count().min(depth);
    if up > 0 {
        import.path.drain(..up);
        if import.path.first().is_none_or(|segment| segment != "super") {
            import.path.insert(0, "self".to_owned());
        }
    }
}

/// One branch of a `use`: `a::b::{c, d as e}`.
fn tree(tokens: &[String], at: &mut usize, prefix: &mut Vec<String>, public: bool, found: &mut Vec<Import>) {
    let depth = prefix.len();
    while *at < tokens.len() {
        match tokens[*at].as_str() {
            "::" => *at += 1,
            "{" => {
                *at += 1;
                while *at < tokens.len() && tokens[*at] != "}" {
                    tree(tokens, at, prefix, public, found);
                    if tokens.get(*at).is_some_and(|t| t == ",") {
                        *at += 1;
                    }
                }
                *at += 1;
                prefix.truncate(depth);
                return;
            }
            "," | "}" => break,
            "as" => {
                let name = tokens.get(*at + 1).cloned().unwrap_or_default();
                found.push(Import { path: prefix.clone(), name, public });
                *at += 2;
                prefix.truncate(depth);
                return;
            }
            name => {
                prefix.push(name.to_owned());
                *at += 1;
            }
        }
    }
    if prefix.last().is_some_and(|last| last == "self") && prefix.len() > 1 {
        prefix.pop();
    }
    let name = prefix.last().cloned().unwrap_or_default();
    found.push(Import { path: prefix.clone(), name, public });
    prefix.truncate(depth.min(prefix.len()));
}

fn is_name(token: &str) -> bool {
    token.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

/// Names and the few marks that matter; strings and characters are left out.
fn tokens(source: &str) -> Vec<String> {
    let chars: Vec<char> = source.chars().collect();
    let mut found = Vec::new();
    let mut at = 0;
    while at < chars.len() {
        let c = chars[at];
        if c.is_alphanumeric() || c == '_' {
            let end =
                (at..chars.len()).find(|&i| !(chars[i].is_alphanumeric() || chars[i] == '_')).unwrap_or(chars.len());
            found.push(chars[at..end].iter().collect());
            at = end;
        } else if c == '"' {
            at += 1;
            while at < chars.len() && chars[at] != '"' {
                at += if chars[at] == '\\' { 2 } else { 1 };
            }
            at += 1;
        } else if c == '\'' && chars.get(at + 2) == Some(&'\'') {
            at += 3;
        } else if c == ':' && chars.get(at + 1) == Some(&':') {
            found.push("::".to_owned());
            at += 2;
        } else {
            if "{},;*[]".contains(c) {
                found.push(c.to_string());
            }
            at += 1;
        }
    }
    found
}

fn without_comments(source: &str) -> String {
    source
        .lines()
        .map(|line| if line.trim_start().starts_with("//") { "" } else { line })
        .collect::<Vec<_>>()
        .join("\n")
}

/// Tests stand at the end of a file.
fn without_tests(source: &str) -> String {
    let end = source.find("#[cfg(test)]\nmod tests").unwrap_or(source.len());
    source[..end].to_owned()
}

/// The crate's files by the path of their module.
pub struct Modules(pub BTreeMap<Vec<String>, Vec<Import>>);

impl Modules {
    /// The module in whose file a name that `from` imports is defined; `None` where it is another crate's.
    pub fn defines(&self, from: &[String], path: &[String]) -> Option<Vec<String>> {
        self.resolve(from, path, 0)
    }

    fn resolve(&self, from: &[String], path: &[String], depth: usize) -> Option<Vec<String>> {
        if depth > 8 {
            return None;
        }
        let mut module = from.to_vec();
        let mut rest = path;
        match rest.first().map(String::as_str) {
            Some("crate") => {
                module.clear();
                rest = &rest[1..];
            }
            Some("self") => rest = &rest[1..],
            Some("super") => {}
            Some(first) => {
                module.push(first.to_owned());
                if !self.0.contains_key(&module) {
                    return None;
                }
                rest = &rest[1..];
            }
            None => return None,
        }
        while rest.first().is_some_and(|segment| segment == "super") {
            module.pop();
            rest = &rest[1..];
        }
        while let Some((first, tail)) = rest.split_first() {
            let inner = [&module[..], std::slice::from_ref(first)].concat();
            if self.0.contains_key(&inner) {
                module = inner;
                rest = tail;
                continue;
            }
            let here = self.0.get(&module)?;
            let given = here.iter().find(|import| import.public && &import.name == first);
            if let Some(import) = given {
                let target = [&import.path[..], tail].concat();
                return self.resolve(&module, &target, depth + 1).or(Some(module));
            }
            break;
        }
        self.0.contains_key(&module).then_some(module)
    }
}
