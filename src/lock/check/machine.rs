//! The machine: x86-TSO, a kernel with futexes and membarrier, and a hypervisor that kicks.
//!
//! Each thread has a FIFO store buffer. A store goes into it and drains to memory at any time later; a load takes the
//! newest buffered store of its own thread to the place, else memory; a locked instruction or fence waits until the
//! own buffer is empty (P. Sewell et al., *x86-TSO*, CACM 2010). What kernel and hypervisor do is taken to be as weak
//! as is documented: `FUTEX_WAIT` is a full barrier before it compares (kernel/futex), waking and kicking are none.
//! Nobody wakes spuriously: a spurious wake would only hide that the real one was lost.

use super::choices::Choices;
use super::program::{Act, At, Kind};
use super::run::{Place, Run};
use super::state::{Action, Machine, Outcome, State};

/// What came of a step.
pub(super) struct Stepped {
    pub outcome: Outcome,
    /// The choice to try next, if there is one more.
    pub next: Option<u32>,
    /// Whether the one taken need never be.
    pub optional: bool,
}

impl Machine {
    /// All threads at their beginnings, memory zero, buffers empty.
    pub(super) fn initial(&self) -> State {
        let mut state = State::default();
        for thread in 0..self.threads {
            let start = self.program.starts[thread.min(self.program.starts.len() - 1)];
            let mut run = Run::new(self, state, thread);
            // Programs begin with a step or with a mark that cannot break anything in the first state.
            let _ = run.settle(start);
            state = run.state;
        }
        state
    }

    /// The oldest buffered store of a thread reaches memory.
    pub(super) fn drain(&self, state: &State, thread: usize) -> Outcome {
        let word = state.threads[thread];
        let stores = self.buffered(word);
        if stores == 0 {
            return Outcome::Disabled;
        }
        let mut to = *state;
        let entry = self.layout.entry;
        let (place, value) = (entry.place.get(word) as usize, entry.value.get(word));
        let buffer = entry.place.shift;
        let low = word & ((1 << buffer) - 1);
        to.threads[thread] = low | ((word >> buffer >> entry.bits) << buffer);
        self.layout.stores.set(&mut to.threads[thread], stores - 1);
        match self.program.stored[place] {
            At::Own(var) => self.layout.vars[var.0].set(&mut to.threads[thread], value),
            At::Var(var) | At::Slot(var, _) | At::Picked(var) => self.layout.vars[var.0].set(&mut to.memory, value),
        }
        if stores == 1 && self.program.uses_membarrier {
            return self.fenced(to, thread);
        }
        Outcome::To(to)
    }

    /// A thread's buffer is empty: those whose membarrier() waits for it need not wait any more.
    fn fenced(&self, mut state: State, thread: usize) -> Outcome {
        for waiter in 0..self.threads {
            let word = state.threads[waiter];
            let left = self.layout.left.get(word);
            if left & (1 << thread) == 0 || self.step_at(word).kind != Kind::Membarrier {
                continue;
            }
            self.layout.left.set(&mut state.threads[waiter], left & !(1 << thread));
            if left == 1 << thread {
                let mut run = Run::new(self, state, waiter);
                if let Err(violation) = run.settle(self.layout.points[self.point(word)] + 1) {
                    return Outcome::Broken(violation);
                }
                // A drain leaves no ways open: no program decides anything right behind a membarrier.
                debug_assert_eq!(run.choices.next(), None);
                state = run.state;
            }
        }
        Outcome::To(state)
    }

    /// A thread takes its next step; also which choice comes after this one.
    pub(super) fn step(&self, state: &State, thread: usize, choice: u32) -> Stepped {
        self.step_waking(state, thread, choice, true)
    }

    fn step_waking(&self, state: &State, thread: usize, choice: u32, wakes: bool) -> Stepped {
        let mut run = Run { choices: Choices::new(choice), wakes, ..Run::new(self, *state, thread) };
        let outcome = match run.step() {
            Ok(true) => Outcome::To(run.state),
            Ok(false) => Outcome::Disabled,
            Err(violation) => Outcome::Broken(violation),
        };
        let outcome = if run.choices.are_there() { outcome } else { Outcome::Disabled };
        Stepped { outcome, next: run.choices.next(), optional: run.optional }
    }

    /// A thread takes its next step, in each of the ways that are open.
    pub(super) fn steps(&self, state: &State, thread: usize) -> impl Iterator<Item = (u32, Stepped)> + use<'_> {
        self.steps_waking(state, thread, true)
    }

    /// The same; `wakes`: whether a futex wakes in the step that says so.
    pub(super) fn steps_waking(
        &self,
        state: &State,
        thread: usize,
        wakes: bool,
    ) -> impl Iterator<Item = (u32, Stepped)> + use<'_> {
        let (state, mut next) = (*state, Some(0));
        std::iter::from_fn(move || {
            let choice = next?;
            let stepped = self.step_waking(&state, thread, choice, wakes);
            next = stepped.next;
            Some((choice, stepped))
        })
    }

    /// A thread that sleeps is woken: in each of the ways that are open.
    pub(super) fn woken(&self, state: &State, thread: usize) -> impl Iterator<Item = State> + use<'_> {
        let (state, mut next) = (*state, Some(0));
        std::iter::from_fn(move || {
            let mut run = Run { choices: Choices::new(next?), ..Run::new(self, state, thread) };
            // Who is woken takes a step before it means anything.
            let _ = run.awake();
            next = run.choices.next();
            Some(run.state)
        })
    }

    /// Whether a thread sleeps in the kernel.
    pub(super) fn blocked(&self, state: &State, thread: usize) -> bool {
        self.layout.blocked.get(state.threads[thread]) != 0
    }

    /// Where, if it does.
    pub(super) fn sleeps_on(&self, state: &State, thread: usize) -> Option<Place> {
        match &self.step_at(state.threads[thread]).kind {
            Kind::FutexWait(at, _) if self.blocked(state, thread) => Some(self.place(state, thread, at)),
            _ => None,
        }
    }

    /// Where something lies, as a thread names it.
    pub(super) fn place(&self, state: &State, thread: usize, at: &At) -> Place {
        Run::new(self, *state, thread).place(at)
    }

    /// Whether nothing more has to happen, and someone waits. A further acquisition or an interrupt need never come, so
    /// neither counts.
    pub(super) fn stuck(&self, state: &State) -> bool {
        let moves = |thread: usize| {
            let word = state.threads[thread];
            self.buffered(word) != 0 || !self.idle(word) && self.moves(state, thread)
        };
        (0..self.threads).any(|thread| !self.idle(state.threads[thread])) && !(0..self.threads).any(moves)
    }

    fn moves(&self, state: &State, thread: usize) -> bool {
        self.steps(state, thread).any(|(_, stepped)| match stepped.outcome {
            Outcome::To(to) => to != *state && !stepped.optional,
            Outcome::Broken(_) => true,
            Outcome::Disabled => false,
        })
    }

    /// Any action.
    pub(super) fn act(&self, state: &State, action: Action) -> Outcome {
        if action.drain {
            return self.drain(state, action.thread);
        }
        self.step(state, action.thread, action.choice).outcome
    }

    /// What the next step of a thread reads, place by place.
    pub(super) fn reads(&self, state: &State, thread: usize) -> Vec<(String, u8)> {
        let run = Run::new(self, *state, thread);
        let step = self.step_at(state.threads[thread]);
        let forwards = step.kind == Kind::Read;
        let place = |act: &Act| match act {
            Act::Get(_, at) | Act::GetIf(_, at, _) => {
                let forwarded = if forwards { run.forwarded(at) } else { None };
                Some((run.name(at), forwarded.unwrap_or_else(|| run.memory(at))))
            }
            Act::Put(..) => None,
        };
        step.acts.iter().filter_map(place).collect()
    }

    /// The name of where a buffered store goes.
    pub(super) fn stored_name(&self, place: usize, thread: usize) -> String {
        let run = Run::new(self, State::default(), thread);
        run.name(&self.program.stored[place])
    }
}
