//! What stands on the uncontended path, read from the machine code of this very binary.
#![cfg(all(target_arch = "x86_64", not(any(loom, shuttle, miri))))]
#![allow(missing_docs)]

use iced_x86::{Decoder, DecoderOptions, FlowControl, Instruction, Mnemonic, OpKind};
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
