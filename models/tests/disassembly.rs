//! What stands on the uncontended path, read from the machine code of this very binary.
#![cfg(all(target_arch = "x86_64", not(any(loom, shuttle, miri))))]
#![allow(missing_docs)]

use iced_x86::{
    Decoder, DecoderOptions, FlowControl, Instruction, InstructionInfoFactory, Mnemonic, OpAccess, OpKind, Register,
};
use lock_models::{PvHybridLock, PvTicketLock, RawLock};

#[inline(never)]
fn ticket(lock: &PvTicketLock) {
    RawLock::lock(lock);
    // SAFETY: it was acquired.
    unsafe { RawLock::unlock(lock) };
}

#[inline(never)]
fn hybrid(lock: &PvHybridLock) {
    RawLock::lock(lock);
    // SAFETY: it was acquired.
    unsafe { RawLock::unlock(lock) };
}

/// The instructions that run when no branch is taken (all of them lead to the slow path), up to the return.
fn uncontended_path(function: *const u8) -> Vec<Instruction> {
    let mut path = Vec::new();
    let mut address = function;
    loop {
        // SAFETY: code of this binary, which is mapped with more code behind it; a function ends within a page.
        let code = unsafe { std::slice::from_raw_parts(address, 16) };
        let instruction = Decoder::with_ip(64, code, address as u64, DecoderOptions::NONE).decode();
        path.push(instruction);
        match instruction.flow_control() {
            FlowControl::Return => return path,
            FlowControl::UnconditionalBranch => address = instruction.near_branch_target() as *const u8,
            _ => address = address.wrapping_add(instruction.len()),
        }
        assert!(path.len() < 100, "no return on the uncontended path");
    }
}

/// Locked instructions: the prefix, or an xchg with memory, which locks without.
fn locked(path: &[Instruction]) -> usize {
    let exchanges =
        |i: &Instruction| i.mnemonic() == Mnemonic::Xchg && (0..i.op_count()).any(|op| i.op_kind(op) == OpKind::Memory);
    path.iter().filter(|i| i.has_lock_prefix() || exchanges(i)).count()
}

#[inline(never)]
unsafe fn release_ticket(lock: &PvTicketLock, ticket: u32) {
    // SAFETY: the caller's promise.
    unsafe { RawLock::release(lock, ticket) };
}

#[inline(never)]
unsafe fn release_hybrid(lock: &PvHybridLock, (): ()) {
    // SAFETY: the caller's promise.
    unsafe { RawLock::release(lock, ()) };
}

/// Instructions that load from memory, and those that store to it; but for the stack, and for what is addressed by the
/// instruction pointer: that is the address of the table of slots, which another crate (this one) finds in a constant.
fn loads_and_stores(path: &[Instruction]) -> (usize, usize) {
    let mut factory = InstructionInfoFactory::new();
    let (mut loads, mut stores) = (0, 0);
    for instruction in path {
        let used = factory.info(instruction).used_memory().iter();
        for memory in used.filter(|memory| ![Register::RSP, Register::RIP, Register::None].contains(&memory.base())) {
            loads += usize::from(!matches!(memory.access(), OpAccess::Write | OpAccess::NoMemAccess));
            stores += usize::from(!matches!(memory.access(), OpAccess::Read | OpAccess::NoMemAccess));
        }
    }
    (loads, stores)
}

#[test]
fn a_release_stores_one_word_and_looks_at_one_that_is_not_the_locks_before_anybody_has_waited() {
    // The hybrid's looks at the head of its queue besides: to it it may have to hand over.
    for (name, function, loads) in [
        ("pv-ticket", release_ticket as unsafe fn(&PvTicketLock, u32) as *const u8, 1),
        ("pv-hybrid", release_hybrid as unsafe fn(&PvHybridLock, ()) as *const u8, 2),
    ] {
        let path = uncontended_path(function);
        let listing = path.iter().map(|i| format!("{i}\n")).collect::<String>();
        eprintln!("{name}:\n{listing}");
        assert_eq!(loads_and_stores(&path), (loads, 1), "{name}:\n{listing}");
    }
    let (ticket, hybrid) = (PvTicketLock::new(), PvHybridLock::new());
    let held = RawLock::acquire(&ticket);
    RawLock::acquire(&hybrid);
    // SAFETY: both were acquired.
    unsafe {
        release_ticket(&ticket, held);
        release_hybrid(&hybrid, ());
    }
}

#[test]
fn the_uncontended_path_has_one_locked_instruction_and_no_call_and_no_fence() {
    for (name, function) in [
        ("pv-ticket", ticket as fn(&PvTicketLock) as *const u8),
        ("pv-hybrid", hybrid as fn(&PvHybridLock) as *const u8),
    ] {
        let path = uncontended_path(function);
        let listing = path.iter().map(|i| format!("{i}\n")).collect::<String>();
        assert_eq!(locked(&path), 1, "{name}:\n{listing}");
        let leaves = |i: &Instruction| matches!(i.flow_control(), FlowControl::Call | FlowControl::IndirectCall);
        assert!(!path.iter().any(leaves), "{name}:\n{listing}");
        let fences = [Mnemonic::Mfence, Mnemonic::Lfence, Mnemonic::Sfence, Mnemonic::Syscall];
        assert!(!path.iter().any(|i| fences.contains(&i.mnemonic())), "{name}:\n{listing}");
    }
    ticket(&PvTicketLock::new());
    hybrid(&PvHybridLock::new());
}
