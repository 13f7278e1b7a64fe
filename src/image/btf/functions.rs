//! Functions and what they take and return.

use std::collections::{HashMap, HashSet};

use super::{Btf, Type, TypeId, kind};
use crate::numbers::u32_at;

/// Types lie no deeper in each other than this, or are taken for the same.
const DEEPEST: u32 = 16;

impl<'a> Btf<'a> {
    /// The prototypes of functions of these names; several, where several files have one of that name.
    pub fn prototypes(&self, names: &HashSet<&str>) -> HashMap<&'a str, Vec<TypeId>> {
        let mut found: HashMap<&str, Vec<TypeId>> = HashMap::new();
        for id in (1..).map(TypeId).take(self.len()) {
            let Ok(function) = self.get(id) else { continue };
            if function.kind == kind::FUNCTION
                && let Ok(name) = self.string(function.name)
                && names.contains(name)
            {
                found.entry(name).or_default().push(TypeId(function.value));
            }
        }
        found
    }

    /// The prototype that a pointer is to; nothing, where it is to something else.
    pub fn pointed(&self, pointer: TypeId) -> Option<TypeId> {
        let (_, pointer) = self.plain(pointer)?;
        let (id, to) = self.plain(TypeId(pointer.value)).filter(|_| pointer.kind == kind::PTR)?;
        (to.kind == kind::PROTOTYPE).then_some(id)
    }

    /// Whether two prototypes take and return the same: their parameters' names aside, and what a pointer says of what it
    /// is to that nobody named.
    pub fn same_prototype(&self, one: TypeId, other: TypeId) -> bool {
        self.same(one, other, 0)
    }

    /// A type without its names and qualifiers; `void` is none.
    fn plain(&self, mut id: TypeId) -> Option<(TypeId, Type)> {
        for _ in 0..DEEPEST {
            let found = self.get(id).ok()?;
            match found.kind {
                kind::TYPEDEF | kind::VOLATILE | kind::CONST | kind::RESTRICT | kind::TYPE_TAG => {
                    id = TypeId(found.value);
                }
                _ => return Some((id, found)),
            }
        }
        None
    }

    fn same(&self, one: TypeId, other: TypeId, depth: u32) -> bool {
        if one == other || depth > DEEPEST {
            return true;
        }
        let ((one, a), (other, b)) = match (self.plain(one), self.plain(other)) {
            (Some(a), Some(b)) => (a, b),
            (None, None) => return true,
            _ => return false,
        };
        if one == other {
            return true;
        }
        let named = |a: &Type, b: &Type| self.string(a.name).ok() == self.string(b.name).ok();
        match (a.kind, b.kind) {
            (kind::PTR, kind::PTR) => self.same(TypeId(a.value), TypeId(b.value), depth + 1),
            (kind::PROTOTYPE, kind::PROTOTYPE) => {
                let parameters = |of: &Type| -> Option<Vec<TypeId>> {
                    (0..of.count).map(|i| u32_at(self.types, of.rest + 8 * i + 4).map(TypeId)).collect()
                };
                let (Some(these), Some(those)) = (parameters(&a), parameters(&b)) else { return false };
                these.len() == those.len()
                    && self.same(TypeId(a.value), TypeId(b.value), depth + 1)
                    && these.iter().zip(&those).all(|(&one, &other)| self.same(one, other, depth + 1))
            }
            (kind::INT, kind::INT) => a.value == b.value && named(&a, &b),
            // Files disagree about what is in them, and some know the name alone.
            (kind::STRUCT | kind::UNION | kind::FORWARD, kind::STRUCT | kind::UNION | kind::FORWARD)
            | (kind::ENUM | kind::ENUM64, kind::ENUM | kind::ENUM64) => named(&a, &b),
            (a, b) => a == b,
        }
    }
}

/// What functions of a kernel take and return.
pub struct Prototypes<'a> {
    btf: &'a Btf<'a>,
    by_name: HashMap<&'a str, Vec<TypeId>>,
}

impl<'a> Prototypes<'a> {
    /// Those of functions of these names.
    pub fn of(btf: &'a Btf<'a>, names: &HashSet<&str>) -> Prototypes<'a> {
        Prototypes { btf, by_name: btf.prototypes(names) }
    }

    /// Whether a function of one name may stand where one of another does, as far as is known of both.
    pub fn agree(&self, one: &str, other: &str) -> bool {
        let (Some(these), Some(those)) = (self.by_name.get(one), self.by_name.get(other)) else { return true };
        these.iter().any(|&one| those.iter().any(|&other| self.btf.same_prototype(one, other)))
    }

    /// Whether a function of that name may be where a pointer to such is, as far as is known.
    pub fn fits(&self, name: &str, prototype: TypeId) -> bool {
        self.by_name.get(name).is_none_or(|all| all.iter().any(|&one| self.btf.same_prototype(one, prototype)))
    }
}
