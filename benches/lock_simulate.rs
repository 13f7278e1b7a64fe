//! Events a second of the lock simulator, single-threaded. Goal: 20 million.
//!
//! An event is one time at which the calendar says that something happens on one physical CPU: a virtual CPU asks for a
//! lock, gives one back, has spun for long enough, has left the guest, has kicked, was switched to, used up its slice.
//! What follows from it at the same instant, such as the waiter that has the lock then, is part of it.

#![allow(missing_docs, clippy::expect_used)] // criterion_group! documents nothing

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use pvops::lock::sim::{Distribution, Params, Protocol, Report, Scheduler, Simulation};

fn params(protocol: Protocol, vcpus: usize, locks: usize) -> Params {
    Params {
        protocol,
        threshold: protocol.usual_threshold_us().map(|us| (us * 1e6) as u64),
        vcpus,
        pcpus: 8,
        vms: 1,
        locks,
        scheduler: Scheduler::Credit,
        seed: 1,
        duration: 200_000_000_000,
        think: Distribution::Exponential(20_000_000),
        hold: Distribution::Exponential(500_000),
        slice: 6_000_000_000,
        switch: 1_500_000,
        kick: 5_000_000,
        exit: 1_000_000,
        ple: None,
        patience: 1_000_000_000,
        interrupts: None,
        ticket_bits: None,
    }
}

fn simulated(params: &Params) -> Report {
    let mut simulation = Simulation::new(params).expect("good parameters");
    while simulation.run(u64::MAX) {}
    simulation.report()
}

fn all(c: &mut Criterion) {
    let mut group = c.benchmark_group("simulate 0.2 s of locks");
    group.sample_size(20);
    for (protocol, vcpus, locks) in [
        (Protocol::Ticket2_6_25, 8, 1),
        (Protocol::Ticket2_6_25, 16, 64),
        (Protocol::PvTicket, 16, 1),
        (Protocol::PvTicket, 16, 64),
        (Protocol::PvHybrid, 16, 1),
        (Protocol::XenByte2_6_27, 16, 1),
    ] {
        let params = params(protocol, vcpus, locks);
        group.throughput(Throughput::Elements(simulated(&params).events));
        group.bench_function(format!("pvops: {}, {vcpus} on 8, {locks} locks", protocol.name()), |b| {
            b.iter(|| simulated(&params));
        });
    }
    group.finish();
}

criterion_group!(benches, all);
criterion_main!(benches);
