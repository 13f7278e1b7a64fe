//! Which states are one.
//!
//! **Threads are interchangeable.** All run one program, and nothing in a program names a thread by number: a thread
//! knows itself, and others only as *picked, any of them*. So renaming the threads of a state gives a state from which
//! the same renamed things can happen, and whose properties are the same. Of each set of such states one is kept, with
//! the threads' words sorted; where words are equal but for the names of other threads in them, in the order that makes
//! the renamed words least.
//!
//! **Tickets have no beginning.** A program that names no ticket by number compares tickets, adds to them and takes
//! them modulo the slots. Adding one number to every ticket there is, in memory, registers and store buffers, and
//! rotating the slots with it, gives a state from which the same rotated things can happen. The one kept has ticket 0
//! in the variable that is being served. Dead registers are zero and stay so. The number of slots divides the number
//! of tickets, so both rotate together.
//!
//! **What nobody will read is nothing.** Dead registers are zero always. A per-thread variable that others read only
//! behind a guard (`w.want` behind `w.lock`) is zeroed while the guard is zero and the variable will be written before the guard is
//! set, in the order of the thread's buffer and then of its program, unless somebody who saw the guard is about to read
//! it.
//!
//! The first two are automorphisms of the graph of states that keep every property (nobody's name or ticket appears in one),
//! so an error is reachable in the quotient if and only if it is in the graph, in as many steps; the third identifies states from which the same can happen.
//!
//! **Who only stores can go first.** A store goes into the thread's own buffer: it neither reads nor changes what any
//! other thread sees, nothing that others do enables, disables or changes it, and it commutes with the thread's own
//! drains, which take the other end. Where a thread is about to store, outside its critical section and with nothing
//! marked by the step, that step alone is explored (a persistent set of one; no cycle consists of such steps, because
//! a program that stores for ever without a fence is refused). With membarrier this is not so, since what is buffered
//! when the call begins matters to it: there it is not done.

use super::bounds::MAX_THREADS;
use super::layout::{Field, Layout};
use super::program::{Act, At, Kind, Op, Step, Val, step_of, walk};
use super::state::{Machine, State};

type Words = [u64; MAX_THREADS];

/// What a search takes to be one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reductions {
    /// Interchangeable threads.
    pub threads: bool,
    /// Rotated tickets.
    pub tickets: bool,
    /// Stores first.
    pub stores: bool,
}

impl Reductions {
    /// All that are sound for the program.
    pub const ALL: Reductions = Reductions { threads: true, tickets: true, stores: true };
    /// Those that leave a run as short as it is without them.
    pub const LENGTH_KEEPING: Reductions = Reductions { threads: true, tickets: true, stores: false };
    /// None: the graph as it is.
    pub const NONE: Reductions = Reductions { threads: false, tickets: false, stores: false };
    /// Those under which a thread keeps its name.
    pub const NAME_KEEPING: Reductions = Reductions { threads: false, tickets: true, stores: false };
}

/// The reductions, made ready for one machine.
#[derive(Debug)]
pub(super) struct Reducer<'m> {
    machine: &'m Machine,
    threads: bool,
    /// The field of the ticket that becomes 0, if tickets rotate.
    pivot: Option<Field>,
    /// For each point, whether the step there can go first.
    first: Vec<bool>,
    /// Arrays that rotate with the tickets: the first element, bits of one, and how many.
    arrays: Vec<(Field, u32, u32)>,
    guarded: Vec<Guarded>,
}

/// A variable that means nothing while its guard is zero.
#[derive(Debug)]
struct Guarded {
    var: Field,
    guard: Field,
    /// For each point, whether the step there reads the variable of the thread picked.
    readers: Vec<bool>,
    /// For each point, whether the step there sets the thread's own guard, having written the variable just before.
    setters: Vec<bool>,
    /// Which of the program's stored places the two are.
    places: (Option<usize>, Option<usize>),
}

/// Takes `less` from each ticket whose lowest bit is in `ones`.
#[inline]
fn rotate(word: u64, ones: u64, bits: u32, less: u64) -> u64 {
    // Field-wise addition of the complement, without carries from field to field.
    let more = ((1 << bits) - less) & ((1 << bits) - 1);
    let fields = ones * ((1 << bits) - 1);
    let highest = ones << (bits - 1);
    let added = ones * more;
    let sum = ((word & fields & !highest) + (added & !highest)) ^ ((word ^ added) & highest);
    (word & !fields) | sum
}

fn guarded(machine: &Machine) -> Vec<Guarded> {
    let (program, layout) = (&machine.program, &machine.layout);
    let guarded = program.guarded.iter().map(|&(var, guard)| {
        let acts = |at: usize| step_of(&program.ops[at]).into_iter().flat_map(|step| &step.acts);
        let reads = |&at: &usize| acts(at).any(|act| matches!(act, Act::Get(_, at) if *at == At::Picked(var)));
        let sets = |&at: &usize| {
            acts(at)
                .any(|act| matches!(act, Act::Put(at, value, _) if *at == At::Own(guard) && *value != Val::Const(0)))
        };
        let place = |var| program.stored.iter().position(|&at| at == At::Own(var));
        Guarded {
            var: layout.vars[var.0],
            guard: layout.vars[guard.0],
            readers: layout.points.iter().map(reads).collect(),
            setters: layout.points.iter().map(sets).collect(),
            places: (place(var), place(guard)),
        }
    });
    guarded.collect()
}

impl<'m> Reducer<'m> {
    pub fn new(machine: &'m Machine, reductions: Reductions) -> Reducer<'m> {
        let program = &machine.program;
        let layout = &machine.layout;
        let quiet = |at: usize| {
            walk(&program.ops, at + 1).all(|op| matches!(op, Op::Step(_) | Op::If(..) | Op::Goto(_) | Op::Set(..)))
        };
        let goes_first = |&at: &usize| {
            let stores = matches!(&program.ops[at], Op::Step(Step { kind: Kind::Write, .. }));
            reductions.stores && !program.uses_membarrier && stores && quiet(at)
        };
        let arrays = program.vars.iter().zip(&layout.vars).filter(|(var, _)| var.len > 1);
        Reducer {
            machine,
            threads: reductions.threads && program.starts.len() == 1,
            pivot: program.pivot.filter(|_| reductions.tickets).map(|var| layout.vars[var.0]),
            first: layout.points.iter().map(goes_first).collect(),
            guarded: if reductions.tickets { guarded(machine) } else { Vec::new() },
            arrays: arrays.map(|(var, &field)| (field, var.bits, var.len as u32)).collect(),
        }
    }

    /// A thread whose next step is the only one that need be explored.
    pub fn goes_first(&self, state: &State) -> Option<usize> {
        let layout = &self.machine.layout;
        (0..self.machine.threads).find(|&thread| {
            let word = state.threads[thread];
            self.first[layout.point.get(word) as usize] && layout.owns.get(word) == 0
        })
    }

    /// The state that is kept for this one.
    pub fn canonical(&self, mut state: State) -> State {
        if let Some(pivot) = self.pivot {
            let less = pivot.get(state.memory);
            if less != 0 {
                self.rotate(&mut state, less);
            }
        }
        for guarded in &self.guarded {
            self.forget(&mut state, guarded);
        }
        if self.threads {
            self.sort(&mut state);
        }
        state
    }

    fn rotate(&self, state: &mut State, less: u64) {
        let layout: &Layout = &self.machine.layout;
        state.memory = rotate(state.memory, layout.memory_tickets, layout.ticket_bits, less);
        for &(field, bits, len) in &self.arrays {
            let width = bits * len;
            let whole = Field { shift: field.shift, mask: (1 << width) - 1 };
            let slots = whole.get(state.memory);
            let down = (less as u32 % len) * bits;
            if down != 0 {
                whole.set(&mut state.memory, (slots >> down) | (slots << (width - down)));
            }
        }
        for word in &mut state.threads[..self.machine.threads] {
            let mut ones = layout.tickets[layout.point.get(*word) as usize];
            for store in 0..layout.stores.get(*word) as u32 {
                let up = store * layout.entry.bits;
                let place = layout.entry.place.get(*word >> up) as usize;
                if layout.stored_tickets[place] {
                    ones |= 1 << (layout.entry.value.shift + up);
                }
            }
            *word = rotate(*word, ones, layout.ticket_bits, less);
        }
    }

    /// Whether a thread sets the guard before it writes the variable again.
    fn sets_first(&self, word: u64, guarded: &Guarded) -> bool {
        let layout = &self.machine.layout;
        for store in 0..layout.stores.get(word) as u32 {
            let buffered = word >> (store * layout.entry.bits);
            let place = Some(layout.entry.place.get(buffered) as usize);
            if place == guarded.places.0 {
                return false;
            }
            if place == guarded.places.1 && layout.entry.value.get(buffered) != 0 {
                return true;
            }
        }
        guarded.setters[layout.point.get(word) as usize]
    }

    fn forget(&self, state: &mut State, guarded: &Guarded) {
        let Guarded { var, guard, readers, .. } = guarded;
        let layout = &self.machine.layout;
        for thread in 0..self.machine.threads {
            let word = state.threads[thread];
            if var.get(word) == 0 || guard.get(word) != 0 || self.sets_first(word, guarded) {
                continue;
            }
            let about_to_read = state.threads[..self.machine.threads].iter().any(|&other| {
                readers[layout.point.get(other) as usize] && layout.picked.get(other) == thread as u64 + 1
            });
            if !about_to_read {
                var.set(&mut state.threads[thread], 0);
            }
        }
    }

    fn sort(&self, state: &mut State) {
        let naming = self.machine.layout.naming;
        let threads = self.machine.threads;
        let words = &mut state.threads[..threads];
        if naming == 0 || words.iter().all(|word| word & naming == 0) {
            // So few that inserting each is quickest.
            for end in 1..words.len() {
                for at in (1..=end).rev() {
                    if words[at - 1] > words[at] {
                        words.swap(at - 1, at);
                    }
                }
            }
            return;
        }
        let old = state.threads;
        let mut order = [0, 1, 2, 3, 4, 5, 6, 7];
        let order = &mut order[..threads];
        order.sort_unstable_by_key(|&thread| old[thread] & !naming);
        let mut least = None;
        self.least(&old, order, 0, &mut least);
        state.threads = least.unwrap_or(old);
    }

    /// The state with the threads in this order.
    pub fn in_order(&self, state: &State, order: &[usize]) -> State {
        State { memory: state.memory, threads: self.renamed(&state.threads, order) }
    }

    /// Of all orders that differ only where words do in names alone, the one whose words are least.
    fn least(&self, old: &Words, order: &mut [usize], from: usize, least: &mut Option<Words>) {
        if from == order.len() {
            let words = self.renamed(old, order);
            if least.is_none_or(|least| words < least) {
                *least = Some(words);
            }
            return;
        }
        let unnamed = |thread: usize| old[thread] & !self.machine.layout.naming;
        for other in from..order.len() {
            if unnamed(order[other]) == unnamed(order[from]) {
                order.swap(from, other);
                self.least(old, order, from + 1, least);
                order.swap(from, other);
            }
        }
    }

    /// The threads' words in this order, with the names in them changed accordingly.
    fn renamed(&self, old: &Words, order: &[usize]) -> Words {
        let layout = &self.machine.layout;
        let mut new = [0; MAX_THREADS];
        for (new, &thread) in new.iter_mut().zip(order) {
            let mut word = old[thread];
            if word & layout.naming != 0 {
                let place = |was: u64| order.iter().position(|&thread| thread as u64 == was).unwrap_or(0) as u64;
                for (to_look_at, one) in [(layout.left, layout.picked), layout.kept] {
                    let (left, picked) = (to_look_at.get(word), one.get(word));
                    let named = (0..order.len() as u64).filter(|was| left >> was & 1 != 0);
                    to_look_at.set(&mut word, named.fold(0, |left, was| left | (1 << place(was))));
                    one.set(&mut word, if picked == 0 { 0 } else { place(picked - 1) + 1 });
                }
            }
            *new = word;
        }
        new
    }
}
