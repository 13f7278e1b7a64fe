//! A step of a thread: what it reads and writes, and what the thread decides from it.

use super::choices::Choices;
use super::layout::Field;
use super::program::{Act, At, Cond, Kind, Op, Reg, Val, var_of};
use super::promises;
use super::state::{Machine, State};
use super::violation::Violation;

/// Whose word something lies in (None: the shared memory), and the field.
pub(super) type Place = (Option<usize>, Field);

/// An action under way.
pub(super) struct Run<'m> {
    pub machine: &'m Machine,
    pub state: State,
    pub thread: usize,
    pub choices: Choices,
    /// Whether the one taken is an interrupt.
    pub optional: bool,
    /// Whether a futex wakes in the step that says so.
    pub wakes: bool,
}

impl<'m> Run<'m> {
    /// A thread in a state; where the program leaves ways open, the first is taken.
    pub fn new(machine: &'m Machine, state: State, thread: usize) -> Run<'m> {
        Run { machine, state, thread, choices: Choices::default(), optional: false, wakes: true }
    }

    pub fn name(&self, at: &At) -> String {
        let name = self.machine.program.vars[var_of(*at).0].name;
        let declared = &self.machine.program.vars[var_of(*at).0];
        match *at {
            At::Var(_) => name.to_owned(),
            At::Slot(_, index) => format!("{name}[{}]", usize::from(self.value(index)) & (declared.len - 1)),
            At::Own(_) => format!("T{}.{name}", self.thread),
            At::Picked(_) => format!("T{}.{name}", self.place(at).0.unwrap_or(self.thread)),
        }
    }

    fn word(&self) -> u64 {
        self.state.threads[self.thread]
    }

    fn reg(&self, reg: Reg) -> u8 {
        self.machine.layout.regs[reg.0].get(self.word()) as u8
    }

    fn set_reg(&mut self, reg: Reg, value: u8) {
        self.machine.layout.regs[reg.0].set(&mut self.state.threads[self.thread], u64::from(value));
    }

    fn value(&self, value: Val) -> u8 {
        match value {
            Val::Const(value) => value,
            Val::Plus(reg, more) => self.reg(reg).wrapping_add(more),
            Val::Or(reg, bits) => self.reg(reg) | bits,
        }
    }

    fn equal(&self, reg: Reg, value: Val) -> bool {
        let mask = self.machine.layout.regs[reg.0].mask;
        u64::from(self.reg(reg)) == u64::from(self.value(value)) & mask
    }

    fn holds(&self, condition: &Cond) -> bool {
        match *condition {
            Cond::Always => true,
            Cond::Eq(reg, value) => self.equal(reg, value),
            Cond::Ne(reg, value) => !self.equal(reg, value),
            Cond::Any(reg, bits) => self.reg(reg) & bits != 0,
            Cond::None(reg, bits) => self.reg(reg) & bits == 0,
            Cond::Both(a, x, b, y) => self.equal(a, x) && self.equal(b, y),
        }
    }

    pub fn place(&self, at: &At) -> Place {
        let layout = &self.machine.layout;
        match *at {
            At::Var(var) => (None, layout.vars[var.0]),
            At::Slot(var, index) => {
                let declared = &self.machine.program.vars[var.0];
                let index = u32::from(self.value(index)) & (declared.len as u32 - 1);
                (None, layout.vars[var.0].up(index * declared.bits))
            }
            At::Own(var) => (Some(self.thread), layout.vars[var.0]),
            At::Picked(var) => {
                let picked = layout.picked.get(self.word()) as usize;
                (Some(picked.saturating_sub(1)), layout.vars[var.0])
            }
        }
    }

    pub fn memory(&self, at: &At) -> u8 {
        let (owner, field) = self.place(at);
        field.get(owner.map_or(self.state.memory, |thread| self.state.threads[thread])) as u8
    }

    fn write(&mut self, at: &At, value: Val) {
        let value = u64::from(self.value(value));
        let (owner, field) = self.place(at);
        let word = match owner {
            None => &mut self.state.memory,
            Some(thread) => &mut self.state.threads[thread],
        };
        field.set(word, value);
    }

    /// The newest buffered store to a place, if there is one.
    pub fn forwarded(&self, at: &At) -> Option<u8> {
        let layout = &self.machine.layout;
        let mut word = self.word();
        let stores = layout.stores.get(word);
        if stores == 0 {
            return None;
        }
        let wanted = self.machine.program.stored.iter().position(|stored| stored == at)?;
        let mut newest = None;
        for _ in 0..stores {
            if layout.entry.place.get(word) as usize == wanted {
                newest = Some(layout.entry.value.get(word) as u8);
            }
            word >>= layout.entry.bits;
        }
        newest
    }

    /// The next step of the thread, and what it decides from it. False: it cannot be taken now.
    pub fn step(&mut self) -> Result<bool, Violation> {
        let machine = self.machine;
        let layout = &machine.layout;
        let word = self.word();
        let at = layout.points[machine.point(word)];
        let step = machine.step_at(word);
        let empty = layout.stores.get(word) == 0;
        promises::touches(machine, &self.state, self.thread, step)?;
        match &step.kind {
            Kind::Stop => return Ok(false),
            Kind::Read => {
                for act in &step.acts {
                    if let Act::Get(reg, place) = act {
                        let value = self.forwarded(place).unwrap_or_else(|| self.memory(place));
                        self.set_reg(*reg, value);
                    }
                }
            }
            Kind::Write => {
                for act in &step.acts {
                    if let Act::Put(place, value, _) = act {
                        self.buffer(place, *value);
                    }
                }
            }
            Kind::Locked | Kind::Fence if !empty => return Ok(false),
            Kind::Locked | Kind::Direct => self.at_once(&step.acts),
            Kind::Fence => {}
            Kind::Membarrier => {
                if !empty || layout.left.get(word) != 0 {
                    return Ok(false);
                }
                let others = (0..machine.threads).filter(|&t| machine.buffered(self.state.threads[t]) != 0);
                let left = others.fold(0, |left, thread| left | (1 << thread));
                if left != 0 {
                    layout.left.set(&mut self.state.threads[self.thread], left);
                    return Ok(true);
                }
            }
            Kind::FutexWait(place, expected) => {
                if !empty || layout.blocked.get(word) != 0 {
                    return Ok(false);
                }
                let (_, field) = self.place(place);
                if u64::from(self.memory(place)) == u64::from(self.value(*expected)) & field.mask {
                    layout.blocked.set(&mut self.state.threads[self.thread], 1);
                    return Ok(true);
                }
            }
            Kind::FutexWake(_) | Kind::FutexWakeOne(_) if !self.wakes => {}
            Kind::FutexWake(place) => self.wake(place, false)?,
            Kind::FutexWakeOne(place) => self.wake(place, true)?,
            Kind::Await(condition) => {
                let gets = step.acts.iter().take_while(|act| matches!(act, Act::Get(..))).count();
                self.at_once(&step.acts[..gets]);
                if !self.holds(condition) {
                    return Ok(false);
                }
                self.at_once(&step.acts[gets..]);
            }
        }
        if self.state.memory & layout.epochs != 0 {
            self.begin_epoch();
        }
        self.settle(at + 1)?;
        Ok(true)
    }

    /// What was seen of a slot whose bit 1 is set is out of date from now on.
    fn begin_epoch(&mut self) {
        let machine = self.machine;
        for (reg, of) in &machine.program.epochs {
            for thread in 0..machine.threads {
                let observer = Run::new(machine, self.state, thread);
                let word = self.state.threads[thread];
                let live = machine.layout.live[machine.point(word)];
                let field = machine.layout.regs[reg.0];
                // The thread that kicked has looked by now: what it saw is out of date, too.
                if (live >> field.shift & 1 != 0 || thread == self.thread) && observer.memory(of) & 2 != 0 {
                    field.set(&mut self.state.threads[thread], field.get(word) | 2);
                }
            }
        }
        self.state.memory &= !machine.layout.epochs;
    }

    fn at_once(&mut self, acts: &[Act]) {
        for act in acts {
            match act {
                Act::Get(reg, place) => {
                    let value = self.memory(place);
                    self.set_reg(*reg, value);
                }
                Act::GetIf(reg, place, condition) => {
                    if self.holds(condition) {
                        let value = self.memory(place);
                        self.set_reg(*reg, value);
                    }
                }
                Act::Put(place, value, condition) => {
                    if self.holds(condition) {
                        self.write(place, *value);
                    }
                }
            }
        }
    }

    fn buffer(&mut self, at: &At, value: Val) {
        let layout = &self.machine.layout;
        let value = u64::from(self.value(value)) & self.place(at).1.mask;
        let place = self.machine.program.stored.iter().position(|stored| stored == at).unwrap_or(0);
        let stores = layout.stores.get(self.word());
        // The analysis of the program has shown that there is room.
        debug_assert!((stores as usize) < self.machine.program.buffer);
        let up = stores as u32 * layout.entry.bits;
        let word = &mut self.state.threads[self.thread];
        layout.entry.place.up(up).set(word, place as u64);
        layout.entry.value.up(up).set(word, value);
        layout.stores.set(word, stores + 1);
    }

    /// Unblocks those who block on a place: all, or any one of them.
    fn wake(&mut self, place: &At, one: bool) -> Result<(), Violation> {
        let machine = self.machine;
        let woken = self.place(place);
        let sleeps = |run: &Run<'_>, thread: usize| machine.sleeps_on(&run.state, thread) == Some(woken);
        let sleepers = (0..machine.threads).filter(|&thread| sleeps(self, thread)).count() as u8;
        let only = one.then(|| self.choices.take(sleepers));
        let mut met = 0;
        for thread in 0..machine.threads {
            if !sleeps(self, thread) {
                continue;
            }
            met += 1;
            if only.is_some_and(|only| only != met - 1) {
                continue;
            }
            let mut sleeper = Run { choices: self.choices, ..Run::new(machine, self.state, thread) };
            sleeper.awake()?;
            (self.state, self.choices) = (sleeper.state, sleeper.choices);
        }
        Ok(())
    }

    /// It sleeps no more.
    pub fn awake(&mut self) -> Result<(), Violation> {
        let machine = self.machine;
        let at = machine.layout.points[machine.point(self.word())];
        machine.layout.blocked.set(&mut self.state.threads[self.thread], 0);
        self.settle(at + 1)
    }

    /// From an op on, all that is local, up to the next step.
    pub fn settle(&mut self, mut at: usize) -> Result<(), Violation> {
        let machine = self.machine;
        let layout = &machine.layout;
        loop {
            match &machine.program.ops[at] {
                Op::Step(_) => break,
                Op::Goto(to) => at = *to,
                Op::If(condition, to) => at = if self.holds(condition) { *to } else { at + 1 },
                Op::Either(to) => at = if self.choices.take(2) == 1 { *to } else { at + 1 },
                Op::Maybe(to) if self.choices.take(2) == 1 => (at, self.optional) = (*to, true),
                Op::Maybe(_) => at += 1,
                Op::Set(reg, value) => {
                    let value = self.value(*value);
                    self.set_reg(*reg, value);
                    at += 1;
                }
                Op::Others => {
                    let all = (1 << machine.threads) - 1;
                    layout.left.set(&mut self.state.threads[self.thread], all & !(1 << self.thread));
                    at += 1;
                }
                Op::Pick(none_left) => {
                    let left = layout.left.get(self.word());
                    if left == 0 {
                        at = *none_left;
                        continue;
                    }
                    let way = self.choices.take(left.count_ones() as u8);
                    let picked = (0..way).fold(left, |left, _| left & (left - 1)).trailing_zeros();
                    let word = &mut self.state.threads[self.thread];
                    layout.picked.set(word, u64::from(picked) + 1);
                    layout.left.set(word, left & !(1 << picked));
                    at += 1;
                }
                Op::Keep | Op::Resume => {
                    let (now, kept) = ((layout.left, layout.picked), layout.kept);
                    let (from, to) =
                        if matches!(machine.program.ops[at], Op::Keep) { (now, kept) } else { (kept, now) };
                    let word = &mut self.state.threads[self.thread];
                    let (left, picked) = (from.0.get(*word), from.1.get(*word));
                    to.0.set(word, left);
                    to.1.set(word, picked);
                    at += 1;
                }
                Op::Mark(mark) => {
                    at += 1;
                    if promises::mark(machine, &mut self.state, self.thread, *mark)? {
                        at = machine.program.ops.len() - 1;
                    }
                }
            }
        }
        let point = layout.point_of[at];
        let word = &mut self.state.threads[self.thread];
        layout.point.set(word, point as u64);
        *word &= layout.live[point];
        Ok(())
    }
}
