//! Parking on a slot of a global table, as our two locks do it.

use super::names::{Mutant, Setting};
use crate::lock::check::program::{At, Builder, Cond, Reg, Val, Var, get, put, put_if};

/// The table, and the registers that hold what was seen in it.
pub(super) struct Slots {
    slots: Var,
    published: Reg,
    seen: Reg,
    found: Reg,
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
        Slots { slots, published, seen, found, mutant: setting.mutant }
    }

    fn at(&self, ticket: impl Into<Val>) -> At {
        At::Slot(self.slots, ticket.into())
    }

    /// Says that a waiter is about to sleep.
    pub fn publish(&self, p: &mut Builder, my: Reg) {
        let put_parked = put(self.at(my), Val::Or(self.published, PARKED));
        p.locked("published = fetch_or(slot(my), PARKED)", &[get(self.published, self.at(my)), put_parked]);
    }

    /// Sleeps, unless the slot changed since it was published.
    pub fn sleep(&self, p: &mut Builder, my: Reg) {
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
        p.read(text, &[get(self.seen, self.at(ticket))]);
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
