//! Where the members of the kernel's structures are: by BTF; where an image has none, as they are declared.
//!
//! Declared are those that have been at one offset, in words, in all releases that have the structure, whatever was
//! configured, and those that have been at few: then who reads them has to tell which it is.

use crate::error::{Error, Result};
use crate::image::btf::Btf;

/// Structure, member, and its offsets in words of the machine.
const DECLARED: [(&str, &str, &[u64]); 9] = [
    // include/linux/kprobes.h: hlist, list, nmissed, addr, symbol_name, offset, pre_handler, post_handler, ….
    ("kprobe", "hlist", &[0]),
    ("kprobe", "addr", &[5]),
    ("kprobe", "pre_handler", &[8]),
    // Behind `struct arch_specific_insn`, which grew (5.13, and stable releases of 5.10), and `fault_handler`, which went (5.14: ec6aba3d2be1).
    ("kprobe", "flags", &[14, 15, 16]),
    // kernel/trace/ftrace.c and include/linux/ftrace.h.
    ("ftrace_page", "next", &[0]),
    ("ftrace_page", "records", &[1]),
    ("ftrace_page", "index", &[2]),
    ("dyn_ftrace", "ip", &[0]),
    ("dyn_ftrace", "flags", &[1]),
];
/// Those that have other offsets on i386, where four bytes of such a member are a word.
const NARROW: [(&str, &str, &[u64]); 1] = [("kprobe", "flags", &[14, 16, 17])];
/// `struct dyn_ftrace`, in words; its `struct dyn_arch_ftrace` is empty on x86.
const RECORD: u64 = 2;

/// What tells where members are.
pub(crate) struct Members<'a> {
    pub btf: Option<Btf<'a>>,
    pub word: usize,
}

impl Members<'_> {
    /// The offset of a member in bytes; `outer.inner` is a member of a member.
    pub fn offset(&self, of: &str, path: &str) -> Result<u64> {
        match self.offsets(of, path)?[..] {
            [offset] => Ok(offset),
            _ => Err(Error::memory(format!("member {path} of struct {of} was declared at several places"))),
        }
    }

    /// The offsets that a member may have.
    pub fn offsets(&self, of: &str, path: &str) -> Result<Vec<u64>> {
        let Some(btf) = &self.btf else {
            let narrow = NARROW.iter().filter(|_| self.word == 4);
            let declared = narrow.chain(&DECLARED).find(|&&(structure, member, _)| (structure, member) == (of, path));
            let (_, _, words) = declared.ok_or_else(|| {
                Error::memory(format!("the image has no BTF, which says where struct {of} has its {path}"))
            })?;
            return Ok(words.iter().map(|words| words * self.word as u64).collect());
        };
        let missing = || Error::memory(format!("BTF: struct {of} has no member {path}"));
        let mut id = btf.find_struct(of).ok_or_else(|| Error::memory(format!("BTF has no struct {of}")))?;
        let mut offset = 0;
        for name in path.split('.') {
            let members = btf.members(id)?;
            let member = members.iter().find(|member| member.name == name).ok_or_else(missing)?;
            offset += u64::from(member.bit_offset) / 8;
            id = member.type_id;
        }
        Ok(vec![offset])
    }

    /// How many bytes a record of the tracer has.
    pub fn record(&self) -> Result<usize> {
        match &self.btf {
            Some(btf) => btf.find_struct("dyn_ftrace").map_or(Ok(0), |id| btf.size_of(id)),
            None => Ok(RECORD as usize * self.word),
        }
    }

    /// Whether what is read has to be looked at for whether it is such a structure at all.
    pub fn declared(&self) -> bool {
        self.btf.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_of_probes_lie_behind_what_has_halves_of_words_on_x86_64() {
        let at = |word: usize, name: &str| Members { btf: None, word }.offsets("kprobe", name).unwrap();
        assert_eq!((at(8, "flags"), at(4, "flags")), (vec![112, 120, 128], vec![56, 64, 68]));
        assert_eq!((at(8, "addr"), at(4, "addr")), (vec![40], vec![20]));
    }
}
