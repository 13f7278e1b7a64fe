//! `PvTicketLock`: strict FIFO, nothing in the lock but the two tickets.
//!
//! The parked bit of a slot of a global table is the flag: `unlock` is a plain store and a plain look at the slot of
//! the next owner. The hole that leaves, a store passed by a load (Dekker), is closed on the waiter's side by
//! `membarrier()`, or, where there is none, by a locked instruction in `unlock` (`pv-ticket-sym`).

use crate::error::Result;
use crate::lock::check::program::{Builder, Cond, Mark, Program, Promises, get, put, put_if};

use super::{Mutant, TICKET_BITS};

/// The protocol on this many slots; with the symmetric fence, or the asymmetric one.
pub(super) fn pv_ticket(slots: usize, symmetric: bool, mutant: Option<Mutant>) -> Result<Program> {
    let is = |other: Mutant| mutant == Some(other);
    let mut p = Builder::new(Promises { fifo: true, no_touch: true, overtakers: None });
    let (tail, head) = (p.lock_ticket("tail", TICKET_BITS), p.lock_ticket("head", TICKET_BITS));
    // Bit 0: somebody is parked; above it the epoch, here modulo 4.
    let slot = p.array("slot", slots, 3);
    let (my, now) = (p.ticket("my", TICKET_BITS), p.ticket("now", TICKET_BITS));
    let (published, seen, found) = (p.reg("published", 3), p.reg("seen", 3), p.reg("found", 3));
    p.rotate_by(head);
    let mine = move || super::slot(slot, my + 0);
    let next = move || super::slot(slot, my + 1);
    p.epoch(published, mine());
    p.epoch(seen, next());
    p.epoch(found, next());
    let publish = |p: &mut Builder| {
        p.locked("published = fetch_or(slot(my), PARKED)", &[get(published, mine()), put(mine(), super::with(published, 1))]);
    };
    let look = |p: &mut Builder| {
        p.read("now = head", &[get(now, head)]);
        p.go_if(Cond::Eq(now, my.into()), "enter");
    };
    let release = |p: &mut Builder| {
        if symmetric {
            p.locked("xchg(head, my + 1)", &[put(head, my + 1)]);
        } else {
            p.write("head = my + 1", head, my + 1);
        }
    };

    p.label("lock");
    p.locked("my = xadd(tail, 1)", &[get(my, tail), put_if(Cond::Always, tail, my + 1)]);
    p.mark(Mark::Arrive);
    p.label("spin");
    look(&mut p);
    p.either("spin");
    // lock_spinning(want): the threshold has passed.
    publish(&mut p);
    if !symmetric { p.membarrier(); }
    look(&mut p);
    p.futex_wait("futex_wait(slot(my))", mine(), super::with(published, 1));
    p.goto("spin");

    p.label("enter");
    p.mark(Mark::Enter);
    release(&mut p);
    p.mark(Mark::Leave);
    p.label("look");
    p.read("seen = slot(my + 1)", &[get(seen, next())]);
    p.go_if(Cond::Any(seen, 1), "kick");
    p.goto("done");
    // unlock_kick(next)
    p.label("kick");
    p.locked("cas(slot(my + 1): clear PARKED, next epoch)", &[get(found, next()), put_if(Cond::Eq(found, seen.into()), next(), seen + 1)]);
    p.go_if(Cond::Ne(found, seen.into()), "look");
    p.futex_wake("futex_wake(slot(my + 1))", next());
    p.label("done");
    p.mark(Mark::Done);
    p.goto("lock");
    let _ = is;
    p.build()
}
