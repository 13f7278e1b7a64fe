//! `pv-ticket-3.12` and `pv-ticket-4.0`: Linux's paravirtual ticket locks, with KVM's slow path.
//!
//! A flag beside the tickets says that someone may sleep: in the word of the tail as merged (545ac13892ab,
//! 96f853eaa889), in that of the head since d6abfdb20223. Who is about to halt says in a per-CPU variable for what
//! (`w`), sets the flag, looks once more, and halts (arch/x86/kernel/kvm.c, kvm_lock_spinning). The unlocker looks
//! through the CPUs, in any order, for who wants the next ticket (kvm_unlock_kick); a kick that comes before the halt
//! lets the halt return at once (pv_unhalted). `waiting_cpus`, which only saves looking at CPUs whose `w.lock` is NULL,
//! is left out. Loads and stores of the lock are locked instructions or loads, so
//! the halves of its word are variables here, and a step may touch both.
//!
//! As merged, unlock looks at the tail and writes the flag after it has released: `touch-after-release`. The repaired
//! form of 3.12 releases and clears the flag with one compare-and-exchange.

use super::names::{Mutant, Scenario, Setting, TICKET_BITS};
use crate::error::Result;
use crate::lock::check::program::{At, Builder, Cond, Mark, Program, Promises, Reg, Var, get, put, put_if};

struct Lock {
    tail: Var,
    head: Var,
    flag: Var,
    my: Reg,
    now: Reg,
    last: Reg,
    slow: Reg,
}

impl Lock {
    fn new(p: &mut Builder) -> Lock {
        let (tail, head) = (p.lock_ticket("tail", TICKET_BITS), p.lock_ticket("head", TICKET_BITS));
        let flag = p.lock_var("slowpath", 1);
        p.rotate_by(head);
        let [my, now, last] = ["my", "now", "last"].map(|name| p.ticket(name, TICKET_BITS));
        Lock { tail, head, flag, my, now, last, slow: p.reg("slow", 1) }
    }

    /// Takes a ticket and waits; then at `enter`, with the flag in `slow`. From `kick` on the kick of the next.
    fn acquire(&self, p: &mut Builder, setting: &Setting) {
        let boots = setting.scenario == Scenario::Boot;
        let online = boots.then(|| p.own("online", 1));
        p.label("idle");
        if boots {
            p.either("come online");
        }
        p.locked("my = xadd(tail, 1)", &[get(self.my, self.tail), put(self.tail, self.my + 1)]);
        p.mark(Mark::Arrive);
        self.spin(p, setting, online);
        if let Some(online) = online {
            p.label("come online");
            p.locked("bind the kicker's interrupt", &[put(At::Own(online), 1)]);
            p.mark(Mark::Done);
            p.goto("idle");
        }
    }

    fn spin(&self, p: &mut Builder, setting: &Setting, online: Option<Var>) {
        let is = |mutant: Mutant| setting.mutant == Some(mutant);
        let &Lock { head, flag, my, now, slow, .. } = self;
        let w_lock = p.own("w.lock", 1);
        let w_want = p.own_ticket("w.want", TICKET_BITS);
        p.guarded(w_want, w_lock);
        let kicked = p.own("kicked", 1);
        p.label("spin");
        p.read("head == my?", &[get(now, head), get(slow, flag)]);
        p.go_if(Cond::Eq(now, my.into()), "enter");
        p.either("spin");

        // lock_spinning(want)
        if let Some(online) = online
            && !is(Mutant::SlowpathBeforeOnline)
        {
            p.read("can be kicked?", &[get(slow, At::Own(online))]);
            p.go_if(Cond::Eq(slow, 0.into()), "spin");
        }
        if is(Mutant::PublishAfterLook) {
            p.read("the last look: head == my?", &[get(now, head)]);
            p.go_if(Cond::Eq(now, my.into()), "spin");
        }
        p.write("w.lock = NULL", At::Own(w_lock), 0);
        p.write("w.want = my", At::Own(w_want), my);
        p.write("w.lock = lock", At::Own(w_lock), 1);
        p.locked("set the slowpath flag", &[put(flag, 1)]);
        if !is(Mutant::PublishAfterLook) && !is(Mutant::NoLookAfterPublish) {
            p.read("the last look: head == my?", &[get(now, head)]);
            p.go_if(Cond::Eq(now, my.into()), "awake");
        }
        p.wait_until(
            "halt until kicked",
            Cond::Eq(slow, 1.into()),
            &[get(slow, At::Own(kicked)), put(At::Own(kicked), 0)],
        );
        p.label("awake");
        p.write("w.lock = NULL", At::Own(w_lock), 0);
        p.goto("spin");

        // unlock_kick(my + 1)
        p.label("kick");
        p.others();
        p.label("next cpu");
        p.pick("done");
        p.read("its w.lock == lock?", &[get(slow, At::Picked(w_lock))]);
        p.go_if(Cond::Eq(slow, 0.into()), "next cpu");
        p.read("its w.want == my + 1?", &[get(now, At::Picked(w_want))]);
        p.go_if(Cond::Ne(now, my + 1), "next cpu");
        if let Some(online) = online {
            let kick = put_if(Cond::Eq(slow, 1.into()), At::Picked(kicked), 1);
            p.direct("kick it, if its interrupt is bound", &[get(slow, At::Picked(online)), kick]);
        } else {
            p.direct("kick it", &[put(At::Picked(kicked), 1)]);
        }
        p.goto("done");
    }
}

/// The flag in the tail.
pub(super) fn v3_12(setting: &Setting) -> Result<Program> {
    let mut p = Builder::new(Promises { fifo: true, no_touch: !setting.lenient, overtakers: None });
    let lock = Lock::new(&mut p);
    lock.acquire(&mut p, setting);
    let Lock { tail, head, flag, my, last, slow, .. } = lock;
    p.label("enter");
    p.mark(Mark::Enter);
    if setting.mutant == Some(Mutant::TouchAfterRelease) {
        let seen = p.reg("seen", 1);
        p.read("prev = lock", &[get(last, tail), get(seen, flag)]);
        p.locked("add(head, 1)", &[put(head, my + 1)]);
        p.mark(Mark::Leave);
        p.read("tail & SLOWPATH?", &[get(slow, flag)]);
        p.go_if(Cond::Eq(slow, 0.into()), "done");
        // Someone was queued behind already: kick. Else clear the flag, if the word is still the same.
        p.go_if(Cond::Ne(last, my + 1), "kick");
        let found = p.ticket("found", TICKET_BITS);
        let same = Cond::Both(found, my + 1, slow, seen.into());
        // Where the tail is still the same, nobody came, and so the head is.
        p.locked("cmpxchg(lock: clear the flag)", &[get(found, tail), get(slow, flag), put_if(same, flag, 0)]);
        p.go_if(Cond::Ne(found, my + 1), "kick");
        p.go_if(Cond::Ne(slow, seen.into()), "kick");
        p.goto("done");
    } else if setting.mutant == Some(Mutant::KickBeforeRelease) {
        p.read("tail & SLOWPATH?", &[get(slow, flag)]);
        p.locked("add(head, 1)", &[put(head, my + 1)]);
        p.mark(Mark::Leave);
        p.go_if(Cond::Eq(slow, 1.into()), "kick");
        p.goto("done");
    } else {
        // One instruction releases, takes the flag, and clears it where nobody is queued.
        let release = put(head, my + 1);
        let clear = put_if(clears(setting, last, my), flag, 0);
        p.locked("cmpxchg(lock: head + 1; flag, unless queued)", &[get(last, tail), get(slow, flag), release, clear]);
        p.mark(Mark::Leave);
        p.go_if(Cond::Eq(slow, 1.into()), "kick");
    }
    p.label("done");
    p.mark(Mark::Done);
    p.goto("idle");
    p.build()
}

/// When the flag is cleared: only if nobody is queued; a mutant clears it while others are queued.
fn clears(setting: &Setting, tail: Reg, my: Reg) -> Cond {
    if setting.mutant == Some(Mutant::WrongHandClears) { Cond::Always } else { Cond::Eq(tail, my + 1) }
}

/// The flag in the head.
pub(super) fn v4_0(setting: &Setting) -> Result<Program> {
    let mut p = Builder::new(Promises { fifo: true, no_touch: true, overtakers: None });
    let lock = Lock::new(&mut p);
    lock.acquire(&mut p, setting);
    let Lock { tail, head, flag, my, now, last, slow } = lock;
    p.label("enter");
    p.mark(Mark::Enter);
    p.go_if(Cond::Eq(slow, 0.into()), "unlock");
    // __ticket_check_and_clear_slowpath: the owner clears, if nobody is queued behind it.
    let clear = put_if(clears(setting, last, my), flag, 0);
    p.locked("cmpxchg(lock: clear the flag, unless queued)", &[get(last, tail), clear]);
    p.label("unlock");
    if setting.mutant == Some(Mutant::KickBeforeRelease) {
        p.read("head & SLOWPATH?", &[get(slow, flag)]);
        p.locked("xadd(head, 1)", &[put(head, my + 1)]);
    } else {
        p.locked("head & SLOWPATH? = xadd(head, 1)", &[get(slow, flag), put(head, my + 1)]);
    }
    p.mark(Mark::Leave);
    if setting.mutant == Some(Mutant::TouchAfterRelease) {
        p.read("tail == my + 1?", &[get(now, tail)]);
        p.go_if(Cond::Eq(now, my + 1), "done");
    }
    p.go_if(Cond::Eq(slow, 1.into()), "kick");
    p.label("done");
    p.mark(Mark::Done);
    p.goto("idle");
    p.build()
}
