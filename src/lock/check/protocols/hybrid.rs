//! `pv-hybrid`: a word that anyone may take, a FIFO queue behind it, and a hand-over to who starves.
//!
//! Who finds the lock taken may try again, or take a ticket and park. The head of the queue, the ticket that is served,
//! tries for the lock against newcomers; when its patience is over it says that it starves and parks, and the next
//! release hands the lock over to it and to nobody else. At most one more enters between, from a release that had
//! looked before. Patience is a choice here: it may be over at any look.
//!
//! | word | means | written by |
//! |---|---|---|
//! | state | free, held, handed over to the head of the queue | anyone by cmpxchg from free; the owner; the head |
//! | tail | the next ticket to give | everyone |
//! | head | the ticket at the head of the queue | the head |
//! | starving | the next release hands over; a bit of the head's word | the head |
//!
//! What the head stores at once in its word, two stores do here, one after the other: the states between the two are
//! checked in addition to all that the one store leads to.

use super::names::{Mutant, Scenario, Setting, TICKET_BITS};
use super::slots::{Left, Slots};
use crate::error::Result;
use crate::lock::check::program::{Builder, Cond, Mark, Program, Promises, Reg, get, put};

const FREE: u8 = 0;
const HELD: u8 = 1;
const HANDED_OVER: u8 = 2;

/// How many others may enter before the head, once its word that it starves is in memory.
const OVERTAKERS: u8 = 1;

/// What waiters that leave need besides.
struct Timeouts {
    left: Left,
    /// Whether the thread, as the head, has said that it starves.
    starves: Reg,
    /// The head, as who passes over a ticket sees it.
    cur: Reg,
}

pub(super) fn build(setting: &Setting) -> Result<Program> {
    let is = |mutant: Mutant| setting.mutant == Some(mutant);
    let mut p = Builder::new(Promises { fifo: false, no_touch: true, overtakers: Some(OVERTAKERS) });
    let (state, starving) = (p.lock_var("state", 2), p.lock_var("starving", 1));
    let (tail, head) = (p.lock_ticket("tail", TICKET_BITS), p.lock_ticket("head", TICKET_BITS));
    let (my, now) = (p.ticket("my", TICKET_BITS), p.ticket("now", TICKET_BITS));
    let found = p.reg("found state", 2);
    let slots = Slots::new(&mut p, setting, (my, now), 0).with_waited(&mut p);
    let timeouts = (setting.scenario == Scenario::Timeouts).then(|| Timeouts {
        left: Left::new(&mut p, my),
        starves: p.reg("starves", 1),
        cur: p.ticket("head", TICKET_BITS),
    });
    p.rotate_by(head);

    p.label("lock");
    p.cas("cas(state, FREE, HELD)", state, found, FREE, HELD);
    p.go_if(Cond::Eq(found, FREE.into()), "stolen");
    p.either("lock");

    // Into the queue.
    p.locked("my = xadd(tail, 1)", &[get(my, tail), put(tail, my + 1)]);
    if let Some(timeouts) = &timeouts {
        p.set(timeouts.starves, 0);
    }
    p.label("queued");
    p.read("head == my?", &[get(now, head)]);
    p.go_if(Cond::Eq(now, my.into()), "front");
    if timeouts.is_some() {
        p.either("give up");
    }
    p.label("park");
    if is(Mutant::PublishAfterLook) {
        p.read("the last look: state", &[get(found, state)]);
        p.go_if(Cond::Ne(found, HELD.into()), "recheck");
    }
    slots.publish(&mut p, my);
    // A locked instruction: if it stored that it starves, that is in memory now.
    p.go_if(Cond::Ne(now, my.into()), "published");
    p.mark(Mark::Starve);
    p.label("published");
    if !is(Mutant::MissingFence) {
        p.membarrier();
    }
    if !is(Mutant::PublishAfterLook) && !is(Mutant::NoLookAfterPublish) {
        p.read("the last look: head == my?", &[get(now, head)]);
        p.go_if(Cond::Ne(now, my.into()), "sleep");
        p.cas("the last look: cas(state, FREE, HELD)", state, found, FREE, HELD);
        p.go_if(Cond::Eq(found, FREE.into()), "took");
        p.go_if(Cond::Eq(found, HANDED_OVER.into()), "given");
    }
    p.label("sleep");
    if timeouts.is_some() {
        // Its time is up before it is kicked: a sleep that ends then leaves nothing behind.
        p.either("give up");
    }
    slots.sleep(&mut p, my);
    p.label("awake");
    slots.clear_by_waiter(&mut p, my);
    p.goto("queued");
    if !is(Mutant::PublishAfterLook) && !is(Mutant::NoLookAfterPublish) {
        // The last look was an attempt, and got the lock.
        p.label("took");
        slots.clear_by_waiter(&mut p, my);
        p.goto("won");
        p.label("given");
        slots.clear_by_waiter(&mut p, my);
        p.goto("handed over");
    }
    if is(Mutant::PublishAfterLook) {
        // Stores may not pile up in a loop: as publishing would, this waits until they are in memory.
        p.label("recheck");
        p.fence();
        p.goto("queued");
    }

    p.label("front");
    p.either("compete");
    p.write("starving = 1", starving, 1);
    if let Some(timeouts) = &timeouts {
        p.set(timeouts.starves, 1);
    }
    p.label("compete");
    p.read("state?", &[get(found, state)]);
    p.go_if(Cond::Eq(found, HANDED_OVER.into()), "handed over");
    p.go_if(Cond::Eq(found, HELD.into()), "not yet");
    p.cas("cas(state, FREE, HELD)", state, found, FREE, HELD);
    p.go_if(Cond::Eq(found, FREE.into()), "won");
    p.label("not yet");
    p.either("compete");
    p.write("starving = 1", starving, 1);
    if let Some(timeouts) = &timeouts {
        p.set(timeouts.starves, 1);
    }
    p.set(now, my);
    p.goto("park");

    if let Some(Timeouts { left, starves, .. }) = &timeouts {
        p.label("give up");
        p.mark(Mark::Withdraw);
        // Who starves may be handed the lock by a release that has looked already.
        p.go_if(Cond::Eq(*starves, 1.into()), "insert");
        p.cas("cas(tail, my + 1, my)", tail, now, my + 1, my);
        p.go_if(Cond::Eq(now, my + 1), "done");
        p.label("insert");
        left.insert(&mut p, &slots, my);
        p.membarrier();
        if !is(Mutant::LeaveWithoutLook) {
            p.read("head == my?", &[get(now, head)]);
            p.go_if(Cond::Ne(now, my.into()), "gone");
            p.go_if(Cond::Eq(*starves, 1.into()), "look at state");
            // It became the head meanwhile.
            left.take_back(&mut p, my, "gone");
            p.write("starving = 1", starving, 1);
            p.set(*starves, 1);
            p.goto("insert");
            p.label("look at state");
            p.read("state?", &[get(found, state)]);
            p.go_if(Cond::Eq(found, HELD.into()), "gone");
            if !is(Mutant::LeaveAndEnter) {
                left.take_back(&mut p, my, "gone");
            }
            p.cas("cas(state, FREE, HELD)", state, found, FREE, HELD);
            p.go_if(Cond::Eq(found, FREE.into()), "won");
            p.go_if(Cond::Eq(found, HANDED_OVER.into()), "handed over");
            p.goto("insert");
        }
        p.label("gone");
        left.wait_until_taken(&mut p, my);
        p.goto("done");
    }

    p.label("handed over");
    p.write("state = HELD", state, HELD);
    p.label("won");
    p.mark(Mark::Enter);
    p.label("leave the queue");
    p.write("starving = 0", starving, 0);
    p.write("head = my + 1", head, my + 1);
    if let Some(Timeouts { left, .. }) = timeouts.as_ref().filter(|_| !is(Mutant::NobodySkips)) {
        left.take_as_owner(&mut p, my + 1, "unlock");
        p.set(my, my + 1);
        p.goto("leave the queue");
    }
    p.goto("unlock");
    p.label("stolen");
    p.mark(Mark::Enter);

    p.label("unlock");
    p.read("now, starving = head", &[get(now, head), get(found, starving)]);
    if is(Mutant::KickBeforeRelease) {
        p.label("look");
        slots.look(&mut p, "is slot(now) parked?", now, "release");
        slots.kick(&mut p, now, "look");
        p.label("release");
    }
    if !is(Mutant::NoHandOver) {
        p.go_if(Cond::Eq(found, 1.into()), "hand over");
    }
    p.write("state = FREE", state, FREE);
    p.mark(Mark::Leave);
    p.goto("released");
    p.label("hand over");
    p.write("state = HANDED_OVER", state, HANDED_OVER);
    p.mark(Mark::Leave);
    p.label("released");
    if is(Mutant::TouchAfterRelease) {
        p.read("tail == now?", &[get(my, tail)]);
        p.go_if(Cond::Eq(my, now.into()), "done");
    }
    if !is(Mutant::KickBeforeRelease) {
        p.label("look");
        match &timeouts {
            Some(timeouts) if !is(Mutant::NobodySkips) => {
                slots.look_or_skip(&mut p, now, &timeouts.left, ("done", "skip"));
            }
            _ => slots.look(&mut p, "is slot(now) parked?", now, "done"),
        }
        slots.kick(&mut p, now, "look");
    }
    if let Some(Timeouts { left, cur, .. }) = timeouts.filter(|_| !is(Mutant::NobodySkips)) {
        p.goto("done");
        p.label("skip");
        left.take_with_lock(&mut p, now, (head, cur), (state, found, [FREE, HELD, HANDED_OVER]), "kick");
        p.mark(Mark::Inherit);
        p.set(my, now);
        p.goto("leave the queue");
    }
    p.label("done");
    p.mark(Mark::Done);
    p.goto("lock");
    p.build()
}
