//! The verdict: memory held to the one text that the inferred state allows.

use std::ops::Range;

use super::clusters::{Cluster, SiteMap};
use super::form::{PASSES, number};
use super::infer::Vote;
use super::owners::{self, Owner};
use super::state::{State, Target};
use super::view::View;
use crate::plan::Pass;

/// Memory is compared in pieces of this size, most of which are equal.
const CHUNK: usize = 4096;
/// Wrong bytes that are no farther apart than this are one run: what somebody writes may agree with what was there.
const JOINED: usize = 4;
/// So many runs are named; where there are more, it is not somebody's change that is looked at.
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
    /// Who writes such things, as far as it looks.
    pub owner: Option<Owner>,
    /// What it is nearest to, in words.
    pub nearest: Option<String>,
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
    /// The backend that fits the ops, where any is known.
    pub backend: String,
    /// Stretches that each pass changed: address, length, and the pass. For pictures.
    pub spans: Vec<(u64, u32, Pass)>,
}

pub(super) fn judge(map: &SiteMap<'_>, view: &View<'_>, state: State, votes: Vec<Vote>, backend: String) -> Report {
    let (start, end) = map.text;
    let memory = view.all();
    let Compared { mut counts, mut spans, fits } = hold(map, memory, &state);
    let mut unexplained = Vec::new();
    if !fits {
        let mut expected = expected(map, &state);
        for (address, len) in map.count_all(view, &state, &mut expected) {
            let range = (address - start) as usize..(address - start) as usize + len as usize;
            let built = &map.code.from(address)[..len as usize];
            let both = expected[range.clone()].iter().zip(&memory[range]).zip(built);
            let bytes = both.filter(|((should, is), built)| should == is && is != built).count() as u64;
            counts[usize::from(number(Pass::CallSites))] += bytes;
            if bytes > 0 {
                spans.push((address, len, Pass::CallSites));
            }
        }
        spans.sort_unstable_by_key(|&(address, ..)| address);
        unexplained = unexplained_runs(map, view, &state, &expected);
    }
    let explained = PASSES.iter().zip(counts).filter(|&(_, bytes)| bytes > 0);
    Report {
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
        state,
        votes,
        backend,
        spans,
    }
}

/// Memory held to what it should be.
struct Compared {
    /// Bytes that each pass accounts for.
    counts: [u64; PASSES.len()],
    spans: Vec<(u64, u32, Pass)>,
    /// Whether all of it is as it should be, unread bytes aside.
    fits: bool,
}

/// Holds all of memory to the state: on two threads, half of the clusters each.
fn hold(map: &SiteMap<'_>, memory: &[u8], state: &State) -> Compared {
    let clusters = map.touching(map.text.0, map.text.1);
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
    let mut held = Compared { counts: [0; PASSES.len()], spans: Vec::new(), fits: true };
    let (mut form, mut owners) = (Vec::new(), Vec::new());
    let mut done = range.start;
    for cluster in clusters {
        let Some(at) = cluster.start.checked_sub(start).map(|at| at as usize) else { continue };
        map.attributed(cluster, state, &mut form, &mut owners);
        let end = at + form.len();
        let (Some(was), Some(is)) = (built.get(at..end), memory.get(at..end)) else { continue };
        held.fits &= built[done..at] == memory[done..at] && form == is;
        done = end;
        if form == was {
            continue;
        }
        let mut last = None;
        for (((built, is), form), owner) in was.iter().zip(is).zip(&form).zip(&owners) {
            if built != form
                && is == form
                && let Some(count) = held.counts.get_mut(usize::from(*owner))
            {
                *count += 1;
                last = PASSES.get(usize::from(*owner)).copied();
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

/// The runs of wrong bytes, as offsets into `.text`.
fn runs(
    view: &View<'_>,
    start: u64,
    expected: &[u8],
    mut joined: impl FnMut(usize, usize) -> bool,
) -> Vec<Range<usize>> {
    let mut runs: Vec<Range<usize>> = Vec::new();
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
            match runs.last_mut() {
                Some(run) if at == run.end || joined(run.end - 1, at) => run.end = at + 1,
                _ => runs.push(at..at + 1),
            }
        }
    }
    runs
}

fn unexplained_runs(map: &SiteMap<'_>, view: &View<'_>, state: &State, expected: &[u8]) -> Vec<Unexplained> {
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
    let mut unexplained = Vec::new();
    for run in runs(view, start, expected, joined) {
        let (is, should) = (&memory[run.clone()], &expected[run.clone()]);
        let site = match cluster(run.start) {
            Some(site) => {
                let from = (site.start - start) as usize;
                from..(from + site.len as usize).max(run.end)
            }
            None => owners::instruction(map, expected, &run),
        };
        let site = site.start..site.end.min(expected.len());
        let pass = cluster(run.start).and_then(|site| map.pieces(site).last()).map(|piece| piece.kind.pass());
        let (owner, nearest) = if unexplained.len() < NAMED {
            owners::recognise(map, state, cluster(run.start), start + site.start as u64, &memory[site.clone()])
        } else {
            (None, None)
        };
        unexplained.push(Unexplained {
            address: start + run.start as u64,
            expected: should.to_vec(),
            found: is.to_vec(),
            wrong: is.iter().zip(should).filter(|(is, should)| is != should).count() as u32,
            site: (start + site.start as u64, expected[site.clone()].to_vec(), memory[site].to_vec()),
            pass,
            owner,
            nearest,
        });
    }
    unexplained
}
