//! `pv-ticket`: strict FIFO, nothing in the lock but the two tickets.
//!
//! The parked bit of a slot of a global table is the flag: `unlock` is a plain store and a plain look at the slot of
//! the next owner. The hole that leaves, a store passed by a load (Dekker), is closed on the waiter's side by
//! `membarrier()`, or, where there is none, by a locked instruction in `unlock` (`pv-ticket-sym`). With `membarrier()`
//! there is also a word for all slots, whether anybody has waited: before, an unlocker does not look at its slot.

use super::names::{Mutant, Scenario, Setting, TICKET_BITS};
use super::slots::{Left, Slots};
use crate::error::Result;
use crate::lock::check::program::{Builder, Cond, Mark, Program, Promises, get, put};

pub(super) fn asymmetric(setting: &Setting) -> Result<Program> {
    build(setting, false)
}

pub(super) fn symmetric(setting: &Setting) -> Result<Program> {
    build(setting, true)
}

fn build(setting: &Setting, symmetric: bool) -> Result<Program> {
    let is = |mutant: Mutant| setting.mutant == Some(mutant);
    let mut p = Builder::new(Promises { fifo: true, no_touch: true, overtakers: None });
    let (tail, head) = (p.lock_ticket("tail", TICKET_BITS), p.lock_ticket("head", TICKET_BITS));
    let (my, now) = (p.ticket("my", TICKET_BITS), p.ticket("now", TICKET_BITS));
    let slots = Slots::new(&mut p, setting, (my, my), 1);
    let slots = if symmetric { slots } else { slots.with_waited(&mut p) };
    let left = (setting.scenario == Scenario::Timeouts).then(|| Left::new(&mut p, my));
    p.rotate_by(head);

    p.label("lock");
    p.locked("my = xadd(tail, 1)", &[get(my, tail), put(tail, my + 1)]);
    p.mark(Mark::Arrive);
    p.label("spin");
    p.read("head == my?", &[get(now, head)]);
    p.go_if(Cond::Eq(now, my.into()), "enter");
    p.either("spin");
    if left.is_some() {
        p.either("give up");
    }

    // lock_spinning(want): the threshold has passed.
    if is(Mutant::PublishAfterLook) {
        p.read("the last look: head == my?", &[get(now, head)]);
        p.go_if(Cond::Eq(now, my.into()), "enter");
    }
    slots.publish(&mut p, my);
    if !symmetric && !is(Mutant::MissingFence) {
        p.membarrier();
    }
    if !is(Mutant::PublishAfterLook) && !is(Mutant::NoLookAfterPublish) {
        p.read("the last look: head == my?", &[get(now, head)]);
        p.go_if(Cond::Eq(now, my.into()), "parked");
    }
    if left.is_some() {
        // Its time is up before it is kicked: a sleep that ends then leaves nothing behind.
        p.either("give up");
    }
    slots.sleep(&mut p, my);
    p.label("parked");
    slots.clear_by_waiter(&mut p, my);
    p.goto("spin");

    if let Some(left) = &left {
        p.label("give up");
        p.cas("cas(tail, my + 1, my)", tail, now, my + 1, my);
        p.go_if(Cond::Eq(now, my + 1), "withdrawn");
        left.insert(&mut p, &slots, my);
        if !symmetric {
            p.membarrier();
        }
        if !is(Mutant::LeaveWithoutLook) {
            p.read("head == my?", &[get(now, head)]);
            p.go_if(Cond::Ne(now, my.into()), "gone");
            if is(Mutant::LeaveAndEnter) {
                p.goto("enter");
            } else {
                left.take_back(&mut p, my, "gone");
                p.goto("enter");
            }
        }
        p.label("gone");
        left.wait_until_taken(&mut p, my);
        p.goto("done");
        p.label("withdrawn");
        p.mark(Mark::Withdraw);
        p.goto("done");
    }

    p.label("enter");
    p.mark(Mark::Enter);
    if is(Mutant::KickBeforeRelease) {
        p.label("look");
        slots.look(&mut p, "is slot(my + 1) parked?", my + 1, "release");
        slots.kick(&mut p, my + 1, "look");
        p.label("release");
    }
    p.label("enter again");
    if symmetric && !is(Mutant::MissingFence) {
        p.locked("xchg(head, my + 1)", &[put(head, my + 1)]);
    } else {
        p.write("head = my + 1", head, my + 1);
    }
    p.mark(Mark::Leave);
    if is(Mutant::TouchAfterRelease) {
        p.read("tail == my + 1?", &[get(now, tail)]);
        p.go_if(Cond::Eq(now, my + 1), "done");
    }
    if !is(Mutant::KickBeforeRelease) {
        // unlock_kick(next)
        p.label("look");
        match &left {
            Some(left) if !is(Mutant::NobodySkips) => {
                slots.look_or_skip(&mut p, my + 1, left, ("done", "skip"));
            }
            _ => slots.look(&mut p, "is slot(my + 1) parked?", my + 1, "done"),
        }
        slots.kick(&mut p, my + 1, "look");
    }
    if let Some(left) = left.filter(|_| !is(Mutant::NobodySkips)) {
        p.goto("done");
        p.label("skip");
        left.take(&mut p, my + 1, (head, now), "kick");
        p.mark(Mark::Inherit);
        p.set(my, my + 1);
        p.goto("enter again");
    }
    p.label("done");
    p.mark(Mark::Done);
    p.goto("lock");
    p.build()
}
