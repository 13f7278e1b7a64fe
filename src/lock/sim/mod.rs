//! Virtual CPUs that share locks on too few physical CPUs: what a lock costs when the hypervisor takes its holder
//! away.
//!
//! This page is the specification: with it the simulator can be written again and must give the same numbers, which a
//! slow model in the tests does. Time is whole picoseconds (ps). Nothing depends on the machine or on chance but the
//! seed.
//!
//! # Who is there
//!
//! `vcpus` virtual CPUs, numbered from 0, run on `pcpus` physical ones. Number v belongs to virtual machine v mod
//! `vms`; so the machines start as mixed as they would be after a while. A machine has `locks` locks, and one more
//! that only interrupt handlers take.
//!
//! **The program** of a virtual CPU, for ever: think; ask for a lock; hold it; give it back. That completes one
//! acquisition. **A handler** asks for the handlers' lock, holds it, gives it back and returns to the program. It
//! starts when the virtual CPU has run its program (thinking, spinning or holding, and on a physical CPU) for the
//! interval drawn when the last handler returned, or at time 0. Handlers are not interrupted.
//!
//! # Where time goes
//!
//! A virtual CPU is at each instant in one [`State`]. Thinking and holding are *useful*. *Spin*: runs, and waits for
//! a lock. *Blocked*: sleeps until it is kicked. *Overhead*: the hypervisor works for it, on its physical CPU: a
//! switch, an exit, a kick. *Idle*: could run, but has no physical CPU. Their sum over all virtual CPUs is `vcpus ×
//! duration`.
//!
//! # Instants
//!
//! Each occupied physical CPU has one next event. The earliest is handled; of several at one time, that of the lowest
//! physical CPU; the scheduler's own (below) after those of all physical CPUs. Consequences of an event take effect
//! at once, and may put further events at the same time. All times up to and including `duration` are handled. This
//! is what `events` counts.
//!
//! While guest code runs, its physical CPU's next event is the first of: what it does ends; an interrupt comes; the
//! slice ends. Of equal times the first in this order is handled. *What it does* ends when thinking or holding has
//! run for its time, and spinning when the threshold or the stretch of pause-loop exiting is used up. Overhead is not
//! interrupted and not preempted: its event is its end. A slice that ended meanwhile ends right after it, once the
//! guest goes on.
//!
//! # Locks
//!
//! A lock is held or free, and has a list of those who wait, in the order of asking. *A waiter watches* while it
//! spins as the code that runs, on a physical CPU; one that is preempted, in overhead, or interrupted does not. Its
//! **wait** is from asking to having the lock. Who spins uses up its threshold, except while it does not run; the
//! stretch of pause-loop exiting begins anew each time that it begins to run or was interrupted.
//!
//! Asking: a free lock is had at once, also if others wait for it. Otherwise the asker goes to the end of the list
//! and spins. A waiter that begins to watch first looks: it has the lock if it was handed it, or if the lock is free
//! and the order below lets it.
//!
//! Giving back, if the list is empty: the lock is free. Otherwise:
//!
//! | order | protocols | |
//! |---|---|---|
//! | first come, first served | `ticket-2.6.25`, `pv-ticket-3.12`, `pv-ticket-4.0`, `pv-ticket` | the first of the list leaves it and is handed the lock. If it watches, it has it at this instant. If it has published, it is kicked. A lock handed over is not free |
//! | any | `xen-byte-2.6.27` | if some watch, one of them has it at this instant: the only one, or, of n, that which the arbiter's stream draws below n, counted in the order of asking. Otherwise it is free, and any waiter that looks has it. *Besides*, if any have published, the one with the lowest number is kicked |
//! | steal | `pv-hybrid` | only the first of the list may have it. If it watches, it has it at this instant. If it has waited for `patience` or longer, it is handed the lock; otherwise the lock is free. In both cases it is kicked if it has published and no kick for it is under way |
//!
//! The three paravirtual ticket locks are the same here but for their usual thresholds ([`Protocol`] says why), and
//! `ticket-2.6.25` is one whose waiters never block. `xen-byte-2.6.27` without a threshold is test-and-set.
//!
//! **Blocking.** When the threshold is used up the waiter *publishes* that it blocks, and leaves the guest: overhead
//! `exit`. At its end it sleeps and leaves its physical CPU, unless a kick has come: then it goes on, as after
//! waking. Where threshold and stretch end together, it blocks.
//!
//! **Kicking.** Who gives back kicks after that: overhead `kick`, at whose end it goes on, and *then* the kick
//! arrives. It wakes who sleeps; is remembered, to the end of that overhead, for who is still leaving; and else does
//! nothing. Who is woken, or goes on instead of sleeping, has from then on not published, has no kick under way, and
//! has its whole threshold again.
//!
//! **Pause-loop exiting.** When the stretch is used up: overhead `exit`, at whose end the hypervisor lets another
//! virtual CPU run, if one waits in a queue, as if the slice had ended; handed the lock meanwhile or not. Gangs do
//! not yield.
//!
//! # Schedulers
//!
//! A virtual CPU comes to a physical one by a *switch*: overhead `switch`, after which its slice begins (no slices
//! for gangs) and its code goes on. At time 0 the first ones run without a switch, on the physical CPU of their
//! number (a gang: the first gang), and the first slice on physical CPU p ends at ⌊(p + 1) · slice / pcpus⌋, so that
//! slices do not end together; the others queue in order.
//!
//! **Round robin.** One queue. At the end of a slice: if the queue is empty a new slice begins; otherwise the first
//! comes, and who ran goes to the end. Who is woken takes the lowest idle physical CPU, or else goes to the end.
//!
//! **Credit**, after Xen's: each has a credit, at first 0, less the time it has a physical CPU. Every `slice` the
//! scheduler adds ⌊slice · pcpus / vcpus⌋ to each, clamps to ±slice, and sorts those queued as over anew. There are
//! three queues: boosted, under (credit ≥ 0), over; the first of the first that is not empty comes next. Who is woken
//! with credit ≥ 0 is boosted, until it leaves its physical CPU or its slice ends. It takes the lowest idle physical
//! CPU; otherwise it queues, and, if boosted, preempts at once: of those who run guest code and are not boosted, one
//! over before one under, then the one whose slice ends first, then on the lowest physical CPU. At the end of any
//! overhead who is not boosted makes way if someone boosted waits. At the end of a slice a new one begins unless
//! someone of the same class or a better one waits. Who makes way queues after the next was chosen.
//!
//! **Gang.** A virtual machine is cut in gangs of at most `pcpus`; in order; member i runs on physical CPU i alone.
//! Every `slice` the turn passes to the next gang that has a member which is not blocked. Physical CPUs change over
//! in order; one that is in overhead changes at its end. Who is woken runs at once if it is its gang's turn and its
//! physical CPU is free.
//!
//! # Chance
//!
//! SplitMix64 streams: number 2v for the program of virtual CPU v, 2v + 1 for its interrupts, 2^64 − 2 for the
//! arbiter. With `mix` its finalizer, `state = mix(mix(seed) + γ·(number + 1))` and each draw is `mix(state += γ)`.
//! The program draws, in turn: how long it thinks; which lock, ⌊draw · locks / 2^64⌋, if there are several; how long
//! it holds it. The interrupts' stream: an interval; how long the handler holds its lock; and so on. A constant draws
//! nothing. Others take u = (⌊draw / 2^11⌋ + 1) / 2^53: exponential is ⌊mean · −ln u + ½⌋, uniform is ⌊2 · mean · u⌋.
//!
//! # What is left out
//!
//! A lock passes from CPU to CPU in no time; caches, memory and the number of watchers cost nothing. Where the
//! waiter's flag lives, and with it most bugs of these protocols, cannot be seen here: that is for the model checker.

mod calendar;
mod engine;
mod guest;
mod histogram;
mod hypervisor;
mod params;
mod protocol;
mod queues;
mod random;
mod record;
mod refusal;
mod report;
mod state;

pub use engine::Simulation;
pub use histogram::Histogram;
pub use params::{Interrupts, Params, Scheduler, microseconds, seconds};
pub use protocol::Protocol;
pub use random::Distribution;
pub use record::Span;
pub use report::{Counters, Preempted, Report};
pub use state::State;
