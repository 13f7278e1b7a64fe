//! `ftrace_init()`: calls of `__fentry__` become nops, until a function is traced.
//!
//! The nop is the one of five bytes that is one instruction (`ftrace_nop_replace()`, arch/x86/kernel/ftrace.c).

use super::decision::{Kind, Reason};
use super::guess::{Forms, Guess};
use super::passes::Pass;
use super::run::{Run, row_error};
use crate::error::Result;
use crate::insn::{self, CALL, CALL_LEN};

pub(super) fn apply(run: &mut Run<'_>) -> Result<()> {
    let nop = run.rules.nop5(run.memory.bits(), run.boot.nops);
    for (row, &address) in (0..).zip(&run.tables.mcount) {
        if !run.runs(address) {
            continue;
        }
        let placed = |error| row_error(error, Pass::Mcount, row, address);
        if let Some(trampoline) = attached(run, address) {
            let call = insn::call(address, trampoline);
            run.poke(Pass::Mcount, row, address, &call, Kind::Called, Reason::HidBpf).map_err(placed)?;
            let hid_bpf = run.landmarks.hid_bpf.clone();
            for (list, tracer) in hid_bpf.iter().flat_map(|held| held.tracer_calls.iter().map(|&at| (held.list, at))) {
                if run.memory.from(tracer).first() == Some(&CALL) {
                    run.poke(Pass::Mcount, row, tracer, &insn::call(tracer, list), Kind::Called, Reason::HidBpf)?;
                }
            }
            continue;
        }
        let here = run.memory.read(address, CALL_LEN).map_err(placed)?;
        if here[0] == CALL || here == nop {
            run.poke(Pass::Mcount, row, address, &nop, Kind::Nopped, Reason::NotTraced).map_err(placed)?;
        } else {
            // ftrace stops with an error here, and leaves the rest as it is.
            run.keep(Pass::Mcount, row, address, Reason::NotFound);
        }
    }
    Ok(())
}

/// The trampoline that HID-BPF attached at this place.
fn attached(run: &Run<'_>, address: u64) -> Option<u64> {
    run.boot.hid_bpf.filter(|_| run.landmarks.hid_bpf.as_ref().is_some_and(|held| held.is_head(address)))
}

/// Notes what HID-BPF may attach, where nobody says.
pub(super) fn guesses(run: &mut Run<'_>) {
    let tables = run.tables;
    let Some(held) = run.landmarks.hid_bpf.clone().filter(|_| run.boot.hid_bpf.is_none()) else { return };
    let Some((row, &head)) = (0..).zip(&tables.mcount).find(|&(_, &address)| held.is_head(address)) else { return };
    if run.runs(head) {
        run.plan.guess(Guess { address: head, len: 5, pass: Pass::Mcount, row, forms: Forms::StaticCall });
    }
    for &tracer in &held.tracer_calls {
        if run.runs(tracer)
            && let [CALL, built @ ..] = run.memory.from(tracer)
            && let Some(built) = built.get(..4).map(<[u8]>::to_vec)
        {
            let listed = insn::call(tracer, held.list);
            let forms = run.plan.either(&built, &listed[1..]);
            run.plan.guess(Guess { address: tracer + 1, len: 4, pass: Pass::Mcount, row, forms });
        }
    }
}
