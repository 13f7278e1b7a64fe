//! The form of a cluster: what its bytes are under a state of everything that they depend on.
//!
//! Each pass is here a second time, small and for one site, without a plan, a journal or errors: where a kernel would
//! stop, the bytes stay. Shared with [`crate::plan`] are the encoders, the nop tables and how code is moved, no decision.

mod alternatives;
mod callthunks;
mod cfi;
mod code;
mod flags;
mod jump_labels;
mod paravirt;
mod retpolines;
mod returns;
mod static_calls;
mod unlisted;

use code::{ClusterCode, END, Until};

use super::site_map::{Cluster, SiteMap};
use super::state::State;
use super::visit::{Kind, Visit};
use crate::plan::Pass;

/// Forms up to this length, which nearly all have, need no memory of their own.
pub(in crate::verify) const SHORT: usize = 16;

/// Whether two short stretches of code are the same.
pub(in crate::verify) fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && (a.len() > SHORT && a == b || a.len() <= SHORT && a.iter().zip(b).all(|(a, b)| a == b))
}

impl SiteMap<'_> {
    /// The form of a cluster: in `short` where it fits there, and else in `long`.
    pub(in crate::verify) fn form_in<'f>(
        &self,
        cluster: &Cluster,
        state: &State,
        short: &'f mut [u8; SHORT],
        long: &'f mut Vec<u8>,
    ) -> &'f [u8] {
        let len = cluster.len as usize;
        let Some(built) = self.code.from(cluster.start).first_chunk().filter(|_| len <= SHORT && !self.counts(state))
        else {
            self.form(cluster, state, long);
            return long;
        };
        *short = *built;
        let bytes = &mut short[..len];
        for visit in self.visits(cluster) {
            self.apply(visit, state, 0, &mut ClusterCode { start: cluster.start, bytes });
        }
        bytes
    }

    /// The form of a cluster, left in `out`.
    pub(in crate::verify) fn form(&self, cluster: &Cluster, state: &State, out: &mut Vec<u8>) {
        self.follow(cluster, state, END, 0, out, &mut |_, _| {});
    }

    /// The pass that wrote whatever is changed in a cluster, where no other can have.
    pub(in crate::verify) fn only_pass(&self, cluster: &Cluster, state: &State) -> Option<Pass> {
        let (first, rest) = self.visits(cluster).split_first()?;
        let pass = first.kind.pass();
        (!self.counts(state) && rest.iter().all(|visit| visit.kind.pass() == pass)).then_some(pass)
    }

    /// The form of a cluster, and for each byte the pass that changed it last: its number in [`crate::plan::ALL_PASSES`], 255 for none.
    pub(in crate::verify) fn attributed(
        &self,
        cluster: &Cluster,
        state: &State,
        out: &mut Vec<u8>,
        owners: &mut Vec<u8>,
    ) {
        owners.clear();
        owners.resize(cluster.len as usize, u8::MAX);
        let mut before = Vec::new();
        self.follow(cluster, state, END, 0, out, &mut |pass, bytes| {
            if let Some(pass) = pass {
                for (i, (was, is)) in before.iter().zip(bytes).enumerate() {
                    if was != is {
                        owners[i] = pass as u8;
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
        // Counting comes between two visits, or behind all.
        let mut uncounted = self.counts(state);
        for visit in self.visits(cluster) {
            if uncounted && self.after_counting(visit.stage) {
                uncounted = false;
                self.count(cluster, state, out);
                seen(Some(Pass::CallSites), out);
            }
            let row = if let Kind::Alternatives { first, .. } = visit.kind { first } else { 0 };
            if (visit.stage, row) >= until {
                return;
            }
            self.apply(visit, state, depth, &mut ClusterCode { start: cluster.start, bytes: out });
            seen(Some(visit.kind.pass()), out);
        }
        if uncounted {
            self.count(cluster, state, out);
            seen(Some(Pass::CallSites), out);
        }
    }

    fn apply(&self, visit: &Visit, state: &State, depth: u8, code: &mut ClusterCode<'_>) {
        match visit.kind {
            Kind::Paravirt { row, slot } => {
                if let Some(site) = code.at(visit.address, visit.len.into()) {
                    self.op(self.call_of(row, slot, visit), state, state.slots[usize::from(slot)], site);
                }
            }
            Kind::Alternatives { first, count } => self.alternatives(first as usize, count.into(), state, depth, code),
            Kind::Retpoline(row) => self.branch_form(row, visit.address, state, code),
            Kind::Return(_) => self.return_form(visit.address, visit.len, state, code),
            Kind::Endbr(_) => self.endbr(visit.address, state, code),
            Kind::Preamble(_) => self.preamble(visit.address, state, code),
            Kind::CheckedEndbr(_) => self.checked_endbr(visit.address, state, code),
            Kind::CfiCaller(row) => self.caller(row, visit.address, state, code),
            Kind::SealedHash(_) => self.poison_cfi(visit.address + u64::from(visit.len), state, code),
            Kind::Lock(_) => self.lock(visit.address, state, code),
            Kind::Mcount(_) => self.fentry(visit.address, state, code),
            Kind::TracerCall(_) => self.tracer_call(visit.address, state, code),
            Kind::Jump { row, key } => {
                let (bytes, len) = self.jump_label(row, state.keys[usize::from(key)], state);
                code.put(visit.address, &bytes[..len]);
            }
            Kind::Call { row, key } => self.call(visit, row, key, state, code),
            Kind::Trampoline { key, .. } => self.trampoline(visit.address, key, state, code),
            Kind::Constant { table, .. } => {
                let bytes = state.constants[usize::from(table)].to_le_bytes();
                code.put(visit.address, &bytes[..visit.len.into()]);
            }
            Kind::XenIret => self.xen_iret(state, code),
            Kind::XenStub(number) => self.xen_stub(visit.address, number, state, code),
        }
    }
}
