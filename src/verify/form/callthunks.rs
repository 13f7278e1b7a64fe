//! Where calls are counted (`retbleed=stuff`): each direct call goes to the padding before its function, which counts it.
//!
//! What retpolines go through decides for all sites together ([`Branches::Counted`]), so a call that alone is counted is
//! unexplained. A pad that nothing calls any more is explained too: its function was a static call's for a while. Sites and
//! pads are a quarter of a million, of no interest on other machines; so they are no clusters. Source:
//! arch/x86/kernel/callthunks.c (6.2 on, e81dc127ef69; read of 6.12, 7.2).

use std::collections::BTreeSet;

use crate::insn::{self, CALL, NOP};
use crate::plan::relocate::{self, Move};
use crate::plan::{Pass, Stage};
use crate::verify::site_map::{Cluster, SiteMap};
use crate::verify::state::{Branches, State};
use crate::verify::view::View;

impl SiteMap<'_> {
    /// Rows of `.call_sites`, by address.
    fn call_sites(&self) -> &[u64] {
        self.counting.call_sites(&self.tables.call_sites)
    }

    /// Whether calls are counted.
    pub(in crate::verify) fn counts(&self, state: &State) -> bool {
        state.branches == Branches::Counted && !self.counting.template.1.is_empty()
    }

    /// Whether the call of an op at an address is one that is counted.
    pub(in crate::verify) fn counts_op(&self, address: u64) -> bool {
        let listed = self.rules.count_alternatives || self.tables.paravirt.is_some();
        listed || self.call_sites().binary_search(&address).is_ok()
    }

    /// Whether a visit is by a table whose calls are counted besides those of `.call_sites`.
    fn counts_visit(&self, pass: Pass) -> bool {
        pass == Pass::Paravirt || pass == Pass::Alternatives && self.rules.count_alternatives
    }

    /// Whether a stage comes after the calls were counted.
    pub(in crate::verify) fn after_counting(&self, stage: u8) -> bool {
        self.stage(Stage::CallThunks).is_some_and(|counting| stage > counting)
    }

    /// `callthunks_translate_call_dest()`: where a call of this function goes.
    pub(in crate::verify) fn counted(&self, state: &State, function: u64) -> u64 {
        let len = self.counting.template.1.len();
        let pad = function.wrapping_sub(len as u64);
        let counts = self.counts(state) && self.landmarks.in_text(function) && !self.landmarks.is_uncounted(function);
        let room = || self.code.from(pad).get(..len).is_some_and(|pad| pad.iter().all(|&b| b == NOP));
        if counts && room() { pad } else { function }
    }

    /// The function that a call to this address means: the other way round.
    pub(in crate::verify) fn meant(&self, state: &State, target: u64) -> u64 {
        let function = target.wrapping_add(self.counting.template.1.len() as u64);
        let counted = !self.is_function(target) && self.is_function(function);
        if counted && self.counted(state, function) == target { function } else { target }
    }

    /// Has the calls in a cluster's form counted.
    pub(in crate::verify) fn count(&self, cluster: &Cluster, state: &State, form: &mut [u8]) {
        for visit in self.visits(cluster).iter().filter(|visit| self.counts_visit(visit.kind.pass())) {
            if self.call_sites().binary_search(&visit.address).is_err() {
                self.count_at(visit.address, (visit.address - cluster.start) as usize, state, form);
            }
        }
        let sites = self.call_sites();
        let from = sites.partition_point(|&site| site.saturating_add(5) <= cluster.start);
        for &site in sites[from..].iter().take_while(|&&site| site < cluster.end()) {
            if site >= cluster.start && site.saturating_add(5) <= cluster.end() {
                self.count_at(site, (site - cluster.start) as usize, state, form);
            } else if let Some((call, _)) = self.counted_call(site, self.code.from(site), state) {
                // The cluster has a part of the call.
                for (address, byte) in (site..).zip(call) {
                    let place = address.checked_sub(cluster.start).and_then(|at| form.get_mut(at as usize));
                    if let Some(place) = place {
                        *place = byte;
                    }
                }
            }
        }
    }

    /// The call that is counted in place of the one in this code, and the function it means; `None` where there is none.
    fn counted_call(&self, address: u64, code: &[u8], state: &State) -> Option<([u8; 5], u64)> {
        let [CALL, a, b, c, d] = *code.first_chunk()? else { return None };
        let function = self.code.target(address, 5, &[a, b, c, d]);
        let pad = self.counted(state, function);
        let counts = pad != function && self.landmarks.in_text(address);
        counts.then(|| (insn::call(address, pad), function))
    }

    /// Has a call counted, if there is one; gives the function.
    pub(in crate::verify) fn count_at(&self, address: u64, at: usize, state: &State, code: &mut [u8]) -> Option<u64> {
        let site = code.get_mut(at..at.checked_add(5)?)?;
        let (call, function) = self.counted_call(address, site, state)?;
        site.copy_from_slice(&call);
        Some(function)
    }

    /// Has all calls of a text counted that are in no cluster, and fills the pads; gives what was written: address, length.
    pub(in crate::verify) fn count_all(&self, view: &View<'_>, state: &State, text: &mut [u8]) -> Vec<(u64, u32)> {
        let mut written = Vec::new();
        if !self.counts(state) {
            return written;
        }
        let (start, end) = self.text;
        let mut functions = BTreeSet::new();
        for &address in self.call_sites().iter().filter(|site| (start..end).contains(site)) {
            let at = (address - start) as usize;
            let end = address.saturating_add(5);
            match self.touching(address, end) {
                [] => {
                    if let Some(function) = self.count_at(address, at, state, text) {
                        functions.insert(function);
                        written.push((address, 5));
                    }
                }
                [cluster] if cluster.start <= address && end <= cluster.end() => {
                    functions.extend(self.called(address, state, text));
                }
                // Clusters have a part of the call: what they have not is written here.
                _ => {
                    let Some((call, function)) = self.counted_call(address, self.code.from(address), state) else {
                        continue;
                    };
                    functions.insert(function);
                    for ((address, byte), place) in (address..).zip(call).zip(text.iter_mut().skip(at)) {
                        if self.touching(address, address + 1).is_empty() {
                            *place = byte;
                            written.push((address, 1));
                        }
                    }
                }
            }
        }
        for cluster in self.group(Pass::Alternatives).chain(self.group(Pass::StaticCalls)) {
            functions.extend(self.called(cluster.start, state, text));
        }
        for visit in self.group(Pass::Paravirt).flat_map(|cluster| self.visits(cluster)) {
            if visit.kind.pass() == Pass::Paravirt {
                functions.extend(self.called(visit.address, state, text));
            }
        }
        for &function in &self.functions {
            if let Some((pad, code)) = self.pad(function, state)
                && let Some(at) = pad.checked_sub(start).map(|at| at as usize)
                && let Some(place) = text.get_mut(at..at + code.len())
                && (functions.contains(&function) || view.bytes(pad, code.len()) == Some(&code))
            {
                place.copy_from_slice(&code);
                written.push((pad, code.len() as u32));
            }
        }
        written.sort_unstable();
        written
    }

    /// The function whose pad is called here.
    fn called(&self, address: u64, state: &State, text: &[u8]) -> Option<u64> {
        let at = usize::try_from(address.checked_sub(self.text.0)?).ok()?;
        let [CALL, a, b, c, d] = *text.get(at..)?.first_chunk()? else { return None };
        let target = self.code.target(address, 5, &[a, b, c, d]);
        Some(self.meant(state, target)).filter(|&function| function != target)
    }

    /// Where a function's pad is, and the code that counts there.
    fn pad(&self, function: u64, state: &State) -> Option<(u64, Vec<u8>)> {
        let to = Some(self.counted(state, function)).filter(|&pad| pad != function)?;
        let (from, template) = &self.counting.template;
        let mut code = template.clone();
        relocate::every(Move { from: *from, len: code.len(), to }, self.bits, &mut code).ok()?;
        Some((to, code))
    }
}
