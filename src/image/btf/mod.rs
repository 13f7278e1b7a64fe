//! BTF, the kernel's description of its own types (section `.BTF`, `CONFIG_DEBUG_INFO_BTF`, since 5.2).
//!
//! ```c
//! /* include/uapi/linux/btf.h; everything little-endian on x86 */
//! struct btf_header {
//!     __u16 magic;                /* 0xeb9f */
//!     __u8  version;              /* 1 */
//!     __u8  flags;
//!     __u32 hdr_len;              /* 24; 32 since 7.1 */
//!     __u32 type_off, type_len;   /* from the end of the header */
//!     __u32 str_off, str_len;
//!     __u32 layout_off, layout_len; /* since 7.1: sizes of the kinds, for readers that do not know them all */
//! };
//! struct btf_type {
//!     __u32 name_off;             /* in the strings */
//!     __u32 info;                 /* vlen: 16 bits, 24 since 7.1; kind: bits 24 to 28, 30 since 7.1; kind_flag: bit 31 */
//!     union { __u32 size; __u32 type; };
//! };                              /* more words follow, by kind */
//! struct btf_layout { __u8 info_sz; __u8 elem_sz; __u16 flags; }; /* one a kind: bytes once, and bytes times vlen */
//! ```
//!
//! The bits that 7.1 gave to vlen and kind were zero before, so one reading serves all. Type ids count from 1 in the
//! order of the section; 0 is `void`.

mod flatten;
pub mod functions;

use std::sync::{Arc, OnceLock};

use super::text;
use crate::error::{Error, Result};
use crate::numbers::u32_at;

/// Number of a type; 0 is `void`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TypeId(pub u32);

/// More types than any kernel has (about 125,000 in a distribution's; `BTF_MAX_TYPE` is 0xfffff).
pub const MAX_TYPES: usize = 1 << 20;

/// Names are shorter than this (`KSYM_NAME_LEN`, by `__btf_name_valid` in kernel/bpf/btf.c).
const MAX_NAME: usize = 512;

/// One member of a structure or union.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member<'a> {
    /// Its name; empty for an anonymous structure or union.
    pub name: &'a str,
    /// Where it starts, in bits.
    pub bit_offset: u32,
    /// How many bits it has, if it is a bit field; else 0. Old encoders put this into the type instead.
    pub bit_size: u8,
    /// Its type.
    pub type_id: TypeId,
}

/// The kinds of types (`BTF_KIND_*`) that matter here.
mod kind {
    pub const INT: u8 = 1;
    pub const PTR: u8 = 2;
    pub const ARRAY: u8 = 3;
    pub const STRUCT: u8 = 4;
    pub const UNION: u8 = 5;
    pub const ENUM: u8 = 6;
    pub const FORWARD: u8 = 7;
    pub const TYPEDEF: u8 = 8;
    pub const VOLATILE: u8 = 9;
    pub const CONST: u8 = 10;
    pub const RESTRICT: u8 = 11;
    pub const FUNCTION: u8 = 12;
    pub const PROTOTYPE: u8 = 13;
    pub const TYPE_TAG: u8 = 18;
    pub const ENUM64: u8 = 19;
}

/// Bytes after `struct btf_type`, by kind: once, and for each of `vlen`.
const SIZES: [(u8, u8); 20] = [
    (0, 0), // void, which is never written
    (4, 0), // INT
    (0, 0),
    (12, 0), // ARRAY
    (0, 12), // STRUCT
    (0, 12), // UNION
    (0, 8),  // ENUM
    (0, 0),
    (0, 0),
    (0, 0),
    (0, 0),
    (0, 0),
    (0, 0),
    (0, 8),  // FUNC_PROTO
    (4, 0),  // VAR
    (0, 12), // DATASEC
    (0, 0),
    (4, 0), // DECL_TAG
    (0, 0),
    (0, 12), // ENUM64
];

/// The types of a kernel.
#[derive(Debug, Clone)]
pub struct Btf<'a> {
    types: &'a [u8],
    strings: &'a [u8],
    /// Where each type starts in `types`; the type with id 1 comes first.
    starts: Arc<[u32]>,
}

/// The fixed part of a type.
#[derive(Debug, Clone, Copy)]
struct Type {
    name: u32,
    kind: u8,
    /// Bit 31: the members' offsets hold their bit size too.
    flag: bool,
    count: usize,
    /// Size in bytes, or the type referred to.
    value: u32,
    /// Where what follows it starts in `types`.
    rest: usize,
}

fn error(reason: impl Into<String>) -> Error {
    Error::image(reason).in_section(".BTF")
}

impl<'a> Btf<'a> {
    /// Reads the header and finds where each type starts.
    ///
    /// # Errors
    /// A header that is not BTF version 1, sections that leave the blob, a type cut off or of unknown size, a name
    /// outside the strings.
    pub fn parse(bytes: &'a [u8]) -> Result<Btf<'a>> {
        Btf::parse_again(bytes, &OnceLock::new())
    }

    /// Likewise, of a section that may have been read before: where its types start is kept in `starts`.
    pub(super) fn parse_again(bytes: &'a [u8], starts: &OnceLock<Arc<[u32]>>) -> Result<Btf<'a>> {
        let header = |at: usize| u32_at(bytes, at).map(|n| n as usize).ok_or_else(|| error("header is cut off"));
        if header(0)? & 0x00ff_ffff != 0x0001_eb9f {
            return Err(error("not BTF of version 1 (0xeb9f, little-endian)"));
        }
        let length = header(4)?;
        if length < 24 {
            return Err(error(format!("header of {length} bytes")));
        }
        let section = |what: &str, offset: usize, size: usize| {
            let start = length.checked_add(offset);
            let end = start.and_then(|start| start.checked_add(size));
            start
                .zip(end)
                .and_then(|(start, end)| bytes.get(start..end))
                .ok_or_else(|| error(format!("{what} leave the section")))
        };
        let types = section("types", header(8)?, header(12)?)?;
        let strings = section("strings", header(16)?, header(20)?)?;
        if strings.first() != Some(&0) || strings.last() != Some(&0) {
            return Err(error("strings do not begin and end with a zero"));
        }
        let layout = if length >= 32 { section("layouts", header(24)?, header(28)?)? } else { &[] };
        let starts = match starts.get() {
            Some(known) => Arc::clone(known),
            None => {
                let found = index(types, strings.len(), layout)?;
                Arc::clone(starts.get_or_init(|| found.into()))
            }
        };
        Ok(Btf { types, strings, starts })
    }

    /// How many types there are, without `void`.
    pub fn len(&self) -> usize {
        self.starts.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.starts.is_empty()
    }

    /// The first structure of this name. A kernel may have several, where files disagree about a type.
    pub fn find_struct(&self, name: &str) -> Option<TypeId> {
        let wanted = name.as_bytes();
        (1..).map(TypeId).take(self.starts.len()).find(|&id| {
            let named = |at: u32| {
                let name = self.strings.get(at as usize..).unwrap_or_default();
                name.starts_with(wanted) && name.get(wanted.len()) == Some(&0)
            };
            self.get(id).is_ok_and(|t| t.kind == kind::STRUCT && named(t.name))
        })
    }

    /// The size in bytes of a structure or union.
    ///
    /// # Errors
    /// When the type is something else.
    pub fn size_of(&self, id: TypeId) -> Result<usize> {
        Ok(self.composite(id)?.value as usize)
    }

    /// The members of a structure or union.
    ///
    /// # Errors
    /// When the type is something else, or a member's name is outside the strings.
    pub fn members(&self, id: TypeId) -> Result<Vec<Member<'a>>> {
        let t = self.composite(id)?;
        let member = |i: usize| {
            let word = |n: usize| u32_at(self.types, t.rest + 12 * i + 4 * n);
            let (Some(name), Some(type_id), Some(offset)) = (word(0), word(1), word(2)) else {
                return Err(error("member is cut off").at_row(id.0 as usize));
            };
            let (bit_size, bit_offset) = if t.flag { ((offset >> 24) as u8, offset & 0xff_ffff) } else { (0, offset) };
            Ok(Member { name: self.string(name)?, bit_offset, bit_size, type_id: TypeId(type_id) })
        };
        (0..t.count).map(member).collect()
    }

    fn composite(&self, id: TypeId) -> Result<Type> {
        let t = self.get(id)?;
        if t.kind != kind::STRUCT && t.kind != kind::UNION {
            return Err(error(format!("type is of kind {}, not a structure or union", t.kind)).at_row(id.0 as usize));
        }
        Ok(t)
    }

    fn get(&self, id: TypeId) -> Result<Type> {
        let start = (id.0 as usize).checked_sub(1).and_then(|i| self.starts.get(i));
        start
            .and_then(|&start| type_at(self.types, start as usize))
            .ok_or_else(|| error(format!("there is no type {}, only {}", id.0, self.starts.len())))
    }

    fn string(&self, at: u32) -> Result<&'a str> {
        let rest = self.strings.get(at as usize..).unwrap_or_default();
        let end = rest.iter().take(MAX_NAME).position(|&b| b == 0);
        end.and_then(|end| text::of(&rest[..end])).ok_or_else(|| error(format!("no name at {at:#x} of the strings")))
    }
}

fn type_at(types: &[u8], at: usize) -> Option<Type> {
    let (name, info, value) = (u32_at(types, at)?, u32_at(types, at + 4)?, u32_at(types, at + 8)?);
    let (kind, count) = ((info >> 24 & 0x7f) as u8, (info & 0xff_ffff) as usize);
    Some(Type { name, kind, flag: info >> 31 != 0, count, value, rest: at + 12 })
}

/// Where each type starts, in one pass.
fn index(types: &[u8], strings: usize, layout: &[u8]) -> Result<Vec<u32>> {
    let mut starts = Vec::with_capacity((types.len() / 24).min(MAX_TYPES));
    let mut at = 0;
    while at < types.len() {
        let fail = |reason: String| error(reason).at_row(starts.len() + 1);
        let t = type_at(types, at).ok_or_else(|| fail("type is cut off".into()))?;
        if t.name as usize >= strings {
            return Err(fail(format!("name at {:#x} is outside the strings", t.name)));
        }
        let kind = usize::from(t.kind);
        let known = SIZES.get(kind).filter(|_| kind != 0).copied();
        let listed = || layout.get(4 * kind..4 * kind + 2).filter(|_| kind != 0).map(|l| (l[0], l[1]));
        let (once, each) = known.or_else(listed).ok_or_else(|| fail(format!("type of unknown kind {kind}")))?;
        if starts.len() == MAX_TYPES || at > u32::MAX as usize {
            return Err(fail("more types than any kernel has".into()));
        }
        let end = t.rest + usize::from(once) + usize::from(each) * t.count;
        if end > types.len() {
            return Err(fail("type is cut off".into()));
        }
        starts.push(at as u32);
        at = end;
    }
    Ok(starts)
}
