//! The lock checker: states a second, on the searches that take longest.
//!
//! The prototype it is to beat saw 0.4 to 6 million states a second, and needed 2,310,176 of them for four threads on two
//! slots, 8,359,424 for three on four (measured on two CPUs of an EPYC, Zen 5). Fewer states are the larger gain.
#![allow(missing_docs, clippy::expect_used)]

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use pvops::lock::check::{Case, Limits, Protocol, Reductions, Setting, search};

fn searches(c: &mut Criterion) {
    let limits = Limits { states: 10_000_000, interrupted: &|| false };
    let mut group = c.benchmark_group("search all states of a lock");
    group.sample_size(10);
    for (protocol, threads, slots) in [
        (Protocol::PvTicket, 3, 2),
        (Protocol::PvTicket, 3, 4),
        (Protocol::PvTicket, 4, 2),
        (Protocol::PvHybrid, 3, 2),
        (Protocol::PvTicket4_0, 3, 1),
    ] {
        let case = Case { protocol, setting: Setting::sound(slots), threads, acquisitions: None };
        let machine = case.machine().expect("it fits");
        let states = search(&machine, Reductions::ALL, &limits).expect("it is searched").states;
        group.throughput(Throughput::Elements(states as u64));
        let name = format!("pvops: {} {threads} threads {slots} slots, {states} states", protocol.name());
        group.bench_function(name, |b| b.iter(|| search(&machine, Reductions::ALL, &limits)));
    }
    group.finish();
}

criterion_group!(benches, searches);
criterion_main!(benches);
