//! A structure of structures of function pointers, as a flat list of names and offsets.

use super::{Btf, Type, TypeId, error, kind, u32_at};
use crate::error::{Error, Result};

/// Deeper nesting than any kernel's.
const MAX_DEPTH: usize = 32;
/// Longer than the path to any member.
const MAX_PATH: usize = 1024;
/// More members, array elements and qualifiers on the way than a structure of pointers has.
const MAX_STEPS: usize = 1 << 16;
/// A structure that only wraps a function pointer, to give it another calling convention
/// (arch/x86/include/asm/paravirt_types.h).
const WRAPPER: &str = "paravirt_callee_save";

impl Btf<'_> {
    /// Every pointer of `word` bytes in a structure and the structures in it, with its path (`cpu.io_delay`,
    /// `mmu.lazy_mode.enter`, `table[3].show`) and its offset in bytes, in the order of the members.
    ///
    /// Anonymous structures and unions add nothing to a path; a `struct paravirt_callee_save` counts as the pointer
    /// that it wraps (`irq.save_fl`). What is not a pointer is left out.
    ///
    /// # Errors
    /// No structure of that name; a type that contains itself, leaves the structure, is nested deeper than any
    /// kernel's, or has more members; a pointer that is not at a whole byte.
    pub fn flatten_pointers(&self, struct_name: &str, word: usize) -> Result<Vec<(String, usize)>> {
        let id = self.find_struct(struct_name).ok_or_else(|| error(format!("no struct {struct_name}")))?;
        let mut walk =
            Walk { btf: self, word, size: self.size_of(id)?, inside: Vec::new(), steps: 0, found: Vec::new() };
        walk.composite(id, String::new(), 0).map_err(|mut e| {
            e.reason = format!("struct {struct_name}: {}", e.reason);
            e
        })?;
        Ok(walk.found)
    }
}

struct Walk<'b, 'a> {
    btf: &'b Btf<'a>,
    word: usize,
    /// Size of the outermost structure in bytes.
    size: usize,
    /// The structures, unions and arrays being walked.
    inside: Vec<TypeId>,
    steps: usize,
    found: Vec<(String, usize)>,
}

impl Walk<'_, '_> {
    fn fail(id: TypeId, reason: impl Into<String>) -> Error {
        error(reason).at_row(id.0 as usize)
    }

    fn step(&mut self, id: TypeId) -> Result<()> {
        self.steps += 1;
        if self.steps > MAX_STEPS {
            Err(Self::fail(id, "more members than any structure of pointers has"))
        } else {
            Ok(())
        }
    }

    fn enter(&mut self, id: TypeId) -> Result<()> {
        if self.inside.contains(&id) {
            return Err(Self::fail(id, "type contains itself"));
        }
        if self.inside.len() == MAX_DEPTH {
            return Err(Self::fail(id, "types are nested too deeply"));
        }
        self.inside.push(id);
        Ok(())
    }

    /// The type behind typedefs and qualifiers.
    fn resolve(&mut self, mut id: TypeId) -> Result<Option<(TypeId, Type)>> {
        for _ in 0..MAX_DEPTH {
            if id.0 == 0 {
                return Ok(None);
            }
            self.step(id)?;
            let t = self.btf.get(id)?;
            match t.kind {
                kind::TYPEDEF | kind::VOLATILE | kind::CONST | kind::RESTRICT | kind::TYPE_TAG => id = TypeId(t.value),
                _ => return Ok(Some((id, t))),
            }
        }
        Err(Self::fail(id, "typedefs and qualifiers form a loop"))
    }

    fn composite(&mut self, id: TypeId, path: String, at: usize) -> Result<()> {
        self.enter(id)?;
        for member in self.btf.members(id)? {
            self.step(id)?;
            let separator = if path.is_empty() || member.name.is_empty() { "" } else { "." };
            let path = format!("{path}{separator}{}", member.name);
            if path.len() > MAX_PATH {
                return Err(Self::fail(id, "path of members is too long"));
            }
            self.value(member.type_id, path, at, member.bit_offset, member.bit_size)?;
        }
        self.inside.pop();
        Ok(())
    }

    /// What lies `bits` after `at`.
    fn value(&mut self, id: TypeId, path: String, at: usize, bits: u32, bit_size: u8) -> Result<()> {
        let Some((id, t)) = self.resolve(id)? else { return Err(Self::fail(id, format!("{path} is void"))) };
        if !matches!(t.kind, kind::PTR | kind::ARRAY | kind::STRUCT | kind::UNION) {
            return Ok(());
        }
        if !bits.is_multiple_of(8) || bit_size != 0 {
            return Err(Self::fail(id, format!("{path} is not at a whole byte")));
        }
        let at = at.checked_add(bits as usize / 8).filter(|&at| at <= self.size);
        let at = at.ok_or_else(|| Self::fail(id, format!("{path} lies outside")))?;
        match t.kind {
            kind::PTR => self.pointer(id, path, at),
            kind::ARRAY => self.array(id, t, &path, at),
            _ if self.is_wrapper(t)? => self.pointer(id, path, at),
            _ => self.composite(id, path, at),
        }
    }

    fn pointer(&mut self, id: TypeId, path: String, at: usize) -> Result<()> {
        if self.size - at < self.word {
            return Err(Self::fail(id, format!("{path} lies outside")));
        }
        self.found.push((path, at));
        Ok(())
    }

    fn is_wrapper(&self, t: Type) -> Result<bool> {
        Ok(t.kind == kind::STRUCT && t.value as usize == self.word && self.btf.string(t.name)? == WRAPPER)
    }

    /// `struct btf_array { __u32 type; __u32 index_type; __u32 nelems; }`
    fn array(&mut self, id: TypeId, t: Type, path: &str, at: usize) -> Result<()> {
        let word = |i: usize| u32_at(self.btf.types, t.rest + 4 * i).ok_or_else(|| Self::fail(id, "array is cut off"));
        let (element, count) = (TypeId(word(0)?), word(2)? as usize);
        self.enter(id)?;
        let Some((element, inner)) = self.resolve(element)? else {
            return Err(Self::fail(id, format!("{path} is an array of void")));
        };
        let size = match inner.kind {
            kind::PTR => self.word,
            kind::STRUCT | kind::UNION => inner.value as usize,
            kind::ARRAY => self.array_size(element)?,
            _ => 0,
        };
        // Anything else has no pointers in it.
        for i in 0..if size == 0 { 0 } else { count } {
            self.step(id)?;
            let offset = size.checked_mul(i).and_then(|n| at.checked_add(n)).filter(|&n| n <= self.size);
            let offset = offset.ok_or_else(|| Self::fail(id, format!("{path}[{i}] lies outside")))?;
            self.value(element, format!("{path}[{i}]"), offset, 0, 0)?;
        }
        self.inside.pop();
        Ok(())
    }

    /// The size of an array of arrays, if its elements may have pointers in them; else 0.
    fn array_size(&mut self, mut id: TypeId) -> Result<usize> {
        let mut count = 1_usize;
        for _ in 0..MAX_DEPTH {
            let Some((_, t)) = self.resolve(id)? else { return Ok(0) };
            let size = match t.kind {
                kind::PTR => self.word,
                kind::STRUCT | kind::UNION => t.value as usize,
                kind::ARRAY => {
                    let word = |i: usize| u32_at(self.btf.types, t.rest + 4 * i).unwrap_or(0);
                    count = count.saturating_mul(word(2) as usize);
                    id = TypeId(word(0));
                    continue;
                }
                _ => 0,
            };
            return Ok(count.saturating_mul(size));
        }
        Err(Self::fail(id, "arrays of arrays form a loop"))
    }
}
