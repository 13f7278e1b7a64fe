//! The form of a cluster: what its bytes are where everything they hang on is so.
//!
//! Each pass is here a second time, small and for one site, without a plan, a journal or errors: where a kernel would
//! stop, the bytes stay. Shared with [`crate::plan`] are the encoders, the nop tables and how code is moved, no decision.

use super::sheet::{Branch, Cluster, Piece, STUB, Sheet, What};
use super::state::{Branches, State, Target};
use crate::image::Bits;
use crate::insn::{self, CALL, INT3, JMP, NOP, RET};
use crate::plan::alternatives::{Fill, Idle, Nest, Relocate};
use crate::plan::optimise::optimise;
use crate::plan::relocate::{self, Move};
use crate::plan::returns::RET5;
use crate::plan::static_calls::{UNLOCK, WARN, ZERO};
use crate::plan::{Pass, Stage};
use crate::sites::Alternative;
use crate::sites::static_calls::TRAMPOLINE_ENDS;

const THUNK_SIZE: u64 = 32;
const LOCK: u8 = 0xf0;
const LFENCE: [u8; 3] = [0x0f, 0xae, 0xe8];
const CS: u8 = 0x2e;
const ENDBR64: [u8; 4] = *b"\xf3\x0f\x1e\xfa";
const ENDBR32: [u8; 4] = *b"\xf3\x0f\x1e\xfb";
const XEN_IRET: u32 = 23;
/// Replacements that are replaced themselves, and how deep that goes.
const DEEPEST: u8 = 3;

/// How far a cluster is followed: up to a stage, and within it a row, not included.
type Until = (u8, u32);
const END: Until = (u8::MAX, u32::MAX);

impl What {
    /// The pass that writes here.
    pub fn pass(self) -> Pass {
        match self {
            What::Paravirt { .. } => Pass::Paravirt,
            What::Alternatives { .. } => Pass::Alternatives,
            What::Retpoline(_) => Pass::Retpolines,
            What::Return(_) => Pass::Returns,
            What::Endbr(_) => Pass::Ibt,
            What::Lock(_) => Pass::SmpLocks,
            What::Mcount(_) => Pass::Mcount,
            What::Jump { .. } => Pass::JumpLabels,
            What::Call { .. } => Pass::StaticCalls,
            What::Trampoline { .. } => Pass::Trampolines,
            What::Constant { .. } => Pass::RuntimeConst,
            What::XenIret | What::XenStub(_) => Pass::Unlisted,
        }
    }
}

/// The code of a cluster under a pass's hands.
struct Desk<'b> {
    start: u64,
    bytes: &'b mut [u8],
}

impl Desk<'_> {
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

impl Sheet<'_> {
    /// The form of a cluster, left in `out`.
    pub fn form(&self, cluster: &Cluster, state: &State, out: &mut Vec<u8>) {
        self.follow(cluster, state, END, 0, out, &mut |_, _| {});
    }

    /// The form of a cluster, and for each byte the pass that changed it last: its number among [`PASSES`], 255 for none.
    pub fn attributed(&self, cluster: &Cluster, state: &State, out: &mut Vec<u8>, owners: &mut Vec<u8>) {
        owners.clear();
        owners.resize(cluster.len as usize, u8::MAX);
        if let ([only], false) = (self.pieces(cluster), self.counts(state)) {
            self.form(cluster, state, out);
            owners.fill(number(only.what.pass()));
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
            let row = if let What::Alternatives { first, .. } = piece.what { first } else { 0 };
            if (piece.stage, row) >= until {
                return;
            }
            self.apply(piece, state, depth, &mut Desk { start: cluster.start, bytes: out });
            seen(Some(piece.what.pass()), out);
        }
        if uncounted {
            self.count(cluster, state, out);
            seen(Some(Pass::CallSites), out);
        }
    }

    fn apply(&self, piece: &Piece, state: &State, depth: u8, desk: &mut Desk<'_>) {
        let address = piece.address;
        match piece.what {
            What::Paravirt { slot, .. } => {
                if let Some(site) = desk.at(address, piece.len.into()) {
                    self.op(slot, state, address, state.slots[usize::from(slot)], site);
                }
            }
            What::Alternatives { first, count } => self.alternatives(first as usize, count.into(), state, depth, desk),
            What::Retpoline(row) => {
                if let Some(branch) = self.branches[row as usize]
                    && let Some(site) = desk.at(address, branch.len.into())
                {
                    self.retpoline(row, address, branch, state, site);
                }
            }
            What::Return(_) => {
                if let Some(site) = desk.at(address, 5)
                    && self.is_return(address, site)
                {
                    site.copy_from_slice(&self.ret(address, state.return_thunk));
                }
            }
            What::Endbr(_) => {
                if let Some(site) = desk.at(address, 4)
                    && state.sealed
                    && (site == ENDBR64 || site == ENDBR32)
                {
                    site.copy_from_slice(&self.rules.endbr_poison);
                }
            }
            What::Lock(_) => {
                let unlocked = self.rules.smp_locks.unlocked;
                if let Some([lock]) = desk.at(address, 1)
                    && state.uniprocessor
                    && *lock == LOCK
                    && self.marks.in_text(address)
                {
                    *lock = unlocked;
                }
            }
            What::Mcount(_) => {
                if let Some(site) = desk.at(address, 5)
                    && state.untraced
                    && site[0] == CALL
                {
                    site.copy_from_slice(&state.nops.atomic5);
                }
            }
            What::Jump { row, key } => {
                let on = state.keys[usize::from(key)];
                let (bytes, len) = self.jump_label(row, on, state);
                desk.put(address, &bytes[..len]);
            }
            What::Call { row, key } => self.call(piece, row, key, state, desk),
            What::Trampoline { key, .. } => {
                let bytes = match key.map(|key| state.calls[usize::from(key)]) {
                    None | Some(Target::Built) => return,
                    Some(Target::Cleared) => RET5,
                    Some(Target::Updated(0)) => self.ret(address, state.return_thunk),
                    Some(Target::Updated(function)) => insn::jmp(address, function),
                };
                desk.put(address, &bytes);
            }
            What::Constant { table, .. } => {
                let bytes = state.constants[usize::from(table)].to_le_bytes();
                desk.put(address, &bytes[..piece.len.into()]);
            }
            What::XenIret => {
                if let (true, Some((site, target))) = (state.xen, self.marks.xen_iret) {
                    desk.put(site, &insn::jmp(site, target));
                }
            }
            What::XenStub(number) => {
                if state.xen {
                    desk.put(address, stub(number).as_slice());
                }
            }
        }
    }

    /// What a call of an op becomes, where its slot holds this.
    pub fn op(&self, slot: u16, state: &State, address: u64, value: u64, site: &mut [u8]) {
        let ops = &self.brief.ops;
        let kind = self.slots[usize::from(slot)].op.and_then(|op| ops.inlined.get(usize::from(op)));
        let code = kind.and_then(|kind| {
            let asked = state.inlines && kind.only_while.is_none_or(|function| function == value);
            kind.code.as_deref().filter(|_| asked)
        });
        let branch = |opcode: u8, target| {
            let mut bytes = insn::call(address, target);
            bytes[0] = opcode;
            bytes
        };
        let five;
        let code: &[u8] = match (code, value) {
            (Some(code), _) => code,
            (None, 0) => match ops.bug {
                Some(bug) => {
                    five = branch(CALL, bug);
                    &five
                }
                None => b"\x0f\x0b",
            },
            (None, function) if Some(function) == ops.nop => &[],
            (None, function) if Some(function) == ops.identity => match self.bits {
                Bits::B64 => b"\x48\x89\xf8",
                Bits::B32 => &[],
            },
            (None, function) => {
                five = branch(if kind.is_some_and(|kind| kind.jump) { JMP } else { CALL }, function);
                &five
            }
        };
        if code.len() <= site.len() {
            let (head, rest) = site.split_at_mut(code.len());
            head.copy_from_slice(code);
            state.nops.fill(rest);
        }
    }

    fn alternatives(&self, first: usize, count: usize, state: &State, depth: u8, desk: &mut Desk<'_>) {
        let Some(table) = &self.tables.alternatives else { return };
        let rows = &table.rows[first..first + count];
        let rules = self.rules.alternatives;
        let len = rows.iter().map(|row| row.len).max().unwrap_or(0);
        let taken = |row: &Alternative| state.has(row.feature) != row.inverted;
        if rules.nest == Nest::Once {
            let at = rows.iter().rposition(taken).unwrap_or(count - 1);
            return self.alternative(first + at, &rows[at], len.into(), taken(&rows[at]), state, depth, desk);
        }
        for (at, row) in rows.iter().enumerate() {
            self.alternative(first + at, row, len.into(), taken(row), state, depth, desk);
        }
    }

    #[expect(clippy::too_many_arguments, reason = "one row, where it is, and what it is asked under")]
    fn alternative(
        &self,
        index: usize,
        row: &Alternative,
        len: usize,
        taken: bool,
        state: &State,
        depth: u8,
        desk: &mut Desk<'_>,
    ) {
        let rules = self.rules.alternatives;
        let Some(site) = desk.at(row.address, len) else { return };
        if !taken {
            let pad = usize::from(row.pad);
            match rules.idle {
                Idle::Leave => {}
                Idle::Optimise => optimise(rules.nops, self.bits, state.nops, site),
                Idle::Pad if pad > 1 && site.iter().take(pad).all(|&b| b == NOP) => {
                    state.nops.fill(&mut site[len - pad..]);
                }
                Idle::Pad => {}
            }
            return;
        }
        let need = usize::from(row.replacement_len);
        if need > len {
            return;
        }
        let mut used = need;
        let built = site.to_vec();
        self.replacement(index, row, state, depth, &mut site[..need]);
        if row.direct_call {
            let slot = self.row_slots.get(index).copied().flatten();
            let (Some(slot), Some(bug), [0xff, 0x15, ..]) = (slot, self.marks.bug, &built[..]) else {
                site.copy_from_slice(&built);
                return;
            };
            let function = state.slots[usize::from(slot)];
            if self.marks.nop == Some(function) {
                used = 0;
            } else {
                let target = if function == 0 { bug } else { function };
                // As linked where the replacement is: it is moved with the rest below.
                site[..5].copy_from_slice(&insn::call(row.replacement, target));
                used = 5;
            }
        }
        let whole = Move { from: row.replacement, len: need, to: row.address };
        match rules.relocate {
            Relocate::Nothing | Relocate::Every => {}
            Relocate::Call => relocate::call(whole, &mut site[..need]),
            Relocate::First => {
                relocate::call(whole, &mut site[..need]);
                relocate::jump(whole, state.nops, &mut site[..need]);
            }
        }
        match rules.fill {
            Fill::Nops => state.nops.fill(&mut site[used..]),
            Fill::Ones => site[used..].fill(NOP),
        }
        if rules.relocate == Relocate::Every && relocate::every(whole, self.bits, site).is_err() {
            site.copy_from_slice(&built);
            return;
        }
        if rules.fill == Fill::Ones {
            optimise(rules.nops, self.bits, state.nops, site);
        }
    }

    /// A replacement, as the passes and rows before this one left it.
    fn replacement(&self, index: usize, row: &Alternative, state: &State, depth: u8, out: &mut [u8]) {
        let built = self.code.from(row.replacement);
        if built.len() < out.len() {
            return;
        }
        out.copy_from_slice(&built[..out.len()]);
        let end = row.replacement.saturating_add(out.len() as u64);
        let mut form = Vec::new();
        for cluster in self.touching(row.replacement, end) {
            if depth >= DEEPEST {
                return;
            }
            let until = (self.alternatives_stage(), index as u32);
            self.follow(cluster, state, until, depth + 1, &mut form, &mut |_, _| {});
            for (address, byte) in (cluster.start..).zip(&form) {
                if let Some(place) = address.checked_sub(row.replacement).and_then(|at| out.get_mut(at as usize)) {
                    *place = *byte;
                }
            }
        }
    }

    fn retpoline(&self, row: u32, address: u64, branch: Branch, state: &State, site: &mut [u8]) {
        let mode = state.branches;
        let thunk = |base: u64| base.wrapping_add(THUNK_SIZE * u64::from(branch.register));
        match mode {
            Branches::Retpolines => return,
            Branches::Counted => {
                let base = if branch.opcode == CALL { self.marks.call_thunks } else { self.marks.jump_thunks };
                if let Some(base) = base {
                    to_thunk(address, branch, thunk(base), site);
                }
                return;
            }
            _ => {}
        }
        if mode.its()
            && let Some((page, offset)) = self.its(mode.fenced()).get(row as usize).copied().flatten()
        {
            if let Some(page) = state.pages.get(usize::from(page)) {
                to_thunk(address, branch, page.wrapping_add(offset.into()), site);
            }
            return;
        }
        let rules = self.rules.retpolines;
        let extended = usize::from(branch.register / 8);
        let call = !branch.conditional && branch.opcode == CALL;
        let mut bytes = [NOP; 16];
        let mut used = 0;
        if branch.conditional {
            bytes[..2].copy_from_slice(&[0x70 | (branch.opcode & 0xf ^ 1), branch.len - 2]);
            used = 2;
        }
        if mode.fenced() {
            bytes[used..used + 3].copy_from_slice(&LFENCE);
            used += 3;
        }
        let Some(spare) = site.len().checked_sub(used + 2 + extended) else { return };
        if rules.cs && call && spare <= 3 {
            bytes[used..used + spare].fill(CS);
            used += spare;
        }
        if extended == 1 {
            bytes[used] = 0x41;
            used += 1;
        }
        bytes[used] = 0xff;
        bytes[used + 1] = if call { 0xd0 } else { 0xe0 } | (branch.register & 7);
        used += 2;
        if !call && rules.cs {
            bytes[used..site.len()].fill(INT3);
        } else if !call && rules.int3 && used < site.len() {
            bytes[used] = INT3;
        }
        site.copy_from_slice(&bytes[..site.len()]);
        optimise(self.rules.alternatives.nops, self.bits, state.nops, site);
    }

    /// Whether `apply_returns()` knows what stands here.
    fn is_return(&self, address: u64, site: &[u8]) -> bool {
        match *site {
            [JMP, a, b, c, d] => Some(self.code.target(address, 5, &[a, b, c, d])) == self.marks.return_thunk,
            [RET, ..] => self.code.from(address).get(5..8).is_some_and(|end| TRAMPOLINE_ENDS.iter().any(|e| e == end)),
            _ => false,
        }
    }

    /// What a return is.
    pub fn ret(&self, address: u64, thunk: Option<u64>) -> [u8; 5] {
        match thunk {
            Some(thunk) if Some(thunk) != self.marks.its_return_thunk || address & 0x20 == 0 => {
                insn::jmp(address, thunk)
            }
            _ => RET5,
        }
    }

    /// A jump label where its key is so, and its length.
    pub fn jump_label(&self, row: u32, on: bool, state: &State) -> ([u8; 5], usize) {
        let label = &self.tables.jump_labels[row as usize];
        let mut bytes = [0; 5];
        match (label.len, on != label.branch) {
            (2, true) => bytes[..2].copy_from_slice(&[0xeb, label.target.wrapping_sub(label.address + 2) as u8]),
            (2, false) => state.nops.fill(&mut bytes[..2]),
            (_, true) => bytes = insn::jmp(label.address, label.target),
            (_, false) => bytes = state.nops.atomic5,
        }
        (bytes, label.len.into())
    }

    fn call(&self, piece: &Piece, row: u32, key: u16, state: &State, desk: &mut Desk<'_>) {
        let built = self.calls[usize::from(key)].1;
        // As long as no return thunk is chosen, a return is a return; once there is one, all sites are done again.
        let again = self.rules.static_calls.again && state.return_thunk.is_some();
        let (function, thunk) = match (self.stage_of(piece), state.calls[usize::from(key)]) {
            (Stage::StaticCalls, _) if self.late => (built, state.return_thunk),
            (Stage::StaticCalls, _) => (built, None),
            (Stage::StaticCallsAgain, Target::Cleared) if again => (0, state.return_thunk),
            (Stage::StaticCallsAgain, _) if again => (built, state.return_thunk),
            (Stage::Updates, Target::Cleared) if !again => (0, None),
            (Stage::Updates, Target::Updated(function)) => (function, state.return_thunk),
            _ => return,
        };
        let site = &self.tables.static_calls[row as usize];
        let rules = self.rules.static_calls;
        let address = site.address;
        if let Some([0x0f, condition, ..]) = desk.at(address, piece.len.into()).filter(|_| site.tail) {
            let condition = *condition;
            let target = if function != 0 { Some(function) } else { thunk.or(self.marks.static_call_return) };
            if let Some(target) = target {
                let mut bytes = [0x0f; 6];
                bytes[1..].copy_from_slice(&insn::jmp(address + 1, target));
                bytes[1] = condition;
                desk.put(address, &bytes);
            }
            return;
        }
        let function = match site.tail {
            false if self.after_counting(piece.stage) => self.counted(state, function),
            _ => function,
        };
        let is = |mark: Option<u64>| mark == Some(function);
        let bytes = match (site.tail, function) {
            (true, 0) => self.ret(address, thunk),
            (true, _) => insn::jmp(address, function),
            (false, 0) => state.nops.atomic5,
            (false, _) if rules.zero && is(self.marks.return0) => ZERO,
            (false, _) if rules.warn && is(self.marks.warn_trap) => WARN,
            (false, _) if rules.unlock && is(self.marks.native_unlock) => UNLOCK,
            (false, _) => insn::call(address, function),
        };
        desk.put(address, &bytes);
    }
}

/// The branch as it was, to another place.
fn to_thunk(address: u64, branch: Branch, target: u64, site: &mut [u8]) {
    let at = site.len() - 5;
    let five = insn::jmp(address + at as u64, target);
    site[..at].fill(if branch.conditional { 0x0f } else { CS });
    site[at..].copy_from_slice(&five);
    site[at] = branch.opcode;
}

/// What Xen puts into a stub of the hypercall page; the rest of it stays.
fn stub(number: u32) -> Vec<u8> {
    let save: &[u8] = if number == XEN_IRET { b"\x51\x41\x53\x50" } else { b"\x51\x41\x53" };
    let restore: &[u8] = if number == XEN_IRET { b"" } else { b"\x41\x5b\x59\xc3" };
    debug_assert!(u64::from(number) < STUB * 4);
    [save, b"\xb8", &number.to_le_bytes(), b"\x0f\x05", restore].concat()
}

/// The passes by number.
pub(super) const PASSES: [Pass; 13] = [
    Pass::Paravirt,
    Pass::Alternatives,
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
