//! State from memory: every site votes for what would explain it, and the many decide.
//!
//! One unknown after the other, those first that others hang on. A site votes for a value where its cluster is byte for byte
//! what the value makes it, and not what every other value makes it too; a site that fits no value has no vote. What the
//! user knows is not asked. Ties go to the value the image was built with.

use std::collections::{BTreeMap, HashMap};

use super::sheet::{Cluster, Sheet, What};
use super::state::{Branches, Known, State, Target};
use super::view::View;
use crate::insn::{self, CALL, JMP, NopTable};
use crate::plan::Pass;

/// What was asked of the sites.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Unknown {
    /// The nop table.
    Nops,
    /// One CPU, or more.
    Processors,
    /// `endbr` sealed.
    Sealed,
    /// Tracer's calls are nops.
    Untraced,
    /// What Xen writes outside of tables.
    Xen,
    /// How indirect branches are made.
    Branches,
    /// Where returns go.
    Returns,
    /// Ops inlined by type.
    Inlines,
    /// A page of ITS thunks.
    Page(u16),
    /// A run-time constant, by its place among the tables.
    Constant(u16),
    /// An op slot, by address.
    Slot(u64),
    /// A static call, by address of its key.
    Call(u64),
    /// A static key, by address.
    Key(u64),
    /// A feature, by number.
    Feature(u16),
}

/// What the sites said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vote {
    /// About what.
    pub about: Unknown,
    /// The value they gave it: a number, an address, 0 or 1.
    pub value: u64,
    /// How many sites say so.
    pub votes: u32,
    /// How many say otherwise.
    pub against: u32,
    /// The user said it.
    pub known: bool,
}

/// So many sites must say what no table and no backend suggests.
const ENOUGH: u32 = 3;
/// A cluster of more features than this is not searched: none has four.
const MOST_FEATURES: usize = 6;

/// A search under way.
pub(super) struct Inference<'s, 'a, 'v> {
    sheet: &'s Sheet<'a>,
    view: &'s View<'v>,
    known: &'s Known,
    pub state: State,
    pub votes: Vec<Vote>,
    pub backend: String,
    form: Vec<u8>,
}

/// How many sites say what.
struct Tally<K>(BTreeMap<K, u32>);

impl<K: Copy + Ord> Tally<K> {
    fn new() -> Tally<K> {
        Tally(BTreeMap::new())
    }

    fn add(&mut self, value: K) {
        *self.0.entry(value).or_default() += 1;
    }

    /// The value most say, the lowest of several; how many say so, and how many there are in all.
    fn winner(&self) -> Option<(K, u32, u32)> {
        let all = self.0.values().sum();
        self.0
            .iter()
            .map(|(&value, &n)| (value, n))
            .min_by_key(|&(value, n)| (u32::MAX - n, value))
            .map(|(v, n)| (v, n, all))
    }
}

impl<'s, 'a, 'v> Inference<'s, 'a, 'v> {
    pub fn new(sheet: &'s Sheet<'a>, view: &'s View<'v>, known: &'s Known) -> Inference<'s, 'a, 'v> {
        let state = State {
            nops: sheet.brief.nops.first().copied().unwrap_or(State::default().nops),
            slots: sheet.slots.iter().map(|slot| slot.built).collect(),
            keys: sheet.keys.iter().map(|&(_, on)| on).collect(),
            calls: vec![Target::Built; sheet.calls.len()],
            constants: sheet.tables.constants.iter().map(|_| 0).collect(),
            ..State::default()
        };
        Inference { sheet, view, known, state, votes: Vec::new(), backend: String::new(), form: Vec::new() }
    }

    pub fn run(&mut self) {
        self.nops();
        self.flag(Unknown::Processors, self.known.uniprocessor, Pass::SmpLocks, |state| &mut state.uniprocessor);
        self.flag(Unknown::Sealed, None, Pass::Ibt, |state| &mut state.sealed);
        self.flag(Unknown::Untraced, None, Pass::Mcount, |state| &mut state.untraced);
        self.branches();
        self.returns();
        self.constants();
        self.keys();
        self.calls();
        self.inlines();
        self.slots();
        self.features();
        self.xen();
    }

    /// The state of a module: the kernel's, with what the module has of its own inferred. `known` has the kernel's keys.
    pub fn run_in(&mut self, kernel: &Sheet<'_>, state: &State) {
        let slots: HashMap<u64, u64> = kernel.slots.iter().map(|slot| slot.address).zip(state.slots.clone()).collect();
        let of_module = |slot: &super::sheet::Slot| slots.get(&slot.address).copied().unwrap_or(slot.built);
        let own = std::mem::take(&mut self.state);
        self.state = State {
            slots: self.sheet.slots.iter().map(of_module).collect(),
            keys: own.keys,
            calls: own.calls,
            constants: own.constants,
            pages: Vec::new(),
            ..state.clone()
        };
        let retpolines = self.alone(Pass::Retpolines);
        self.pages(&retpolines);
        self.keys();
        self.calls();
        self.votes.retain(|vote| !vote.known);
    }

    fn vote(&mut self, about: Unknown, value: u64, votes: u32, against: u32, known: bool) {
        if votes + against > 0 || known {
            self.votes.push(Vote { about, value, votes, against, known });
        }
    }

    /// The clusters in `.text` that no other pass comes to.
    fn alone(&self, pass: Pass) -> Vec<&'s Cluster> {
        let sheet = self.sheet;
        let alone = |cluster: &&Cluster| sheet.pieces(cluster).iter().all(|piece| piece.what.pass() == pass);
        sheet.group(pass).filter(alone).collect()
    }

    /// Whether memory holds this cluster's form under the state; `None` where it cannot be read.
    fn fits(&mut self, cluster: &Cluster) -> bool {
        let Some(found) = self.view.found(cluster) else { return false };
        self.sheet.form(cluster, &self.state, &mut self.form);
        self.form == found
    }

    fn nops(&mut self) {
        if let Some(nops) = self.known.nops {
            self.state.nops = nops;
            return self.vote(Unknown::Nops, 0, 0, 0, true);
        }
        let choice = self.sheet.brief.nops.clone();
        if choice.len() < 2 {
            return;
        }
        let mut tally = Tally::new();
        for cluster in self.alone(Pass::Mcount) {
            let Some(found) = self.view.found(cluster) else { continue };
            if let Some(at) = choice.iter().position(|nops: &&NopTable| nops.atomic5 == found) {
                tally.add(at);
            }
        }
        if let Some((at, votes, all)) = tally.winner() {
            self.state.nops = choice[at];
            self.vote(Unknown::Nops, at as u64, votes, all - votes, false);
        }
    }

    /// One bit that all sites of a kind hang on.
    fn flag(&mut self, about: Unknown, known: Option<bool>, pass: Pass, of: impl Fn(&mut State) -> &mut bool) {
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

    fn branches(&mut self) {
        let sites = self.alone(Pass::Retpolines);
        if let Some(mode) = self.known_branches() {
            self.state.branches = mode;
            self.pages(&sites);
            let votes = sites.iter().filter(|site| self.fits(site)).count() as u32;
            return self.vote(Unknown::Branches, mode as u64, votes, sites.len() as u32 - votes, true);
        }
        let mut best = (0, Branches::Retpolines);
        for mode in Branches::ALL {
            self.state.branches = mode;
            self.pages(&sites);
            let count = sites.iter().filter(|site| self.fits(site)).count() as u32;
            if count > best.0 {
                best = (count, mode);
            }
            // Half of what is indirect, fenced or not, is so with ITS thunks too.
            if 2 * count as usize > sites.len() && !matches!(mode, Branches::Indirect | Branches::Fenced) {
                break;
            }
        }
        self.state.branches = best.1;
        self.pages(&sites);
        let against = sites.len() as u32 - best.0;
        self.vote(Unknown::Branches, best.1 as u64, best.0, against, false);
    }

    /// What known features say about branches; only where all of them are known.
    fn known_branches(&self) -> Option<Branches> {
        let numbers = self.sheet.brief.numbers;
        let has = |number: Option<u16>| number.map_or(Some(false), |number| self.known.features.get(&number).copied());
        let (retpoline, lfence) = (has(numbers.retpoline)?, has(numbers.retpoline_lfence)?);
        numbers.retpoline?;
        let (its, counted) = (has(numbers.its)?, has(numbers.call_depth)?);
        Some(match (retpoline && !lfence, lfence, its) {
            (true, ..) if counted => Branches::Counted,
            (true, ..) => Branches::Retpolines,
            (_, true, true) => Branches::FencedIts,
            (_, true, false) => Branches::Fenced,
            (_, false, true) => Branches::Its,
            (_, false, false) => Branches::Indirect,
        })
    }

    /// The pages of ITS thunks, by what branches to them: each page where most say it is.
    fn pages(&mut self, sites: &[&Cluster]) {
        self.state.pages.clear();
        self.votes.retain(|vote| !matches!(vote.about, Unknown::Page(_)));
        if !self.state.branches.its() {
            return;
        }
        let sheet = self.sheet;
        let places = sheet.its(self.state.branches.fenced());
        let mut tallies: Vec<Tally<u64>> = Vec::new();
        for site in sites {
            let [piece] = sheet.pieces(site) else { continue };
            let What::Retpoline(row) = piece.what else { continue };
            let (Some((page, offset)), Some(found)) = (places[row as usize], self.view.found(site)) else { continue };
            let len = found.len();
            let Some(displacement) = len.checked_sub(4).map(|at| &found[at..]) else { continue };
            let base = sheet.code.target(piece.address, len, displacement).wrapping_sub(offset.into());
            if base % 4096 == 0 && !self.in_image(base) {
                if tallies.len() <= usize::from(page) {
                    tallies.resize_with(usize::from(page) + 1, Tally::new);
                }
                tallies[usize::from(page)].add(base);
            }
        }
        for (page, tally) in (0..).zip(&tallies) {
            let (base, votes, all) = tally.winner().unwrap_or((0, 0, 0));
            self.state.pages.push(base);
            self.vote(Unknown::Page(page), base, votes, all - votes, false);
        }
    }

    fn in_image(&self, address: u64) -> bool {
        (self.sheet.text.0..self.sheet.text.1).contains(&address)
    }

    fn returns(&mut self) {
        let sites = self.alone(Pass::Returns);
        let rethunk = self.sheet.brief.numbers.rethunk.and_then(|number| self.known.features.get(&number).copied());
        let mut candidates = vec![None];
        let mut tally = Tally::new();
        for site in &sites {
            if let Some([JMP, a, b, c, d]) = self.view.found(site).and_then(|found| found.first_chunk()) {
                tally.add(self.sheet.code.target(site.start, 5, &[*a, *b, *c, *d]));
            }
        }
        match (rethunk, self.known.return_thunk.or(self.sheet.marks.return_thunk)) {
            (Some(false), _) => {}
            (Some(true), thunk) => candidates = vec![thunk],
            (None, _) => {
                let mut targets: Vec<(u64, u32)> = tally.0.into_iter().collect();
                targets.sort_unstable_by_key(|&(target, n)| (u32::MAX - n, target));
                let legal = targets.into_iter().filter(|&(target, _)| self.sheet.is_function(target));
                candidates.extend(legal.take(2).map(|(target, _)| Some(target)));
            }
        }
        let mut best = (0, None);
        for candidate in candidates {
            let form = |site: &&&Cluster| self.view.found(site) == Some(&self.sheet.ret(site.start, candidate)[..]);
            let count = sites.iter().filter(form).count() as u32;
            if count > best.0 || rethunk.is_some() {
                best = (count, candidate);
            }
        }
        self.state.return_thunk = best.1;
        self.vote(Unknown::Returns, best.1.unwrap_or(0), best.0, sites.len() as u32 - best.0, rethunk.is_some());
    }

    fn constants(&mut self) {
        let sheet = self.sheet;
        for (index, constant) in sheet.tables.constants.iter().enumerate() {
            let mut tally = Tally::new();
            for (_, address) in constant.table.rows() {
                if let Some(found) = self.view.bytes(address, constant.width.into()) {
                    let mut bytes = [0; 8];
                    bytes[..found.len()].copy_from_slice(found);
                    tally.add(u64::from_le_bytes(bytes));
                }
            }
            let known = self.known.constants.get(&constant.table.section).copied();
            let (value, votes, all) = tally.winner().unwrap_or((0, 0, 0));
            let (value, votes) = known.map_or((value, votes), |k| (k, tally.0.get(&k).copied().unwrap_or(0)));
            self.state.constants[index] = value;
            self.vote(Unknown::Constant(index as u16), value, votes, all - votes, known.is_some());
        }
    }

    fn keys(&mut self) {
        let sheet = self.sheet;
        let mut counts = vec![[0u32; 2]; sheet.keys.len()];
        // Where all sites of a key hold neither form, the state is that of the nearer one.
        let mut distances = vec![[0usize; 2]; sheet.keys.len()];
        for cluster in sheet.group(Pass::JumpLabels) {
            for piece in sheet.pieces(cluster) {
                let What::Jump { row, key } = piece.what else { continue };
                let Some(found) = self.view.bytes(piece.address, piece.len.into()) else { continue };
                for on in [false, true] {
                    let (bytes, len) = sheet.jump_label(row, on, &self.state);
                    let distance = bytes[..len].iter().zip(found).filter(|(a, b)| a != b).count();
                    counts[usize::from(key)][usize::from(on)] += u32::from(distance == 0);
                    distances[usize::from(key)][usize::from(on)] += distance;
                }
            }
        }
        for (index, (count, &(address, built))) in counts.iter().zip(&sheet.keys).enumerate() {
            let known = self.known.keys.get(&address).copied();
            let [off_by, on_by] = distances[index];
            let nearer = if off_by == on_by { built } else { on_by < off_by };
            let on = known.unwrap_or(if count[0] == count[1] { nearer } else { count[1] > count[0] });
            self.state.keys[index] = on;
            self.vote(
                Unknown::Key(address),
                on.into(),
                count[usize::from(on)],
                count[usize::from(!on)],
                known.is_some(),
            );
        }
    }

    fn calls(&mut self) {
        let sheet = self.sheet;
        let mut tallies: Vec<Tally<Target>> = Vec::new();
        tallies.resize_with(sheet.calls.len(), Tally::new);
        let mut voters = vec![0u32; sheet.calls.len()];
        let returning = [sheet.marks.return0, sheet.marks.warn_trap, sheet.marks.native_unlock];
        // None is both: a trampoline is a function.
        for cluster in sheet.group(Pass::StaticCalls).chain(sheet.group(Pass::Trampolines)) {
            let key = sheet.pieces(cluster).iter().find_map(|piece| match piece.what {
                What::Call { key, .. } | What::Trampoline { key: Some(key), .. } => Some((key, piece.address)),
                _ => None,
            });
            let (Some((key, address)), Some(found)) = (key, self.view.found(cluster)) else { continue };
            voters[usize::from(key)] += 1;
            let here = (address - cluster.start) as usize;
            let target = match found.get(here..).unwrap_or_default() {
                [CALL | JMP, a, b, c, d, ..] => Some(sheet.code.target(address, 5, &[*a, *b, *c, *d])),
                [0x0f, 0x80..=0x8f, a, b, c, d, ..] => Some(sheet.code.target(address, 6, &[*a, *b, *c, *d])),
                _ => None,
            };
            let target = target.map(|target| sheet.meant(&self.state, target)).filter(|&t| sheet.is_function(t));
            let others = returning.iter().copied().flatten().chain(target).chain([0]);
            let mut candidates: Vec<Target> = match target {
                // A branch to a function that is no thunk: nothing but that function makes it.
                Some(target) if Some(target) != self.state.return_thunk => vec![Target::Built, Target::Updated(target)],
                _ => [Target::Built, Target::Cleared].into_iter().chain(others.map(Target::Updated)).collect(),
            };
            candidates.sort_unstable();
            candidates.dedup();
            for candidate in candidates {
                self.state.calls[usize::from(key)] = candidate;
                if self.fits(cluster) {
                    tallies[usize::from(key)].add(candidate);
                }
            }
            self.state.calls[usize::from(key)] = Target::Built;
        }
        for (index, &(address, built)) in sheet.calls.iter().enumerate() {
            let tally = &tallies[index];
            let known = self.known.calls.get(&address).map(|&function| {
                let never = function == built && tally.0.get(&Target::Built) >= tally.0.get(&Target::Updated(function));
                if never { Target::Built } else { Target::Updated(function) }
            });
            let chosen = known.or_else(|| tally.winner().map(|(target, ..)| target)).unwrap_or(Target::Built);
            let votes = tally.0.get(&chosen).copied().unwrap_or(0);
            self.state.calls[index] = chosen;
            let value = match chosen {
                Target::Built => built,
                Target::Cleared => 0,
                Target::Updated(function) => function,
            };
            self.vote(Unknown::Call(address), value, votes, voters[index] - votes, known.is_some());
        }
    }

    /// Each op site that is nothing else: its slot and its bytes.
    fn op_sites(&self) -> Vec<(u16, u64, u8)> {
        let sheet = self.sheet;
        let mut sites = Vec::new();
        for piece in sheet.group(Pass::Paravirt).flat_map(|cluster| sheet.pieces(cluster)) {
            if let What::Paravirt { slot, .. } = piece.what {
                sites.push((slot, piece.address, piece.len));
            }
        }
        for piece in sheet.group(Pass::Alternatives).flat_map(|cluster| sheet.pieces(cluster)) {
            if let What::Alternatives { first, .. } = piece.what
                && let Some(&Some(slot)) = sheet.row_slots.get(first as usize)
            {
                sites.push((slot, piece.address, piece.len));
            }
        }
        sites
    }

    fn inlines(&mut self) {
        if !self.sheet.brief.ops.inlined.iter().any(|kind| kind.code.is_some() && kind.only_while.is_none()) {
            self.state.inlines = self.sheet.brief.ops.inlined.iter().any(|kind| kind.code.is_some());
            return;
        }
        let unconditional = |slot: u16| {
            let op = self.sheet.slots[usize::from(slot)].op.map_or(0, usize::from);
            self.sheet
                .brief
                .ops
                .inlined
                .get(op)
                .filter(|kind| kind.only_while.is_none())
                .and_then(|kind| kind.code.clone())
        };
        let mut counts = [0, 0];
        for (slot, address, len) in self.op_sites() {
            if let (Some(code), Some(found)) = (unconditional(slot), self.view.bytes(address, len.into())) {
                counts[usize::from(found.starts_with(&code))] += 1;
            }
        }
        let inlines = counts[1] > counts[0];
        self.state.inlines = inlines;
        self.vote(Unknown::Inlines, inlines.into(), counts[usize::from(inlines)], counts[usize::from(!inlines)], false);
    }

    fn slots(&mut self) {
        let sheet = self.sheet;
        let mut tallies: Vec<Tally<u64>> = Vec::new();
        tallies.resize_with(sheet.slots.len(), Tally::new);
        let nothing = sheet.brief.ops.nop.or(sheet.marks.nop);
        let bug = sheet.brief.ops.bug.or(sheet.marks.bug);
        let mut form = Vec::new();
        for (slot, address, len) in self.op_sites() {
            let Some(found) = self.view.bytes(address, len.into()) else { continue };
            let target = match found {
                [CALL | JMP, a, b, c, d, ..] => Some(sheet.code.target(address, 5, &[*a, *b, *c, *d])),
                _ => None,
            };
            let target = target.map(|target| sheet.meant(&self.state, target));
            let at = usize::from(slot);
            let kind = sheet.slots[at].op.and_then(|op| sheet.brief.ops.inlined.get(usize::from(op)));
            let guarded = kind.filter(|kind| kind.code.is_some()).and_then(|kind| kind.only_while);
            let target = if target.is_some() && target == bug { Some(0) } else { target };
            let candidates =
                [guarded, target.filter(|&t| t == 0 || sheet.is_function(t)), nothing, sheet.brief.ops.identity];
            // By type, whatever the slot holds: no vote.
            if self.state.inlines && kind.is_some_and(|kind| kind.code.is_some() && kind.only_while.is_none()) {
                continue;
            }
            for candidate in candidates.into_iter().flatten().chain([0]) {
                form.clear();
                form.extend_from_slice(found);
                if sheet.slots[at].op.is_some() {
                    sheet.op(slot, &self.state, address, candidate, &mut form);
                } else if Some(candidate) == nothing {
                    state_nops(&self.state, &mut form);
                } else {
                    form.fill(insn::NOP);
                    let target = if candidate == 0 { bug.unwrap_or(0) } else { candidate };
                    let counts = sheet.counts_at(address, true);
                    let target = if counts { sheet.counted(&self.state, target) } else { target };
                    form[..5].copy_from_slice(&insn::call(address, target));
                    state_nops(&self.state, &mut form[5..]);
                }
                if form == found {
                    tallies[at].add(candidate);
                    break;
                }
            }
        }
        let backend = self.backend(&tallies);
        let none = HashMap::new();
        let fills = backend.map_or(&none, |at| &sheet.brief.backends[at].slots);
        for (at, tally) in tallies.iter().enumerate() {
            let slot = sheet.slots[at];
            let known = self.known.slots.get(&slot.address).copied();
            let (mut value, _, all) = tally.winner().unwrap_or((slot.built, 0, 0));
            let allowed = |value: u64| match fills.get(&slot.address) {
                Some(values) => values.contains(&value),
                None => value == slot.built,
            };
            let votes = |value: u64| tally.0.get(&value).copied().unwrap_or(0);
            if votes(value) < ENOUGH && backend.is_some() && !allowed(value) {
                // Too few to be believed against what backends do.
                let likely = fills.get(&slot.address).cloned().unwrap_or_else(|| vec![slot.built]);
                value = likely.into_iter().max_by_key(|&v| votes(v)).unwrap_or(slot.built);
            }
            value = known.unwrap_or(value);
            self.state.slots[at] = value;
            self.vote(Unknown::Slot(slot.address), value, votes(value), all - votes(value), known.is_some());
        }
    }

    /// The backend that explains most, and its place; of several the first.
    fn backend(&mut self, tallies: &[Tally<u64>]) -> Option<usize> {
        let sheet = self.sheet;
        let explains = |at: usize| -> u32 {
            let fills = &sheet.brief.backends[at].slots;
            let of = |(slot, tally): (&super::sheet::Slot, &Tally<u64>)| {
                let votes = |value: u64| tally.0.get(&value).copied().unwrap_or(0);
                fills
                    .get(&slot.address)
                    .map_or(votes(slot.built), |values| values.iter().map(|&v| votes(v)).max().unwrap_or(0))
            };
            sheet.slots.iter().zip(tallies).map(of).sum()
        };
        let best = (0..sheet.brief.backends.len()).max_by_key(|&at| (explains(at), usize::MAX - at));
        if let Some(at) = best {
            self.backend = sheet.brief.backends[at].name.clone();
        }
        best
    }

    fn xen(&mut self) {
        let sheet = self.sheet;
        let number = sheet.brief.numbers.xenpv;
        let known = number.filter(|number| {
            self.votes.iter().any(|vote| vote.about == Unknown::Feature(*number) && vote.votes >= ENOUGH)
        });
        let known = known.map(|number| self.state.has(number));
        self.flag(Unknown::Xen, known, Pass::Unlisted, |state| &mut state.xen);
    }

    fn features(&mut self) {
        let sheet = self.sheet;
        let Some(table) = &sheet.tables.alternatives else { return };
        let mut decided: HashMap<u16, bool> = self.known.features.clone();
        let numbers = sheet.brief.numbers;
        let mode = self.state.branches;
        let asked =
            |about: Unknown, votes: &[Vote]| votes.iter().any(|v| v.about == about && (v.votes >= ENOUGH || v.known));
        if asked(Unknown::Branches, &self.votes) {
            let states = [
                (
                    numbers.retpoline,
                    (!mode.fenced()).then_some(matches!(mode, Branches::Retpolines | Branches::Counted)),
                ),
                (numbers.retpoline_lfence, Some(mode.fenced())),
                (numbers.its, (mode != Branches::Retpolines).then_some(mode.its())),
                (numbers.call_depth, (!mode.fenced()).then_some(mode == Branches::Counted)),
            ];
            for (number, state) in states {
                if let (Some(number), Some(state)) = (number, state) {
                    decided.entry(number).or_insert(state);
                }
            }
        }
        if let (Some(rethunk), true) = (numbers.rethunk, asked(Unknown::Returns, &self.votes)) {
            decided.entry(rethunk).or_insert(self.state.return_thunk.is_some());
        }
        let settled: Vec<u16> = decided.keys().copied().collect();
        let mut present: Vec<u16> = table.rows.iter().map(|row| row.feature).collect();
        present.sort_unstable();
        present.dedup();
        if let Some(&last) = present.last() {
            self.state.features = vec![0; usize::from(last / 32) + 1];
        }
        for (&number, &present) in &decided {
            self.state.set(number, present);
        }
        let ballots = self.ballots(&decided);
        while let Some(turn) = next_turn(&ballots, &decided) {
            decided.extend(turn);
        }
        let mut counts: HashMap<u16, [u32; 2]> = HashMap::new();
        for ballot in &ballots {
            for (at, &feature) in ballot.features.iter().enumerate() {
                // What the site says of this one, all others being as they are.
                let others = ballot.restricted(&decided, Some(at));
                let says = |value: u8| others.iter().any(|&m| m >> at & 1 == value);
                match (says(0), says(1)) {
                    (true, false) => counts.entry(feature).or_default()[0] += 1,
                    (false, true) => counts.entry(feature).or_default()[1] += 1,
                    _ => {}
                }
            }
        }
        for feature in present {
            let value = decided.get(&feature).copied().unwrap_or(false);
            self.state.set(feature, value);
            let count = counts.get(&feature).copied().unwrap_or_default();
            let (votes, against) = (count[usize::from(value)], count[usize::from(!value)]);
            let from_tables = settled.contains(&feature) && !self.known.features.contains_key(&feature);
            let votes = votes + if from_tables { self.table_votes(feature) } else { 0 };
            self.vote(
                Unknown::Feature(feature),
                value.into(),
                votes,
                against,
                self.known.features.contains_key(&feature),
            );
        }
    }

    /// How many sites of other tables said what a feature is.
    fn table_votes(&self, feature: u16) -> u32 {
        let about =
            if self.sheet.brief.numbers.rethunk == Some(feature) { Unknown::Returns } else { Unknown::Branches };
        self.votes.iter().find(|vote| vote.about == about).map_or(0, |vote| vote.votes)
    }

    /// What each site of `.altinstructions` says.
    fn ballots(&mut self, decided: &HashMap<u16, bool>) -> Vec<Ballot> {
        let sheet = self.sheet;
        let Some(table) = &sheet.tables.alternatives else { return Vec::new() };
        let mut ballots = Vec::new();
        for cluster in sheet.group(Pass::Alternatives) {
            let mut features: Vec<u16> = Vec::new();
            for piece in sheet.pieces(cluster) {
                if let What::Alternatives { first, count } = piece.what {
                    for row in &table.rows[first as usize..first as usize + usize::from(count)] {
                        if !decided.contains_key(&row.feature) && !features.contains(&row.feature) {
                            features.push(row.feature);
                        }
                    }
                }
            }
            if features.is_empty() || features.len() > MOST_FEATURES || self.view.found(cluster).is_none() {
                continue;
            }
            let all = 1u8 << features.len();
            let mut fitting = Vec::new();
            for assignment in 0..all {
                for (at, &feature) in features.iter().enumerate() {
                    self.state.set(feature, assignment >> at & 1 != 0);
                }
                if self.fits(cluster) {
                    fitting.push(assignment);
                }
            }
            for &feature in &features {
                self.state.set(feature, false);
            }
            if !fitting.is_empty() && fitting.len() < usize::from(all) {
                ballots.push(Ballot { features, fitting });
            }
        }
        ballots
    }
}

fn state_nops(state: &State, site: &mut [u8]) {
    state.nops.fill(site);
}

/// What one cluster says of the features it hangs on: the assignments that explain it, a bit a feature.
struct Ballot {
    features: Vec<u16>,
    fitting: Vec<u8>,
}

impl Ballot {
    /// The assignments that agree with what is decided, the feature `free` aside.
    fn restricted(&self, decided: &HashMap<u16, bool>, free: Option<usize>) -> Vec<u8> {
        let agrees = |m: u8| {
            self.features.iter().enumerate().all(|(at, feature)| {
                free == Some(at) || decided.get(feature).is_none_or(|&value| value == (m >> at & 1 != 0))
            })
        };
        self.fitting.iter().copied().filter(|&m| agrees(m)).collect()
    }
}

/// What can be decided next: the features that most sites speak of, all of them where enough do, else the one that most do.
fn next_turn(ballots: &[Ballot], decided: &HashMap<u16, bool>) -> Option<Vec<(u16, bool)>> {
    let mut counts: HashMap<u16, [u32; 2]> = HashMap::new();
    for ballot in ballots {
        if ballot.features.iter().all(|feature| decided.contains_key(feature)) {
            continue;
        }
        let rest = ballot.restricted(decided, None);
        let Some(&first) = rest.first() else { continue };
        for (at, feature) in ballot.features.iter().enumerate() {
            let value = first >> at & 1;
            if !decided.contains_key(feature) && rest.iter().all(|m| m >> at & 1 == value) {
                counts.entry(*feature).or_default()[usize::from(value)] += 1;
            }
        }
    }
    let strong = |count: &[u32; 2]| count[0].max(count[1]);
    let many: Vec<(u16, bool)> = counts
        .iter()
        .filter(|(_, count)| strong(count) >= ENOUGH)
        .map(|(&f, count)| (f, count[1] > count[0]))
        .collect();
    if !many.is_empty() {
        return Some(many);
    }
    let one = counts.iter().max_by_key(|&(&feature, count)| (strong(count), u16::MAX - feature));
    one.map(|(&feature, count)| vec![(feature, count[1] > count[0])])
}
