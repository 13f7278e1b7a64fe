//! The nop table, and what is one bit for all sites of a kind: CPUs, `endbr`, the tracer, Xen.

use super::tally::Tally;
use super::{Inference, Unknown};
use crate::image::Bits;
use crate::insn::{CALL, NopTable};
use crate::plan::{HvmCall, Pass};
use crate::verify::state::State;

/// The backend of Xen's guests with a machine of their own.
pub(super) const HVM: &str = "xen-hvm";

impl Inference<'_, '_, '_> {
    pub(super) fn nops(&mut self) {
        if let Some(nops) = self.known.nops {
            self.state.nops = nops;
            return self.vote(Unknown::Nops, 0, 0, 0, true);
        }
        let choice = self.map.info.nops.clone();
        if choice.len() < 2 {
            return;
        }
        let map = self.map;
        let mut tally = Tally::new();
        for pass in [Pass::Mcount, Pass::JumpLabels, Pass::Paravirt, Pass::Alternatives] {
            if matches!(pass, Pass::Mcount | Pass::JumpLabels) && !map.rules.nop5_of_cpu() {
                continue; // of all CPUs
            }
            for cluster in map.group(pass) {
                let Some(found) = cluster.found(self.view) else { continue };
                // Rows that were not taken leave what the compiler made; labels are all written at boot.
                let unchanged = map.code.from(cluster.start).starts_with(found);
                if !(unchanged && pass == Pass::Alternatives)
                    && let Some(at) = ends_in(found, &choice)
                {
                    tally.add(at);
                }
            }
        }
        if let Some((at, votes, all)) = tally.winner() {
            self.state.nops = choice[at];
            self.vote(Unknown::Nops, at as u64, votes, all - votes, false);
        }
    }

    /// One bit that all sites of a kind depend on.
    pub(super) fn flag(
        &mut self,
        about: Unknown,
        known: Option<bool>,
        pass: Pass,
        of: impl Fn(&mut State) -> &mut bool,
    ) {
        let built = *of(&mut self.state);
        let mut counts = [0, 0];
        for cluster in self.alone(pass) {
            let fits = [false, true].map(|value| {
                *of(&mut self.state) = value;
                self.fits(cluster)
            });
            match fits {
                [true, false] => counts[0] += 1,
                [false, true] => counts[1] += 1,
                _ => {}
            }
        }
        let value = known.unwrap_or(match counts[1].cmp(&counts[0]) {
            std::cmp::Ordering::Less => false,
            std::cmp::Ordering::Equal => built,
            std::cmp::Ordering::Greater => true,
        });
        *of(&mut self.state) = value;
        self.vote(about, value.into(), counts[usize::from(value)], counts[usize::from(!value)], known.is_some());
    }

    /// The trampoline of HID-BPF: what the head of its function calls, if that is outside the kernel.
    pub(super) fn hid_bpf(&mut self) {
        let map = self.map;
        let Some((function, list)) = map.hid_bpf else { return };
        let call = |address: u64| match self.view.bytes(address, 5) {
            Some([CALL, a, b, c, d]) => Some(map.code.target(address, 5, &[*a, *b, *c, *d])),
            _ => None,
        };
        let head = map.tables.mcount.iter().copied().find(|&address| map.head_of(function, address));
        let target = head.and_then(call).filter(|&target| target >= map.end);
        let listed = map.tracer_calls.iter().filter(|&&address| call(address) == Some(list)).count() as u32;
        // HID-BPF changes both, so a change of one alone is not its.
        if let Some(target) = target.filter(|_| listed > 0) {
            self.state.hid_bpf = Some(target);
            self.vote(Unknown::HidBpf, target, 1 + listed, 0, false);
        }
    }

    pub(super) fn xen(&mut self) {
        let map = self.map;
        let known = map.info.numbers.xenpv.and_then(|number| {
            let given = self.known.features.get(&number).copied();
            given.or_else(|| self.settled(Unknown::Feature(number)).then(|| self.state.has(number)))
        });
        // In 32 bits nothing but the hypercall page tells of a PV guest.
        let tells = map.bits == Bits::B64 || map.landmarks.hypercall_page.is_some();
        self.flag(Unknown::Xen, known.or((!tells).then_some(false)), Pass::Unlisted, |state| &mut state.xen);
        self.hvm_call();
    }

    /// What Xen filled the hypercall page of a guest with that has a machine of its own: a PV guest has not, nor has one
    /// that is said to be under something else.
    fn hvm_call(&mut self) {
        let given = self.known.backend.as_deref();
        if self.state.xen || self.map.landmarks.hypercall_page.is_none() || given.is_some_and(|name| name != HVM) {
            return;
        }
        let stubs = self.alone(Pass::Unlisted);
        let mut tally = Tally::new();
        for (at, call) in (0..).zip(HvmCall::ALL) {
            for cluster in &stubs {
                self.state.hvm_call = None;
                let built = self.fits(cluster);
                self.state.hvm_call = Some(call);
                if !built && self.fits(cluster) {
                    tally.add(at);
                }
            }
        }
        self.state.hvm_call = None;
        if let Some((at, votes, all)) = tally.winner() {
            self.state.hvm_call = HvmCall::ALL.get(at).copied();
            self.vote(Unknown::HvmCall, at as u64, votes, all - votes, false);
        }
    }
}

/// The one table that the nops at the end of a site are of; `None` where several have the same, or there are none.
fn ends_in(site: &[u8], choice: &[&NopTable]) -> Option<usize> {
    let mut filled = [0; 8];
    for len in (2..=site.len().min(8)).rev() {
        let tail = &site[site.len() - len..];
        let is = |nops: &NopTable, filled: &mut [u8]| {
            nops.fill(filled);
            filled == tail || nops.atomic5 == *tail
        };
        let mut tables = (0..choice.len()).filter(|&at| is(choice[at], &mut filled[..len]));
        if let Some(first) = tables.next() {
            return tables.next().is_none().then_some(first);
        }
    }
    None
}
