//! The few instructions that measuring needs, encoded: the frame of a program that reads a clock, runs something a number
//! of times, and reads the clock again.
//!
//! Registers while a program runs: `%rbx` turns to go, `%r12` the clock at the start, `%rdi` scratch memory of the caller,
//! `%rax` the function that sites reach through a register. All sites leave them alone but `%rax`, which an inlined
//! `save_fl` may have: none of its sites calls through it.

use crate::insn::{CALL_LEN, INT3, call, jmp};

/// `lfence`: nothing behind it begins before all before it is done.
pub const LFENCE: [u8; 3] = [0x0f, 0xae, 0xe8];
/// `add %rdx,%rax`: register to register, as some CPUs do additions of small constants without taking a cycle.
pub const ADD: [u8; 3] = [0x48, 0x01, 0xd0];
/// `imul %rdx,%rax`: three cycles on every x86-64 CPU of the last fifteen years.
pub const IMUL: [u8; 4] = [0x48, 0x0f, 0xaf, 0xc2];

/// What a program reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counter {
    /// `rdtsc`.
    Tsc,
    /// `rdpmc` of this counter.
    Pmc(u32),
}

/// Code at its address, growing.
pub struct Assembler {
    base: u64,
    bytes: Vec<u8>,
}

impl Assembler {
    /// Nothing yet; the first byte will be at this address.
    pub fn new(base: u64) -> Assembler {
        Assembler { base, bytes: Vec::new() }
    }

    /// The address of the next byte.
    pub fn here(&self) -> u64 {
        self.base + self.bytes.len() as u64
    }

    /// Adds these bytes.
    pub fn put(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Adds a call of an address.
    pub fn call(&mut self, target: u64) {
        let code = call(self.here(), target);
        self.put(&code);
    }

    /// Adds a jump to an address.
    pub fn jmp(&mut self, target: u64) {
        let code = jmp(self.here(), target);
        self.put(&code);
    }

    /// Fills with `int3` up to an address.
    pub fn fill(&mut self, address: u64) {
        self.bytes.resize((address - self.base) as usize, INT3);
    }

    /// Fills with `int3` to a multiple, and returns the address there.
    pub fn align(&mut self, to: u64) -> u64 {
        self.fill(self.here().next_multiple_of(to));
        self.here()
    }

    /// Fills with nops up to an address.
    pub fn nops(&mut self, address: u64) {
        let start = self.bytes.len();
        self.bytes.resize((address - self.base) as usize, 0);
        crate::insn::X86_NOPS.fill(&mut self.bytes[start..]);
    }

    /// Fills with nops, as a loop is entered from above.
    pub fn align_with_nops(&mut self, to: u64) -> u64 {
        self.nops(self.here().next_multiple_of(to));
        self.here()
    }

    /// Writes over what is at an address.
    pub fn patch(&mut self, address: u64, bytes: &[u8]) {
        let at = (address - self.base) as usize;
        self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
    }

    /// All of it.
    pub fn finish(self) -> Vec<u8> {
        self.bytes
    }

    /// Begins a program: keeps what a callee keeps, `%rsi` turns to go, `%rax` the address of `target`, `%rdx` one.
    /// The clock is read last. Ends at the top of the loop, which [`Assembler::turn`] closes.
    pub fn begin(&mut self, counter: Counter, target: u64) -> u64 {
        self.start(counter, target);
        self.align_with_nops(64)
    }

    /// The same for a program that runs once: nothing is aligned.
    pub fn start(&mut self, counter: Counter, target: u64) {
        self.put(&[0x53, 0x41, 0x54]); // push %rbx; push %r12
        self.put(&[0x48, 0x89, 0xf3]); // mov %rsi,%rbx
        self.clock(counter);
        self.put(&[0x49, 0x89, 0xc4]); // mov %rax,%r12
        self.put(&[0x48, 0xb8]); // movabs $target,%rax
        self.put(&target.to_le_bytes());
        self.put(&[0xba, 1, 0, 0, 0]); // mov $1,%edx
    }

    /// Closes the loop.
    pub fn turn(&mut self, top: u64) {
        self.put(&[0x48, 0xff, 0xcb]); // dec %rbx
        let distance = top.wrapping_sub(self.here() + 6) as u32;
        self.put(&[0x0f, 0x85]); // jnz
        self.put(&distance.to_le_bytes());
    }

    /// Ends a program: reads the clock, and returns the difference.
    pub fn end(&mut self, counter: Counter) {
        self.clock(counter);
        self.put(&[0x4c, 0x29, 0xe0]); // sub %r12,%rax
        self.put(&[0x41, 0x5c, 0x5b, 0xc3]); // pop %r12; pop %rbx; ret
    }

    /// The clock, in `%rax`, when all before is done and before anything behind begins.
    fn clock(&mut self, counter: Counter) {
        self.put(&LFENCE);
        match counter {
            Counter::Tsc => self.put(&[0x0f, 0x31]), // rdtsc
            Counter::Pmc(number) => {
                self.put(&[0xb9]); // mov $number,%ecx
                self.put(&number.to_le_bytes());
                self.put(&[0x0f, 0x33]); // rdpmc
            }
        }
        self.put(&[0x48, 0xc1, 0xe2, 32, 0x48, 0x09, 0xd0]); // shl $32,%rdx; or %rdx,%rax
        self.put(&LFENCE);
    }

    /// Functions that keep the first `registers` of `%rcx %rdx %rsi %rdi %r8 … %r11` around a call
    /// (`PV_CALLEE_SAVE_REGS_THUNK`, arch/x86/include/asm/paravirt.h). Ends before the return.
    pub fn keeping(&mut self, registers: usize, function: u64) {
        const PUSHES: [&[u8]; 8] =
            [b"\x51", b"\x52", b"\x56", b"\x57", b"\x41\x50", b"\x41\x51", b"\x41\x52", b"\x41\x53"];
        const POPS: [&[u8]; 8] =
            [b"\x59", b"\x5a", b"\x5e", b"\x5f", b"\x41\x58", b"\x41\x59", b"\x41\x5a", b"\x41\x5b"];
        PUSHES.iter().take(registers).for_each(|push| self.put(push));
        self.call(function);
        POPS.iter().take(registers).rev().for_each(|pop| self.put(pop));
    }

    /// `__x86_indirect_thunk_rax`: a retpoline (`RETPOLINE`, arch/x86/lib/retpoline.S). Ends before the return.
    pub fn retpoline(&mut self) {
        let behind = self.here() + CALL_LEN as u64 + 1;
        self.call(behind);
        self.put(&[INT3]);
        self.put(&[0x48, 0x89, 0x04, 0x24]); // mov %rax,(%rsp)
    }
}
