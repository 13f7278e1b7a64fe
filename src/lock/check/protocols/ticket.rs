//! `ticket-2.6.25`: Nick Piggin's ticket lock (314cdbefd1fd). Who waits spins; nobody sleeps, nobody is kicked.

use super::names::{Mutant, Setting, TICKET_BITS};
use crate::error::Result;
use crate::lock::check::program::{Builder, Cond, Mark, Program, Promises, get, put, put_if};

pub(super) fn build(setting: &Setting) -> Result<Program> {
    let is = |mutant: Mutant| setting.mutant == Some(mutant);
    let mut p = Builder::new(Promises { fifo: true, no_touch: true, overtakers: None });
    let bits = if is(Mutant::MoreWaitersThanTickets) { 1 } else { TICKET_BITS };
    let (tail, head) = (p.lock_ticket("tail", bits), p.lock_ticket("head", bits));
    let [my, now, next] = ["my", "now", "next"].map(|name| p.ticket(name, bits));
    // A carry happens at one ticket only.
    if !is(Mutant::TicketWrap) {
        p.rotate_by(head);
    }

    p.label("lock");
    p.either("trylock");
    p.locked("my = xadd(tail, 1)", &[get(my, tail), put(tail, my + 1)]);
    p.mark(Mark::Arrive);
    p.label("spin");
    p.read("head == my?", &[get(now, head)]);
    p.go_if(Cond::Eq(now, my.into()), "enter");
    p.goto("spin");

    p.label("trylock");
    p.read("my = tail == head?", &[get(my, tail), get(now, head)]);
    p.go_if(Cond::Ne(now, my.into()), "lock");
    let whole = Cond::Both(next, my.into(), now, my.into());
    let compared = if is(Mutant::TrylockAba) { Cond::Eq(next, my.into()) } else { whole };
    let text = if is(Mutant::TrylockAba) { "cas(tail, my, my + 1)" } else { "cas(lock, my:my, my:my + 1)" };
    p.locked(text, &[get(next, tail), get(now, head), put_if(compared, tail, my + 1)]);
    p.go_if(Cond::Ne(next, my.into()), "lock");
    if !is(Mutant::TrylockAba) {
        p.go_if(Cond::Ne(now, my.into()), "lock");
    }
    p.mark(Mark::Arrive);

    p.label("enter");
    p.mark(Mark::Enter);
    if is(Mutant::TicketWrap) {
        let carry = put_if(Cond::Eq(my, u8::MAX.into()), tail, next + 1);
        p.locked("lock: add 1, the carry goes into tail", &[get(next, tail), put(head, my + 1), carry]);
    } else {
        p.write("head = my + 1", head, my + 1);
    }
    p.mark(Mark::Leave);
    p.mark(Mark::Done);
    p.goto("lock");
    p.build()
}
