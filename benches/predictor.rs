//! Why the distinct sites of `pvops bench` stand in code without other branches, and run after the predictor forgot them.
//!
//! Direct calls, calls through memory and jumps, more and more of them, each once a pass. Between two of them is either a
//! jump of the program's own or nops; before each pass the predictor either meets 65,536 other branches or not. Time is of
//! a whole pass; the row `limit: empty` is the same program without sites, which `pvops bench` subtracts.
//!
//! With a jump between, 4,096 sites are 8,192 branches: as many as the predictor holds on some CPUs (7,168 on Zen 4). Then
//! what a site costs hangs on which of the branches happen to be forgotten, the jumps among them, and a direct call may come
//! out dearer than an indirect one. With nops the predictor holds all 4,096, and they cost next to nothing, as in a loop.
//! With nops and a predictor full of others a form costs the same whether there are 1,024 sites or 8,192.
#![allow(missing_docs, clippy::expect_used)]

use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use pvops::exec::{Draft, ExecutableCode};
use pvops::insn::{X86_NOPS, call, jmp};

const APART: usize = 128;
const FUNCTIONS: usize = 64;
const SITES: [usize; 4] = [1024, 2048, 4096, 8192];
/// Blocks of the walk that makes the predictor forget: a call and a jump each.
const FORGET: usize = 32768;

#[derive(Clone, Copy, PartialEq)]
enum Form {
    Empty,
    Direct,
    Indirect,
    Jump,
}

const FORMS: [(Form, &str); 4] = [
    (Form::Empty, "limit: empty"),
    (Form::Direct, "pvops: direct_call"),
    (Form::Indirect, "pvops: indirect_call"),
    (Form::Jump, "pvops: jump_over"),
];

/// Two programs in executable memory: a pass over sites, and the walk.
struct Laid {
    code: ExecutableCode,
    pass: usize,
    forget: usize,
}

struct Writer<'a> {
    bytes: &'a mut [u8],
    base: u64,
    at: usize,
}

impl Writer<'_> {
    fn put(&mut self, bytes: &[u8]) {
        self.bytes[self.at..self.at + bytes.len()].copy_from_slice(bytes);
        self.at += bytes.len();
    }

    fn address(&self, at: usize) -> u64 {
        self.base + at as u64
    }

    fn jump(&mut self, to: usize) {
        self.put(&jmp(self.address(self.at), self.address(to)));
    }

    fn call(&mut self, to: usize) {
        self.put(&call(self.address(self.at), self.address(to)));
    }

    /// On to a place, by a jump or by nops.
    fn on(&mut self, to: usize, jumps: bool) {
        if jumps {
            self.jump(to);
        } else {
            X86_NOPS.fill(&mut self.bytes[self.at..to]);
        }
        self.at = to;
    }

    fn site(&mut self, form: Form, function: usize) {
        match form {
            Form::Empty => {}
            Form::Direct => self.call(64 * (1 + FUNCTIONS + function)),
            Form::Indirect => {
                let next = self.address(self.at + 6);
                self.put(&[0xff, 0x15]);
                self.put(&(self.address(8 * function).wrapping_sub(next) as u32).to_le_bytes());
            }
            Form::Jump => self.put(&[0xeb, 0x03, 0x0f, 0x1f, 0x00]),
        }
    }
}

fn scattered(number: usize) -> usize {
    (number as u32).wrapping_mul(2_654_435_761) as usize >> 16
}

fn lay(form: Form, sites: usize, jumps: bool) -> Laid {
    let pass = 64 * (1 + 2 * FUNCTIONS);
    let forget = (pass + APART * (sites + 4)).next_multiple_of(4096);
    let mut draft = Draft::new(forget + 64 * (FORGET + 8)).expect("code made here may run");
    let base = draft.address();
    let mut code = Writer { base, bytes: draft.bytes(), at: 0 };
    for function in 0..FUNCTIONS {
        let at = 64 * (1 + FUNCTIONS + function);
        code.bytes[8 * function..8 * function + 8].copy_from_slice(&(base + at as u64).to_le_bytes());
        code.bytes[at] = 0xc3;
    }
    code.at = pass;
    let first = (pass + 8).next_multiple_of(APART);
    // Anywhere in the first of two cache lines, as compilers do not align sites.
    let place = |site: usize| first + APART * site + 4 * (scattered(site) % 11);
    for site in 0..sites {
        code.on(place(site), jumps);
        code.site(form, scattered(site) % FUNCTIONS);
    }
    code.on(place(sites), jumps);
    code.put(&[0xc3]);
    code.at = forget;
    let function = forget + 8;
    let blocks = forget + 64;
    code.jump(blocks);
    code.bytes[function] = 0xc3;
    for block in 0..FORGET {
        code.at = blocks + 64 * block;
        code.call(function);
        code.jump(blocks + 64 * (block + 1));
    }
    code.bytes[blocks + 64 * FORGET] = 0xc3;
    Laid { code: draft.finish().expect("code made here may run"), pass, forget }
}

impl Laid {
    fn run(&self, program: usize) {
        // SAFETY: `lay` put a function at either offset: it calls functions that return at once, and returns.
        unsafe { self.code.call(program, 0, 0) }.expect("an offset inside");
    }

    fn passes(&self, count: u64, forgetting: bool) -> Duration {
        self.run(self.pass);
        let timed = |_| {
            if forgetting {
                self.run(self.forget);
            }
            let began = Instant::now();
            self.run(self.pass);
            began.elapsed()
        };
        // Of many passes the one in the middle: what else the machine does makes some of them ten times as long.
        let mut took: Vec<Duration> = (0..count).map(timed).collect();
        took.sort();
        took[took.len() / 2] * count as u32
    }
}

fn predictor(criterion: &mut Criterion) {
    for (jumps, forgetting, name) in [
        (true, false, "a jump between two sites"),
        (false, false, "nops between two sites"),
        (false, true, "nops between two sites, the predictor full of others"),
    ] {
        for sites in SITES {
            let mut group = criterion.benchmark_group(format!("{name}: {sites} sites"));
            group.sample_size(10).warm_up_time(Duration::from_millis(50)).measurement_time(Duration::from_millis(200));
            for (form, row) in FORMS {
                let laid = lay(form, sites, jumps);
                group.bench_function(row, |bencher| bencher.iter_custom(|count| laid.passes(count, forgetting)));
            }
            group.finish();
        }
    }
}

criterion_group!(benches, predictor);
criterion_main!(benches);
