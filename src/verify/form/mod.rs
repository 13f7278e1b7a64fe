//! The form of a cluster: what its bytes are where everything they hang on is so.
//!
//! Each pass is here a second time, small and for one site, without a plan, a journal or errors: where a kernel would
//! stop, the bytes stay. Shared with [`crate::plan`] are the encoders, the nop tables and how code is moved, no decision.

mod alternatives;
pub(super) mod callthunks;
pub(super) mod cfi;
pub(super) mod its;
mod jump_labels;
mod marks;
mod paravirt;
mod retpolines;
mod returns;
mod static_calls;
mod unlisted;

use super::clusters::{Cluster, SiteMap};
use super::pieces::{Kind, Piece};
use super::state::State;
use crate::plan::Pass;

/// How far a cluster is followed: up to a stage, and within it a row, not included.
type Until = (u8, u32);
const END: Until = (u8::MAX, u32::MAX);

/// The code of a cluster under a pass's hands.
struct Code<'b> {
    start: u64,
    bytes: &'b mut [u8],
}

impl Code<'_> {
    fn at(&mut self, address: u64, len: usize) -> Option<&mut [u8]> {
        let at = usize::try_from(address.checked_sub(self.start)?).ok()?;
        self.bytes.get_mut(at..at.checked_add(len)?)
    }

    fn put(&mut self, address: u64, bytes: &[u8]) {
        if let Some(place) = self.at(address, bytes.len()) {
            place.copy_from_slice(bytes);
        }
    }
}

impl SiteMap<'_> {
    /// The form of a cluster, left in `out`.
    pub(in crate::verify) fn form(&self, cluster: &Cluster, state: &State, out: &mut Vec<u8>) {
        self.follow(cluster, state, END, 0, out, &mut |_, _| {});
    }

    /// The form of a cluster, and for each byte the pass that changed it last: its number among [`PASSES`], 255 for none.
    pub(in crate::verify) fn attributed(
        &self,
        cluster: &Cluster,
        state: &State,
        out: &mut Vec<u8>,
        owners: &mut Vec<u8>,
    ) {
        owners.clear();
        owners.resize(cluster.len as usize, u8::MAX);
        if let ([only], false) = (self.pieces(cluster), self.counts(state)) {
            self.form(cluster, state, out);
            owners.fill(number(only.kind.pass()));
            return;
        }
        let mut before = Vec::new();
        self.follow(cluster, state, END, 0, out, &mut |pass, bytes| {
            if let Some(pass) = pass {
                for (i, (was, is)) in before.iter().zip(bytes).enumerate() {
                    if was != is {
                        owners[i] = number(pass);
                    }
                }
            }
            before.clear();
            before.extend_from_slice(bytes);
        });
    }

    fn follow(
        &self,
        cluster: &Cluster,
        state: &State,
        until: Until,
        depth: u8,
        out: &mut Vec<u8>,
        seen: &mut dyn FnMut(Option<Pass>, &[u8]),
    ) {
        let built = self.code.from(cluster.start);
        out.clear();
        out.extend_from_slice(&built[..built.len().min(cluster.len as usize)]);
        seen(None, out);
        // Counting comes between two pieces, or behind all.
        let mut uncounted = self.counts(state);
        for piece in self.pieces(cluster) {
            if uncounted && self.after_counting(piece.stage) {
                uncounted = false;
                self.count(cluster, state, out);
                seen(Some(Pass::CallSites), out);
            }
            let row = if let Kind::Alternatives { first, .. } = piece.kind { first } else { 0 };
            if (piece.stage, row) >= until {
                return;
            }
            self.apply(piece, state, depth, &mut Code { start: cluster.start, bytes: out });
            seen(Some(piece.kind.pass()), out);
        }
        if uncounted {
            self.count(cluster, state, out);
            seen(Some(Pass::CallSites), out);
        }
    }

    fn apply(&self, piece: &Piece, state: &State, depth: u8, code: &mut Code<'_>) {
        match piece.kind {
            Kind::Paravirt { slot, .. } => {
                if let Some(site) = code.at(piece.address, piece.len.into()) {
                    self.op(slot, state, piece.address, state.slots[usize::from(slot)], site);
                }
            }
            Kind::Alternatives { first, count } => self.alternatives(first as usize, count.into(), state, depth, code),
            Kind::Retpoline(row) => self.branch_form(row, piece.address, state, code),
            Kind::Return(_) => self.return_form(piece.address, piece.len, state, code),
            Kind::Endbr(_) => self.endbr(piece.address, state, code),
            Kind::Preamble(_) => self.preamble(piece.address, state, code),
            Kind::CheckedEndbr(_) => self.checked_endbr(piece.address, state, code),
            Kind::CfiCaller(_) => self.caller(piece.address, state, code),
            Kind::SealedHash(_) => self.poison_cfi(piece.address, state, code),
            Kind::Lock(_) => self.lock(piece.address, state, code),
            Kind::Mcount(_) => self.fentry(piece.address, state, code),
            Kind::TracerCall(_) => self.tracer_call(piece.address, state, code),
            Kind::Jump { row, key } => {
                let (bytes, len) = self.jump_label(row, state.keys[usize::from(key)], state);
                code.put(piece.address, &bytes[..len]);
            }
            Kind::Call { row, key } => self.call(piece, row, key, state, code),
            Kind::Trampoline { key, .. } => self.trampoline(piece.address, key, state, code),
            Kind::Constant { table, .. } => {
                let bytes = state.constants[usize::from(table)].to_le_bytes();
                code.put(piece.address, &bytes[..piece.len.into()]);
            }
            Kind::XenIret => self.xen_iret(state, code),
            Kind::XenStub(number) => {
                if state.xen {
                    code.put(piece.address, unlisted::stub(number).as_slice());
                }
            }
        }
    }
}

/// The passes by number.
pub(super) const PASSES: [Pass; 15] = [
    Pass::Paravirt,
    Pass::Alternatives,
    Pass::Cfi,
    Pass::CfiCallers,
    Pass::Retpolines,
    Pass::Returns,
    Pass::Ibt,
    Pass::SmpLocks,
    Pass::CallSites,
    Pass::Mcount,
    Pass::JumpLabels,
    Pass::StaticCalls,
    Pass::Trampolines,
    Pass::RuntimeConst,
    Pass::Unlisted,
];

pub(super) fn number(pass: Pass) -> u8 {
    PASSES.iter().position(|&p| p == pass).map_or(u8::MAX, |at| at as u8)
}
