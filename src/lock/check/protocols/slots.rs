//! Parking on a slot of a global table, as our two locks do it.

use super::names::{Mutant, Setting, TICKET_BITS};
use crate::lock::check::program::{Act, At, Builder, Cond, Reg, Val, Var, get, get_if, put, put_if};

/// The table, and the registers that hold what was seen in it.
pub(super) struct Slots {
    slots: Var,
    published: Reg,
    seen: Reg,
    found: Reg,
    /// Whether anybody has waited, which the unlocker asks before it looks at a slot.
    waited: Option<Var>,
    mutant: Option<Mutant>,
}

/// Bit 0 of a slot: somebody is parked. Above it is the epoch, of which the machine keeps whether it is still the same.
const PARKED: u8 = 1;
const BITS: u32 = 2;

impl Slots {
    /// A table for waiters that hold `ticket` and unlockers that kick `ticket + next`.
    pub fn new(p: &mut Builder, setting: &Setting, (waits, kicks): (Reg, Reg), next: u8) -> Slots {
        let slots = p.array("slot", setting.slots, BITS);
        let [published, seen, found] = ["published", "seen", "found"].map(|name| p.reg(name, BITS));
        p.epoch(published, At::Slot(slots, waits + 0));
        p.epoch(seen, At::Slot(slots, kicks + next));
        p.epoch(found, At::Slot(slots, kicks + next));
        Slots { slots, published, seen, found, waited: None, mutant: setting.mutant }
    }

    /// The same, with a word that says whether anybody has waited.
    pub fn with_waited(self, p: &mut Builder) -> Slots {
        Slots { waited: Some(p.global("waited", 1)), ..self }
    }

    /// What a waiter says of all slots when it sets a flag in one. The lock says it before; here both are one step, for an
    /// unlocker that sees only the former goes on as one that sees neither.
    fn announced(&self) -> Option<Act> {
        self.waited.map(|waited| put(waited, 1))
    }

    /// An unlocker asks whether anybody has waited, and then `looks`, in one step: nobody unsays it, so who saw it before
    /// would see it with the look too. Jumps if nobody has.
    fn ask(&self, p: &mut Builder, text: &'static str, looks: &[Act], nobody: &'static str) {
        let asked = self.waited.map(|waited| get(self.found, waited));
        let acts: Vec<Act> = asked.into_iter().chain(looks.iter().cloned()).collect();
        p.read(text, &acts);
        if asked.is_some() {
            p.go_if(Cond::Eq(self.found, 0.into()), nobody);
        }
    }

    fn at(&self, ticket: impl Into<Val>) -> At {
        At::Slot(self.slots, ticket.into())
    }

    /// Says that a waiter is about to sleep.
    pub fn publish(&self, p: &mut Builder, my: Reg) {
        let put_parked = put(self.at(my), Val::Or(self.published, PARKED));
        let announced = self.announced().filter(|_| self.mutant != Some(Mutant::AnnounceAfterLook));
        let acts: Vec<Act> = announced.into_iter().chain([get(self.published, self.at(my)), put_parked]).collect();
        p.locked("published = fetch_or(slot(my), PARKED)", &acts);
    }

    /// Sleeps, unless the slot changed since it was published.
    pub fn sleep(&self, p: &mut Builder, my: Reg) {
        if let Some(announced) = self.announced().filter(|_| self.mutant == Some(Mutant::AnnounceAfterLook)) {
            p.locked("fetch_or(waited, WAITED)", &[announced]);
        }
        p.futex_wait("futex_wait(slot(my), published | PARKED)", self.at(my), Val::Or(self.published, PARKED));
    }

    /// A waiter takes the flag back, which others may rely on: only mutants do.
    pub fn clear_by_waiter(&self, p: &mut Builder, my: Reg) {
        if self.mutant == Some(Mutant::WrongHandClears) {
            let clear = put_if(Cond::Any(self.published, PARKED), self.at(my), self.published + u8::MAX);
            p.locked("fetch_and(slot(my), !PARKED)", &[get(self.published, self.at(my)), clear]);
        }
    }

    /// Looks whether the owner of a ticket is parked; jumps if not.
    pub fn look(&self, p: &mut Builder, text: &'static str, ticket: impl Into<Val>, not_parked: &'static str) {
        self.ask(p, text, &[get(self.seen, self.at(ticket))], not_parked);
        p.go_if(Cond::None(self.seen, PARKED), not_parked);
    }

    /// The same, where waiters may leave: jumps elsewhere if the owner of the ticket did.
    pub fn look_or_skip(
        &self,
        p: &mut Builder,
        ticket: impl Into<Val>,
        left: &Left,
        (not_parked, skip): (&'static str, &'static str),
    ) {
        let ticket = ticket.into();
        let looks = [get(self.seen, self.at(ticket)), left.get(ticket)];
        self.ask(p, "is the next parked, or has it left?", &looks, not_parked);
        p.go_if(Cond::Any(left.found, THERE), skip);
        p.label("kick");
        p.go_if(Cond::None(self.seen, PARKED), not_parked);
    }

    /// Clears the flag and then wakes who is parked; another look if the slot changed meanwhile.
    pub fn kick(&self, p: &mut Builder, ticket: impl Into<Val>, again: &'static str) {
        let at = self.at(ticket);
        if self.mutant == Some(Mutant::WakeBeforeClear) {
            self.wake(p, at);
        }
        // Adding one to a value whose bit 0 is set clears the bit and begins the next epoch.
        p.cas("found = cas(slot: clear PARKED, next epoch)", at, self.found, self.seen, self.seen + 1);
        p.go_if(Cond::Ne(self.found, self.seen.into()), again);
        if self.mutant != Some(Mutant::WakeBeforeClear) {
            self.wake(p, at);
        }
    }

    fn wake(&self, p: &mut Builder, at: At) {
        if self.mutant == Some(Mutant::OneSlotForAll) {
            p.futex_wake_one("futex_wake(slot, one)", at);
        } else {
            p.futex_wake("futex_wake(slot, all)", at);
        }
    }
}

/// The tickets whose waiters have left: a set behind a mutex, so that one alone takes a ticket out of it. A flag in the
/// slot, changed with that mutex held, says that the set has a ticket of the slot: here the set is its own flag.
///
/// Bit 0 says that the ticket is there; taking it out begins an epoch, so that who put it there knows its own.
pub(super) struct Left {
    set: Var,
    mine: Reg,
    pub found: Reg,
}

const THERE: u8 = 1;
const TAKEN: u8 = 2;

impl Left {
    pub fn new(p: &mut Builder, my: Reg) -> Left {
        let set = p.array("left", 1 << TICKET_BITS, BITS);
        let (mine, found) = (p.reg("left", BITS), p.reg("found left", 1));
        p.epoch(mine, At::Slot(set, my + 0));
        Left { set, mine, found }
    }

    pub fn get(&self, ticket: impl Into<Val>) -> Act {
        get(self.found, At::Slot(self.set, ticket.into()))
    }

    /// A waiter says that it leaves.
    pub fn insert(&self, p: &mut Builder, slots: &Slots, my: Reg) {
        let at = At::Slot(self.set, my + 0);
        let acts: Vec<Act> = slots.announced().into_iter().chain([put(at, THERE), get(self.mine, at)]).collect();
        p.locked("left.insert(my)", &acts);
    }

    /// A waiter that finds that its turn has come takes its ticket out again; jumps if another did.
    pub fn take_back(&self, p: &mut Builder, my: Reg, taken: &'static str) {
        let take = put_if(Cond::Eq(self.mine, THERE.into()), At::Slot(self.set, my + 0), 0);
        p.locked("its turn: left.take(my)", &[take]);
        p.go_if(Cond::Ne(self.mine, THERE.into()), taken);
    }

    /// Who released the lock to a ticket takes it out, in order to pass over it; jumps if it was not there, or if the
    /// lock is not at this ticket: then another thread takes it out. Where a ticket is in the set the lock lives: freeing it
    /// takes its tickets out.
    pub fn take(&self, p: &mut Builder, ticket: Val, (head, now): (Var, Reg), absent: &'static str) {
        let look = get_if(Cond::Eq(self.found, THERE.into()), now, head);
        let take = put_if(Cond::Both(self.found, THERE.into(), now, ticket), At::Slot(self.set, ticket), TAKEN);
        p.locked("left.take(my + 1) if head == my + 1", &[self.get(ticket), look, take]);
        p.go_if(Cond::Ne(self.found, THERE.into()), absent);
        p.go_if(Cond::Ne(now, ticket), absent);
    }

    /// The owner of the lock, about to serve a ticket that only it can serve, takes it out; jumps if it was not there.
    pub fn take_as_owner(&self, p: &mut Builder, ticket: Val, absent: &'static str) {
        p.fence();
        p.read("has the next left?", &[self.get(ticket)]);
        p.go_if(Cond::None(self.found, THERE), absent);
        let take = put_if(Cond::Eq(self.found, THERE.into()), At::Slot(self.set, ticket), TAKEN);
        p.locked("left.take(next)", &[self.get(ticket), take]);
        p.go_if(Cond::Ne(self.found, THERE.into()), absent);
    }

    /// As [`Left::take`], where the lock must be had besides: free, or handed over to the head of the queue.
    pub fn take_with_lock(
        &self,
        p: &mut Builder,
        now: Reg,
        (head, cur): (Var, Reg),
        (state, was, [free, held, handed_over]): (Var, Reg, [u8; 3]),
        absent: &'static str,
    ) {
        let there = |was_it: u8| Cond::Both(self.found, THERE.into(), was, was_it.into());
        let at = At::Slot(self.set, now + 0);
        p.set(was, held);
        p.locked(
            "left.take(now) if head == now and the lock can be had",
            &[
                self.get(now),
                get_if(Cond::Eq(self.found, THERE.into()), cur, head),
                get_if(Cond::Both(self.found, THERE.into(), cur, now.into()), was, state),
                put_if(there(free), state, held),
                put_if(there(free), at, TAKEN),
                put_if(there(handed_over), state, held),
                put_if(there(handed_over), at, TAKEN),
            ],
        );
        p.go_if(Cond::Ne(self.found, THERE.into()), absent);
        p.go_if(Cond::Eq(was, held.into()), absent);
    }

    /// Waits until the ticket is taken out. In the lock a thread goes on at once, and takes another ticket; here each
    /// thread has one at a time, since there are as few tickets as fit in a state.
    pub fn wait_until_taken(&self, p: &mut Builder, my: Reg) {
        // What it reads is of no interest, but that the ticket is still known when the epoch begins.
        p.wait_until("has left, until it is passed over", Cond::Ne(self.mine, THERE.into()), &[self.get(my)]);
    }
}
