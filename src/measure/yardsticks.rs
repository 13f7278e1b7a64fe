//! The programs that the clock is judged by: additions, multiplications, nops. And one that makes a predictor forget.

use super::assemble::{ADD, Assembler, Counter, IMUL};
use super::region::UNROLLED;
use crate::insn::{NOP, RET};

/// Blocks that make the predictor forget, a call and a jump each: more branches than any has room for. Half as many leave
/// Zen 4 most of the jumps that it knew, though its tables have 7,168 places (benches/predictor.rs).
const FORGET: usize = 32768;

/// The programs that the clock is judged by: they have no sites.
#[derive(Debug, Clone, Copy, Default)]
pub struct Yardsticks {
    /// [`UNROLLED`] dependent additions a turn, twice as many, four times as many.
    pub adds: [usize; 3],
    /// The same with multiplications.
    pub imuls: [usize; 3],
    /// [`UNROLLED`] times eight nops of one byte a turn: as fast as a core that nobody else uses can go.
    pub nops: usize,
    /// Runs more branches than a predictor remembers.
    pub forget: usize,
}

/// The yardsticks, to run at this address.
pub fn build(base: u64, counter: Counter) -> (Vec<u8>, Yardsticks) {
    let mut code = Assembler::new(base);
    let mut found = Yardsticks::default();
    for (program, times) in [1, 2, 4].into_iter().enumerate() {
        for (insn, place) in [(&ADD[..], &mut found.adds), (&IMUL[..], &mut found.imuls)] {
            place[program] = (code.align(4096) - base) as usize;
            let top = code.begin(counter, base);
            (0..UNROLLED * times).for_each(|_| code.put(insn));
            code.turn(top);
            code.end(counter);
        }
    }
    found.nops = (code.align(4096) - base) as usize;
    let top = code.begin(counter, base);
    code.put(&[NOP; 8 * UNROLLED]);
    code.turn(top);
    code.end(counter);
    found.forget = (code.align(4096) - base) as usize;
    code.start(counter, base);
    let function = code.here() + 5;
    let first = (function + 1).next_multiple_of(64);
    code.jmp(first);
    code.put(&[RET]);
    for block in 1..=FORGET {
        code.align(64);
        code.call(function);
        code.jmp(first + 64 * block as u64);
    }
    code.align(64);
    code.end(counter);
    code.align(4096);
    (code.finish(), found)
}
