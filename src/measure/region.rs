//! A region: one form's sites, laid out as in a kernel and patched as a kernel is, and the programs that run them.
//!
//! Each region is a small kernel of its own: `pv_ops`, thunks, functions, code with sites, and tables that list the sites.
//! It is built as a compiler and objtool leave a kernel, and then 6.1's passes ([`crate::plan::Run`]) go over it on the
//! machine that makes the form ([`super::form`]).

use super::assemble::{Assembler, Counter, LFENCE};
use super::form::{Built, Form, OPS};
use crate::error::Result;
use crate::image::Bits;
use crate::insn::INT3;
use crate::plan::{Landmarks, LoadedCode, Rules, Run};
use crate::sites::{AddressTable, Alternative, AlternativeTable, ParavirtTable, Site, Tables, alternatives, paravirt};

/// Sites in one turn of the loop that stays warm; the other program has twice as many.
pub const UNROLLED: usize = 32;
/// Distinct sites, as in a kernel: Debian's 6.1 has 3,848.
pub const DISTINCT: usize = 4096;
/// Bytes from one distinct site to the next.
const APART: u64 = 128;
/// Sites that are run once each, cold.
pub const COLD: usize = 64;

/// The programs of a region, by offset.
#[derive(Debug, Clone, Default)]
pub struct Programs {
    /// [`UNROLLED`] sites back to back, and twice as many.
    pub warm: [usize; 2],
    /// The same with a fence behind each.
    pub serialised: [usize; 2],
    /// [`DISTINCT`] sites, one after the other, in code that has no other branch.
    pub distinct: usize,
    /// One site each.
    pub cold: Vec<usize>,
    /// What the sites share, and reach by a branch or a load: ops, thunks, functions. Offset and length.
    pub shared: (usize, usize),
}

/// A region, patched.
pub struct Region {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Its programs.
    pub programs: Programs,
    /// What stands at a site.
    pub site: Vec<u8>,
    /// Where that site is.
    pub site_address: u64,
}

/// An alternative whose replacement is laid down behind the code.
enum Replacement {
    /// This code.
    Code(&'static [u8]),
    /// A jump to this address.
    Jump(u64),
}

struct Builder {
    form: Form,
    code: Assembler,
    base: u64,
    ops: u64,
    thunks: u64,
    return_thunk: u64,
    functions: Vec<u64>,
    paravirt: Vec<Site>,
    retpolines: Vec<u64>,
    returns: Vec<u64>,
    alternatives: Vec<(u64, u8, u16, bool, Replacement)>,
    first: Option<u64>,
}

/// The region of a form, to run at this address.
pub fn build(form: Form, base: u64, counter: Counter) -> Result<Region> {
    let mut builder = Builder::new(form, base);
    let programs = builder.programs(counter);
    builder.patched(programs)
}

impl Builder {
    fn new(form: Form, base: u64) -> Builder {
        let mut builder = Builder {
            form,
            code: Assembler::new(base),
            base,
            ops: base,
            thunks: 0,
            return_thunk: 0,
            functions: Vec::new(),
            paravirt: Vec::new(),
            retpolines: Vec::new(),
            returns: Vec::new(),
            alternatives: Vec::new(),
            first: None,
        };
        builder.code.put(&[0; 8 * OPS]);
        builder.thunks = builder.code.align(64);
        // __x86_indirect_thunk_array: only %rax's is ever reached; 32 bytes each.
        builder.return_thunk = builder.thunks + 32 * 16;
        builder.code.retpoline();
        builder.ret();
        while builder.code.here() < builder.return_thunk {
            builder.code.put(&[INT3]);
        }
        builder.code.put(&[crate::insn::RET, INT3]); // __x86_return_thunk where nothing is to be untrained
        for op in 0..OPS {
            let function = builder.code.align(64);
            builder.ret();
            let held = match form.saved() {
                None => function,
                Some(registers) => {
                    let thunk = builder.code.align(16);
                    builder.code.keeping(registers, function);
                    builder.ret();
                    thunk
                }
            };
            builder.functions.push(held);
            builder.code.patch(builder.ops + 8 * op as u64, &held.to_le_bytes());
        }
        builder
    }

    /// A return as it is built: a jump to the thunk.
    fn ret(&mut self) {
        self.returns.push(self.code.here());
        self.code.jmp(self.return_thunk);
    }

    fn site(&mut self, op: usize) {
        let address = self.code.here();
        self.first.get_or_insert(address);
        match self.form.built() {
            Built::Nothing => {}
            Built::Paravirt(inlined) => {
                let slot = self.ops + 8 * op as u64;
                self.code.put(&[0xff, 0x15]);
                self.code.put(&(slot.wrapping_sub(address + 6) as u32).to_le_bytes());
                let op_type = op as u8;
                let site =
                    Site { address, offset: 0, section: 0, op_type, len: 6, clobbers: None, branch: None, bare: false };
                self.paravirt.push(site);
                if !inlined.is_empty() {
                    self.alternatives.push((address, 6, Form::XENPV, true, Replacement::Code(inlined)));
                }
            }
            Built::Thunk => {
                self.retpolines.push(address);
                self.code.call(self.thunks);
            }
            Built::CpuHas(skipped) => {
                // Built: to the test of the bit, which no kernel runs once it has patched.
                let no = address + 5 + skipped as u64;
                self.code.jmp(self.return_thunk);
                self.code.put(&vec![INT3; skipped]);
                self.alternatives.push((address, 5, Form::ALWAYS, false, Replacement::Jump(no)));
                self.alternatives.push((address, 5, Form::ASKED, false, Replacement::Code(&[])));
            }
        }
    }

    fn offset(&self) -> usize {
        (self.code.here() - self.base) as usize
    }

    fn programs(&mut self, counter: Counter) -> Programs {
        let mut programs = Programs { shared: (0, self.offset()), ..Programs::default() };
        let target = self.functions[0];
        for (program, times) in [1, 2].into_iter().enumerate() {
            for fenced in [false, true] {
                self.code.align(4096);
                let kind = if fenced { &mut programs.serialised } else { &mut programs.warm };
                kind[program] = (self.code.here() - self.base) as usize;
                let top = self.code.begin(counter, target);
                for _ in 0..UNROLLED * times {
                    self.site(0);
                    if fenced {
                        self.code.put(&LFENCE);
                    }
                }
                self.code.turn(top);
                self.code.end(counter);
            }
        }
        self.code.align(4096);
        programs.distinct = self.offset();
        let top = self.code.begin(counter, target);
        let first = self.code.here().next_multiple_of(APART);
        // Anywhere in the first of two cache lines, as compilers do not align sites.
        let place = |site: usize| first + APART * site as u64 + 4 * (scattered(site) % 11) as u64;
        // Nops from one to the next. A jump would be a branch of ours for each of theirs: twice as many as the sites have,
        // more than some predictors hold where the sites alone are not, and what the jumps then cost would be laid at the
        // sites' door (benches/predictor.rs).
        for site in 0..DISTINCT {
            self.code.nops(place(site));
            self.site(scattered(site) % OPS);
        }
        self.code.nops(place(DISTINCT));
        self.code.turn(top);
        self.code.end(counter);
        self.code.align(4096);
        for site in 0..COLD {
            self.code.align(192);
            programs.cold.push(self.offset());
            // Each calls another op, and no two neighbours in turn: what one fetched is of no use to the next.
            let op = site * 37 % OPS;
            self.code.start(counter, self.functions[op]);
            self.site(op);
            self.code.end(counter);
        }
        programs
    }

    /// Boots the region: its tables through the passes of 6.1.
    fn patched(mut self, programs: Programs) -> Result<Region> {
        let mut rows = Vec::with_capacity(self.alternatives.len());
        for (address, len, feature, inverted, replacement) in std::mem::take(&mut self.alternatives) {
            let at = self.code.here();
            match replacement {
                Replacement::Code(code) => self.code.put(code),
                Replacement::Jump(to) => self.code.jmp(to),
            }
            let replacement_len = (self.code.here() - at) as u8;
            let direct_call = false;
            rows.push(Alternative {
                address,
                replacement: at,
                feature,
                inverted,
                direct_call,
                len,
                replacement_len,
                pad: 0,
            });
        }
        self.code.align(4096);
        let table = |section: &str, sites| AddressTable { section: section.to_owned(), sites };
        let tables = if self.form.patched() {
            Tables {
                paravirt: Some(ParavirtTable { layout: paravirt::Layout::of_2007(Bits::B64), sites: self.paravirt }),
                alternatives: Some(AlternativeTable { layout: alternatives::Layout::of_2007(Bits::B64), rows }),
                retpolines: table(".retpoline_sites", self.retpolines),
                returns: table(".return_sites", self.returns),
                ..Tables::default()
            }
        } else {
            // Nothing patches the calls; returns are what they are on the same machine otherwise.
            Tables { returns: table(".return_sites", self.returns), ..Tables::default() }
        };
        let landmarks = Landmarks {
            text: (self.base, self.code.here()),
            indirect_thunks: Some(self.thunks),
            return_thunk: Some(self.return_thunk),
            ..Landmarks::default()
        };
        let boot = self.form.machine(&self.functions, self.return_thunk);
        let built = self.code.finish();
        let memory = LoadedCode::new(Bits::B64, [(self.base, built.as_slice())]);
        let data = |_, _| None;
        let (_, memory) = Run::new(memory, &tables, &landmarks, &boot, Rules::by_name("6.1")?, &data).all()?;
        let bytes = memory.from(self.base).to_vec();
        let site_address = self.first.unwrap_or(self.base);
        let len = match self.form.built() {
            Built::Nothing => 0,
            Built::Paravirt(_) => 6,
            Built::Thunk | Built::CpuHas(_) => 5,
        };
        let at = (site_address - self.base) as usize;
        Ok(Region { site: bytes[at..at + len].to_vec(), bytes, programs, site_address })
    }
}

/// Numbers that look like no sequence, the same ones each time (Knuth's multiplicative hash).
fn scattered(number: usize) -> usize {
    (number as u32).wrapping_mul(2_654_435_761) as usize >> 16
}

#[cfg(test)]
mod tests {
    use super::super::form::FORMS;
    use super::*;
    use crate::insn::disassemble;

    const BASE: u64 = 0x7f00_0000_0000;
    /// Bytes of the longest instruction: as many lines at most say how one that was cut is no instruction.
    const INSN_LONGEST: usize = 15;

    fn region(form: Form) -> Region {
        build(form, BASE, Counter::Tsc).expect("6.1 patches it")
    }

    fn instructions(region: &Region, from: usize, to: usize) -> Vec<String> {
        let code = &region.bytes[from..to];
        disassemble(Bits::B64, BASE + from as u64, code, &|_| None).into_iter().map(|line| line.text).collect()
    }

    #[test]
    fn the_passes_leave_each_form_what_it_is_named_for() {
        let leaves = |form| region(form).site;
        assert_eq!(leaves(Form::Empty), b"");
        assert_eq!(leaves(Form::Nop6), b"\x66\x0f\x1f\x44\x00\x00");
        assert_eq!(leaves(Form::Inline), b"\x9c\x58\x0f\x1f\x40\x00");
        assert_eq!(leaves(Form::InlineUnlock), b"\xc6\x07\x00\x0f\x1f\x00");
        assert_eq!(leaves(Form::DirectCall)[0], 0xe8);
        assert_eq!(leaves(Form::DirectCall)[5], 0x90);
        assert_eq!(leaves(Form::IndirectCall)[..2], *b"\xff\x15");
        assert_eq!(leaves(Form::Retpoline)[0], 0xe8);
        assert_eq!(leaves(Form::RegisterCall), b"\xff\xd0\x0f\x1f\x00");
        assert_eq!(leaves(Form::LfenceCall), b"\x0f\xae\xe8\xff\xd0");
        assert_eq!(leaves(Form::Alternative), b"\x0f\x1f\x44\x00\x00");
        assert_eq!(leaves(Form::JumpOver), b"\xeb\x13\x0f\x1f\x00");
    }

    #[test]
    fn all_sites_of_a_region_are_patched_alike() {
        for form in FORMS {
            let Region { bytes, programs, site, .. } = region(form);
            // Branches differ in where they go: by their first byte or two.
            let looks = &site[..site.len().min(if matches!(site.first(), Some(0xe8)) { 1 } else { 2 })];
            let [start, end] = [programs.distinct, programs.cold[0]];
            let code = disassemble(Bits::B64, BASE + start as u64, &bytes[start..end], &|_| None);
            let found = code.iter().filter(|line| bytes[start + line.offset..].starts_with(looks)).count();
            assert!(site.is_empty() || found >= DISTINCT, "{form:?}: {found}");
            let built = bytes[start..end].windows(2).filter(|pair| *pair == b"\xff\x15").count();
            assert!(form == Form::IndirectCall || built < 8, "{form:?}: {built} sites as built");
        }
    }

    #[test]
    fn programs_are_instructions_from_start_to_end_and_hold_nothing_privileged() {
        for form in FORMS {
            let region = region(form);
            let [first, second] = region.programs.warm;
            for start in [first, second, region.programs.distinct].into_iter().chain(region.programs.serialised) {
                let code = instructions(&region, start, start + 2048 + INSN_LONGEST);
                // Up to the end, or to where the last instruction of the window may be cut short.
                let last = instructions(&region, start, start + 2048).len() - INSN_LONGEST;
                let end = code.iter().position(|text| text == "ret").map_or(last, |at| at + 1);
                for text in &code[..end] {
                    assert!(!["(bad)", "cli", "sti", "hlt", "ud2"].contains(&text.as_str()), "{form:?}: {text}");
                }
                assert_eq!(code[..2], ["push %rbx", "push %r12"], "{form:?}");
            }
        }
    }

    #[test]
    fn return_thunks_are_jumped_to_only_where_they_are_wanted() {
        for (form, wanted) in [(Form::DirectCall, false), (Form::ReturnThunk, true), (Form::IndirectCall, false)] {
            let region = region(form);
            let code = instructions(&region, 8 * OPS, region.programs.shared.1);
            assert_eq!(code.iter().any(|text| text.starts_with("jmp")), wanted, "{form:?}");
        }
    }

    #[test]
    fn a_save_thunk_keeps_as_many_registers_as_its_name_says() {
        for (form, kept) in [(Form::SaveThunk4, 4), (Form::SaveThunk8, 8)] {
            let region = region(form);
            let code = instructions(&region, 8 * OPS, region.programs.shared.1);
            let count = |what: &str| code.iter().filter(|text| text.starts_with(what)).count();
            assert_eq!((count("push"), count("pop")), (OPS * kept, OPS * kept));
        }
    }

    #[test]
    fn a_stand_in_is_as_long_as_what_it_stands_for() {
        for form in FORMS {
            if let Some(code) = form.stand_in() {
                assert_eq!(form.inlines().map(|(_, native)| native.len()), Some(code.len()));
            }
        }
    }
}
