//! The measuring itself: everything in executable memory, and rounds over all forms.

use std::cell::UnsafeCell;
use std::time::{Duration, Instant};

use super::Broken;
use super::assemble::Counter;
use super::clock::{Clock, tsc};
use super::form::{FORMS, Form};
use super::region::{self, COLD, DISTINCT, Programs, Region, UNROLLED};
use super::statistics::median;
use super::yardsticks::{self, Yardsticks};
use crate::error::{Error, Result};
use crate::exec::{Draft, ExecutableCode};

/// Turns of the loops: long enough for the clock, short enough to fit between two interruptions.
pub const TURNS: u64 = 32;
const FENCED_TURNS: u64 = 8;
/// Turns of the yardstick: 128 additions each.
const YARD_TURNS: u64 = 80;
/// Turns of the nops that tell how quiet the core is: 256 each.
const NOP_TURNS: u64 = 24;
/// How much slower than ever the nops may be for a reading to count.
pub const QUIET: f64 = 1.08;
/// How far the yardstick may move while a round runs.
const STEADY: f64 = 1.02;
/// Fewer rounds than these say nothing.
const ENOUGH: usize = 8;
/// How many times as long as was asked for it may take to have so many.
const PATIENCE: u32 = 3;

/// Ways to run a form, those that subtract two programs first.
pub const WAYS: usize = 5;
pub const PAIRS: usize = 2;
/// Rounds from one that runs the cold sites to the next: they take as long as all else.
const COLD_EVERY: u32 = 3;

/// Is told how long has been measured, and how long there was to be; an error ends it.
pub type Progress<'a> = &'a mut dyn FnMut(Duration, Duration) -> Result<()>;

/// One way to run a form: two programs, and how many sites one has more than the other.
#[derive(Clone, Copy)]
pub struct Pair {
    programs: [(usize, u64); 2],
    /// How many sites the second program runs more.
    pub more: f64,
}

/// Everything laid out in one piece of executable memory.
pub struct Bench {
    code: ExecutableCode,
    /// What counts.
    pub clock: Clock,
    yard: Yardsticks,
    /// The slot without a site, then every form.
    pub forms: Vec<Laid>,
    broken: Option<Broken>,
    /// What an inlined unlock writes to.
    scratch: Box<UnsafeCell<u64>>,
}

/// A region in place.
pub struct Laid {
    /// Which.
    pub form: Form,
    at: usize,
    programs: Programs,
    /// What stands at its first site.
    pub site: Vec<u8>,
    /// Where that is.
    pub site_address: u64,
}

/// One reading, in ticks.
#[derive(Clone, Copy)]
pub struct Reading {
    /// Of the first program; of a cold site nothing.
    pub first: f64,
    /// Of the second.
    pub second: f64,
    /// What the nops took before or after, whichever is more: how much of the core others had.
    pub noise: f64,
    /// Core cycles in a tick.
    pub scale: f64,
}

/// The readings of one way of one form, one a round.
pub type Readings = Vec<Reading>;

/// What the rounds gave.
pub struct Rounds {
    /// Every form's readings in every way, the slot's first.
    pub forms: Vec<[Readings; WAYS]>,
    /// The yardsticks': 32 and 64 additions, then multiplications.
    pub yards: [Readings; 4],
    /// Core cycles in a tick, over all rounds.
    pub rate: f64,
    /// How many rounds counted.
    pub count: usize,
    /// How many were disturbed, and did not.
    pub disturbed: usize,
}

impl Bench {
    /// Lays out every form.
    ///
    /// Fails where code made here may not run.
    pub fn new(broken: Option<Broken>) -> Result<Bench> {
        let clock = Clock::new();
        // Lengths do not depend on addresses: the layout is made twice, the second time where it will run.
        let probe = FORMS.map(|form| region::build(form, 1 << 32, clock.counter).map(|region| region.bytes.len()));
        let lengths = probe.into_iter().collect::<Result<Vec<_>>>()?;
        let yard_len = yardsticks::build(1 << 32, clock.counter).0.len();
        // One more empty slot: what the first is compared with.
        let empty = lengths[0];
        let mut draft = Draft::new(yard_len + empty + lengths.iter().sum::<usize>())?;
        let base = draft.address();
        let (bytes, yard) = yardsticks::build(base, clock.counter);
        draft.bytes()[..bytes.len()].copy_from_slice(&bytes);
        let mut at = bytes.len();
        let mut forms = Vec::with_capacity(FORMS.len() + 1);
        for form in [Form::Empty].into_iter().chain(FORMS) {
            let Region { bytes, programs, site, site_address } = region::build(form, base + at as u64, clock.counter)?;
            draft.bytes()[at..at + bytes.len()].copy_from_slice(&bytes);
            forms.push(Laid { form, at, programs, site, site_address });
            at += bytes.len();
        }
        Ok(Bench { code: draft.finish()?, clock, yard, forms, broken, scratch: Box::new(UnsafeCell::new(0)) })
    }

    /// Runs a program and returns what it read.
    fn time(&self, program: usize, turns: u64) -> f64 {
        let turns = if self.broken == Some(Broken::Loop) { 1 } else { turns };
        let scratch = self.scratch.get() as u64;
        let before = self.clock.state();
        // SAFETY: `region` lays a function down at each offset it names: it keeps %rbx, %r12 and the stack, takes its
        // turns and returns, and writes only to its stack and, an inlined unlock, one byte at its first argument: scratch
        // memory of `self`, a cell that nothing else reads or writes.
        let ticks = unsafe { self.code.call(program, scratch, turns) };
        match ticks {
            Ok(ticks) if self.clock.state() == before => ticks as f64,
            _ => f64::NAN,
        }
    }

    /// Both programs of a way, each run once before so that it is warm.
    fn pair(&self, pair: Pair) -> Reading {
        self.quietly(|| {
            let [first, second] = pair.programs.map(|(program, turns)| {
                self.time(program, turns);
                self.time(program, turns)
            });
            (first, second)
        })
    }

    /// Reads, and says what others did to the core meanwhile.
    fn quietly(&self, read: impl FnOnce() -> (f64, f64)) -> Reading {
        let before = self.time(self.yard.nops, NOP_TURNS);
        let (first, second) = read();
        let noise = before.max(self.time(self.yard.nops, NOP_TURNS));
        Reading { first, second, noise, scale: f64::NAN }
    }

    /// What a reading says one site takes, in ticks.
    pub fn difference(&self, first: f64, second: f64, more: f64) -> f64 {
        match self.broken {
            Some(Broken::Subtraction) => second / more,
            _ => (second - first) / more,
        }
    }

    /// Ticks of one dependent addition.
    fn tick(&self) -> f64 {
        let chain = (4 * UNROLLED) as u64 * YARD_TURNS;
        let least = (0..3).map(|_| self.time(self.yard.adds[2], YARD_TURNS)).fold(f64::INFINITY, f64::min);
        least / chain as f64
    }

    /// Core cycles in a tick of the time-stamp counter, where programs count core cycles.
    fn cycles_per_tsc(&self) -> f64 {
        let mut ratios: Vec<f64> = (0..ENOUGH)
            .map(|_| {
                let began = tsc();
                let cycles = self.time(self.yard.adds[2], 20 * YARD_TURNS);
                cycles / tsc().wrapping_sub(began) as f64
            })
            .filter(|ratio| ratio.is_finite())
            .collect();
        median(&mut ratios).0
    }

    /// What a cold site took, the mean of most of them; `chill` makes them cold.
    ///
    /// The mean, as clocks of some CPUs tick in steps as long as a site takes; of most, as one interruption is longer than
    /// all sites together.
    fn cold(&self, laid: &Laid, chill: impl Fn(&Bench, &Laid)) -> Reading {
        let site = |&program: &usize| self.time(laid.at + program, 1);
        laid.programs.cold.iter().for_each(|program| _ = site(program));
        self.quietly(|| {
            chill(self, laid);
            let mut took: Vec<f64> = laid.programs.cold.iter().map(site).filter(|t| t.is_finite()).collect();
            took.sort_by(f64::total_cmp);
            took.truncate(COLD - COLD / 8);
            (0.0, took.iter().sum::<f64>() / took.len() as f64)
        })
    }

    /// What one of the distinct sites took, after the predictor forgot them; the slot has the same loop and clock.
    fn distinct(&self, laid: &Laid) -> Reading {
        let program = laid.at + laid.programs.distinct;
        self.time(program, 1);
        self.quietly(|| {
            self.forget(laid);
            (0.0, self.time(program, 1) / DISTINCT as f64)
        })
    }

    fn flush(&self, laid: &Laid) {
        let (at, len) = laid.programs.shared;
        self.code.flush(laid.at + at, len);
    }

    fn forget(&self, _: &Laid) {
        self.time(self.yard.forget, 1);
    }

    /// A form in every way; cold only where asked.
    fn ways(&self, laid: &Laid, cold: bool) -> [Option<Reading>; WAYS] {
        let [warm, serialised] = self.pairs(laid).map(|pair| Some(self.pair(pair)));
        let chilled = |chill: fn(&Bench, &Laid)| cold.then(|| self.cold(laid, chill));
        [warm, serialised, Some(self.distinct(laid)), chilled(Bench::flush), chilled(Bench::forget)]
    }

    /// The ways that subtract one program from another.
    pub fn pairs(&self, laid: &Laid) -> [Pair; PAIRS] {
        let at = |program: usize| laid.at + program;
        let unrolled = |programs: [usize; 2], turns: u64| Pair {
            programs: programs.map(|program| (at(program), turns)),
            more: (UNROLLED as u64 * turns) as f64,
        };
        [unrolled(laid.programs.warm, TURNS), unrolled(laid.programs.serialised, FENCED_TURNS)]
    }

    /// Rounds over all forms for as long as this; before each `progress` is told how long they have been going on.
    ///
    /// Fails where nothing but disturbed rounds were to be had, and where `progress` does.
    pub fn run(&self, time: Duration, progress: Progress<'_>) -> Result<Rounds> {
        let began = Instant::now();
        let mut forms: Vec<[Readings; WAYS]> = vec![Default::default(); self.forms.len()];
        let mut yards: [Readings; 4] = Default::default();
        let mut scales = Vec::new();
        let (mut round, mut disturbed) = (0u32, 0);
        let mut before = self.tick();
        while began.elapsed() < time || (scales.len() < ENOUGH && began.elapsed() < PATIENCE * time) {
            progress(began.elapsed(), time)?;
            let yard = self.yardsticks();
            let cold = round.is_multiple_of(COLD_EVERY);
            round += 1;
            let readings: Vec<_> = self.forms.iter().map(|laid| self.ways(laid, cold)).collect();
            let after = self.tick();
            let steady = before / after < STEADY && after / before < STEADY;
            let scale = if self.clock.counter == Counter::Tsc { 2.0 / (before + after) } else { 1.0 };
            before = after;
            if !steady {
                disturbed += 1;
                continue;
            }
            scales.push(scale);
            let keep = |kept: &mut Readings, new: Reading| kept.push(Reading { scale, ..new });
            yards.iter_mut().zip(yard).for_each(|(kept, new)| keep(kept, new));
            for (kept, new) in forms.iter_mut().zip(readings) {
                kept.iter_mut().zip(new).for_each(|(kept, new)| new.into_iter().for_each(|new| keep(kept, new)));
            }
        }
        if scales.len() < ENOUGH {
            let all = scales.len() + disturbed;
            return Err(Error::execution(format!(
                "too little time undisturbed: {disturbed} of {all} rounds in {:.1} s; others use this CPU, or its clock moves",
                began.elapsed().as_secs_f64()
            )));
        }
        let rate = median(&mut scales.clone()).0;
        Ok(Rounds { forms, yards, rate, count: scales.len(), disturbed })
    }

    /// Core cycles in a tick of the time stamp counter, where the clock ticks `rate` of them in a tick of its own.
    pub fn cycles_in_tsc(&self, rate: f64) -> f64 {
        if self.clock.counter == Counter::Tsc { rate } else { self.cycles_per_tsc() }
    }

    /// One reading of n and 2n, and of 2n and 4n, additions and multiplications.
    fn yardsticks(&self) -> [Reading; 4] {
        let pair = |programs: [usize; 3], from: usize| {
            self.pair(Pair { programs: [(programs[from], TURNS), (programs[from + 1], TURNS)], more: 1.0 })
        };
        let Yardsticks { adds, imuls, .. } = self.yard;
        [pair(adds, 0), pair(adds, 1), pair(imuls, 0), pair(imuls, 1)]
    }
}

const _: () = assert!(COLD >= ENOUGH);
