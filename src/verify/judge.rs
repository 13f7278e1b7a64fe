//! The verdict: memory held to the one text that the inferred state allows.

use std::ops::Range;

use super::form::{SHORT, same};
use super::infer::Vote;
use super::nearest::nearest;
use super::owners::{self, Owned, Owner, Writers};
use super::site_map::{Cluster, SiteMap};
use super::state::{State, Target};
use super::suspects;
use super::view::View;
use crate::plan::{ALL_PASSES, Pass};

/// Memory is compared in visits of this size, most of which are equal.
const CHUNK: usize = 4096;
/// Wrong bytes that are no farther apart than this are one run: a change may leave some bytes as they were.
const JOINED: usize = 4;
/// So many runs are named: more of them mean another kernel, not a change of this one.
const NAMED: usize = 10_000;

/// Bytes that one pass accounts for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Explained {
    /// The pass that wrote them last.
    pub pass: Pass,
    /// How many differ from the image as built, as they should.
    pub bytes: u64,
}

/// A run of bytes that nothing accounts for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unexplained {
    /// Its first byte.
    pub address: u64,
    /// What should be there.
    pub expected: Vec<u8>,
    /// What is there.
    pub found: Vec<u8>,
    /// How many of the bytes differ.
    pub wrong: u32,
    /// The site it lies in, or the instruction: its address, and what should and does stand there.
    pub site: (u64, Vec<u8>, Vec<u8>),
    /// The pass that has the last word on the site, if it is one.
    pub pass: Option<Pass>,
    /// The owner that may have written here, and the bytes that are the owner's: these, and no other.
    pub owned: Option<Owned>,
    /// What it is nearest to, in words.
    pub nearest: Option<String>,
    /// Where votes tie, the sites that disagree: any of them may be the one that was changed. Empty elsewhere.
    pub suspects: Vec<u64>,
}

/// What was found in memory.
#[derive(Debug, Clone)]
pub struct Report {
    /// The first address of `.text`, as linked.
    pub address: u64,
    /// How many bytes were judged.
    pub size: u64,
    /// Bytes that each pass accounts for.
    pub explained: Vec<Explained>,
    /// Runs that nothing accounts for, by address.
    pub unexplained: Vec<Unexplained>,
    /// What could not be read.
    pub unread: Vec<Range<u64>>,
    /// What decides the text.
    pub state: State,
    /// Keys of the static calls that were updated to nothing before a return thunk was chosen.
    pub early_calls: Vec<u64>,
    /// How it was found.
    pub votes: Vec<Vote>,
    /// The backends that fit, where any is known: those that the text cannot tell apart.
    pub backends: Vec<String>,
    /// Pages of ITS thunks that the text branches to, less the slide, and what the kernel filled each with.
    pub thunks: Vec<(u64, Vec<u8>)>,
    /// Stretches that each pass changed: address, length, and the pass. For pictures.
    pub spans: Vec<(u64, u32, Pass)>,
}

/// A report, and whether every byte was read and is what the state makes it, none of them counted calls.
pub(super) struct Judged {
    pub report: Report,
    pub clean: bool,
}

pub(super) fn judge(
    map: &SiteMap<'_>,
    view: &View<'_>,
    state: State,
    votes: Vec<Vote>,
    backends: Vec<String>,
    threads: usize,
) -> Judged {
    let (start, end) = map.text;
    let memory = view.all();
    let Compared { mut counts, mut spans, fits } = hold(map, memory, &state, threads);
    let mut unexplained = Vec::new();
    if !fits {
        let mut expected = expected(map, &state);
        for (address, len) in map.count_all(view, &state, &mut expected) {
            let range = (address - start) as usize..(address - start) as usize + len as usize;
            let built = &map.code.from(address)[..len as usize];
            let both = expected[range.clone()].iter().zip(&memory[range]).zip(built);
            let bytes = both.filter(|((should, is), built)| should == is && is != built).count() as u64;
            counts[Pass::CallSites as usize] += bytes;
            if bytes > 0 {
                spans.push((address, len, Pass::CallSites));
            }
        }
        spans.sort_unstable_by_key(|&(address, ..)| address);
        unexplained = unexplained_runs(map, view, &state, &votes, &expected);
    }
    let explained = ALL_PASSES.iter().zip(counts).filter(|&(_, bytes)| bytes > 0);
    let clean = fits && view.unread().is_empty();
    let report = Report {
        address: start,
        size: memory.len() as u64,
        explained: explained.map(|(&pass, bytes)| Explained { pass, bytes }).collect(),
        unexplained,
        unread: view.unread().iter().map(|gap| gap.start.max(start)..gap.end.min(end)).collect(),
        early_calls: map
            .calls
            .iter()
            .zip(&state.calls)
            .filter(|(_, t)| **t == Target::Cleared)
            .map(|(c, _)| c.0)
            .collect(),
        thunks: map.thunk_pages(&state),
        state,
        votes,
        backends,
        spans,
    };
    Judged { report, clean }
}

/// Whether memory was read whole and is byte for byte what a state makes it.
pub(super) fn is_clean(map: &SiteMap<'_>, view: &View<'_>, state: &State) -> bool {
    let (memory, start) = (view.all(), map.text.0);
    let built = map.code.from(start);
    let (mut long, mut done) = (Vec::new(), 0);
    for cluster in map.touching(start, map.text.1) {
        let Some(at) = cluster.start.checked_sub(start).map(|at| at as usize) else { continue };
        let mut short = [0; SHORT];
        let form = map.form_in(cluster, state, &mut short, &mut long);
        let end = at + form.len();
        let (Some(was), Some(is)) = (built.get(at..end), memory.get(at..end)) else { continue };
        if same(form, was) {
            continue;
        }
        if built[done..at] != memory[done..at] || !same(form, is) {
            return false;
        }
        done = end;
    }
    view.unread().is_empty() && built[done..memory.len()] == memory[done..]
}

/// Memory held to what it should be.
struct Compared {
    /// Bytes that each pass accounts for.
    counts: [u64; ALL_PASSES.len()],
    spans: Vec<(u64, u32, Pass)>,
    /// Whether all of it is as it should be, unread bytes aside.
    fits: bool,
}

/// Holds all of memory to the state: on two threads, half of the clusters each, where there may be two.
fn hold(map: &SiteMap<'_>, memory: &[u8], state: &State, threads: usize) -> Compared {
    let clusters = map.touching(map.text.0, map.text.1);
    if threads < 2 {
        return part(map, memory, state, clusters, 0..memory.len());
    }
    let (low, high) = clusters.split_at(clusters.len() / 2);
    let at = |cluster: &Cluster| cluster.start.saturating_sub(map.text.0) as usize;
    let middle = high.first().map_or(memory.len(), at);
    std::thread::scope(|scope| {
        let other = scope.spawn(|| part(map, memory, state, high, middle..memory.len()));
        let mut held = part(map, memory, state, low, 0..middle);
        match other.join() {
            Ok(other) => {
                held.counts.iter_mut().zip(other.counts).for_each(|(count, more)| *count += more);
                held.spans.extend(other.spans);
                held.fits &= other.fits;
                held
            }
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

/// Holds a part of memory to the forms of its clusters, and between them to the code as built.
fn part(map: &SiteMap<'_>, memory: &[u8], state: &State, clusters: &[Cluster], range: Range<usize>) -> Compared {
    let start = map.text.0;
    let built = map.code.from(start);
    let mut held = Compared { counts: [0; ALL_PASSES.len()], spans: Vec::new(), fits: true };
    let (mut long, mut again, mut owners) = (Vec::new(), Vec::new(), Vec::new());
    let mut done = range.start;
    for cluster in clusters {
        let Some(at) = cluster.start.checked_sub(start).map(|at| at as usize) else { continue };
        let mut short = [0; SHORT];
        let form = map.form_in(cluster, state, &mut short, &mut long);
        let end = at + form.len();
        let (Some(was), Some(is)) = (built.get(at..end), memory.get(at..end)) else { continue };
        if same(form, was) {
            // It is compared with what is around it.
            continue;
        }
        let whole = same(form, is);
        held.fits &= whole && built[done..at] == memory[done..at];
        done = end;
        let pass = map.only_pass(cluster, state);
        if let (Some(pass), true) = (pass, whole) {
            // Nearly all are so.
            held.counts[pass as usize] += was.iter().zip(form).map(|(was, is)| u64::from(was != is)).sum::<u64>();
            held.spans.push((cluster.start, cluster.len, pass));
            continue;
        }
        if pass.is_none() {
            map.attributed(cluster, state, &mut again, &mut owners);
        }
        let mut last = None;
        for (i, ((built, is), form)) in was.iter().zip(is).zip(form).enumerate() {
            if built != form
                && is == form
                && let owner = pass.map_or_else(|| owners[i], |pass| pass as u8)
                && let Some(count) = held.counts.get_mut(usize::from(owner))
            {
                *count += 1;
                last = ALL_PASSES.get(usize::from(owner)).copied();
            }
        }
        if let Some(pass) = last {
            held.spans.push((cluster.start, cluster.len, pass));
        }
    }
    held.fits &= built[done..range.end] == memory[done..range.end];
    held
}

/// The text that memory should hold.
fn expected(map: &SiteMap<'_>, state: &State) -> Vec<u8> {
    let (start, end) = map.text;
    let mut expected = map.code.from(start)[..(end - start) as usize].to_vec();
    let mut form = Vec::new();
    for cluster in map.touching(start, end) {
        let Some(at) = cluster.start.checked_sub(start).map(|at| at as usize) else { continue };
        map.form(cluster, state, &mut form);
        if let Some(place) = expected.get_mut(at..at + form.len()) {
            place.copy_from_slice(&form);
        }
    }
    expected
}

/// A run of wrong bytes, as offsets into `.text`.
struct Run {
    range: Range<usize>,
    owned: Option<Owned>,
}

/// The runs of wrong bytes. What an owner may have written is a run of its own.
fn runs(
    view: &View<'_>,
    start: u64,
    expected: &[u8],
    writers: &Writers<'_, '_>,
    mut joined: impl FnMut(usize, usize) -> bool,
) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    let memory = view.all();
    for (chunk, (is, should)) in memory.chunks(CHUNK).zip(expected.chunks(CHUNK)).enumerate() {
        if is == should {
            continue;
        }
        for (i, _) in is.iter().zip(should).enumerate().filter(|(_, (is, should))| is != should) {
            let at = chunk * CHUNK + i;
            let address = start + at as u64;
            if !view.is_read(address, address + 1) {
                continue;
            }
            let last = runs.last_mut();
            let end = last.as_ref().and_then(|run| run.owned.as_ref()).map(|o| o.address + o.bytes.len() as u64);
            if let (Some(run), Some(true)) = (last, end.map(|end| address < end)) {
                run.range.end = at + 1;
                continue;
            }
            let behind = match runs.last_mut() {
                Some(Run { range, owned: None }) if at == range.end || joined(range.end - 1, at) => Some(range),
                _ => None,
            };
            // Not within a run of other wrong bytes: one int3 (0xcc) is in any thousand bytes, and proves no probe.
            let owned = writers.at(address).filter(|owned| behind.is_none() || owned.owners != [Owner::Kprobes]);
            match behind {
                Some(range) if owned.is_none() => range.end = at + 1,
                _ => runs.push(Run { range: at..at + 1, owned }),
            }
        }
    }
    runs
}

fn unexplained_runs(
    map: &SiteMap<'_>,
    view: &View<'_>,
    state: &State,
    votes: &[Vote],
    expected: &[u8],
) -> Vec<Unexplained> {
    let start = map.text.0;
    let memory = view.all();
    let cluster = |at: usize| {
        let address = start + at as u64;
        map.touching(address, address + 1).first()
    };
    let joined = |before: usize, at: usize| match (cluster(before), cluster(at)) {
        (Some(one), Some(other)) => one.start == other.start,
        (None, None) => at - before <= JOINED,
        _ => false,
    };
    let writers = Writers::new(map, state, expected, view);
    let mut named = 0;
    let mut unexplained = Vec::new();
    for Run { range: run, owned } in runs(view, start, expected, &writers, joined) {
        let (is, should) = (&memory[run.clone()], &expected[run.clone()]);
        let here = cluster(run.start);
        let site = match here {
            Some(site) => {
                let from = (site.start.max(start) - start) as usize;
                from..((site.end() - start) as usize).max(run.end)
            }
            None => owners::instruction(map, expected, &run),
        };
        let site = site.start..site.end.min(expected.len());
        let found = &memory[site.clone()];
        let (mut near, mut suspected) = (None, Vec::new());
        if let (Some(cluster), None, true) = (here, &owned, named < NAMED) {
            named += 1;
            near = nearest(map, state, cluster, found);
            suspected = suspects::of(map, view, state, votes, cluster);
        }
        unexplained.push(Unexplained {
            address: start + run.start as u64,
            expected: should.to_vec(),
            found: is.to_vec(),
            wrong: is.iter().zip(should).filter(|(is, should)| is != should).count() as u32,
            site: (start + site.start as u64, expected[site.clone()].to_vec(), found.to_vec()),
            pass: here.and_then(|site| map.visits(site).last()).map(|visit| visit.kind.pass()),
            owned,
            nearest: near,
            suspects: suspected,
        });
    }
    unexplained
}
