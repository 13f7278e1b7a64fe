//! Reading what a kernel says of itself: kallsyms found and decoded, BTF indexed, ops flattened.
//!
//! `PVOPS_KERNELS=DIR cargo bench --bench symbols`, with `DIR/kernels/vmlinuz-6.1.0-56-amd64` (66 MB unpacked). The peer
//! is in Python, so it is measured in `peers.py`.

#[path = "../tests/symbols_support/mod.rs"]
mod symbols_support;

use criterion::{Criterion, criterion_group, criterion_main};
use pvops::image::{btf::Btf, kallsyms::Symbols};
use std::hint::black_box;

fn symbols(c: &mut Criterion) {
    let Some((sections, word)) = symbols_support::open("6.1.0-56-amd64") else { return };
    let regions = symbols_support::regions(&sections);
    let Some(blob) = sections.iter().find(|s| s.0 == ".BTF").map(|s| &s.2) else { return };
    let find = || Symbols::find(&regions, word).ok().flatten();
    let mut group = c.benchmark_group("symbols and types of 6.1 amd64");
    group.bench_function("pvops: find and decode kallsyms", |b| b.iter(find));
    group.bench_function("pvops: index kallsyms by name, look one up", |b| {
        b.iter_batched(|| find().unwrap_or_default(), |s| s.address_of("pv_ops"), criterion::BatchSize::LargeInput)
    });
    let found = find().unwrap_or_default();
    group.bench_function("pvops: address_of", |b| b.iter(|| found.address_of(black_box("pv_ops"))));
    group.bench_function("pvops: at", |b| b.iter(|| found.at(black_box(0xffff_ffff_8100_261a))));
    group.bench_function("pvops: parse BTF", |b| b.iter(|| Btf::parse(black_box(blob)).map(|btf| btf.len())));
    let Ok(btf) = Btf::parse(blob) else { return };
    group.bench_function("pvops: flatten the template of ops", |b| {
        b.iter(|| btf.flatten_pointers(black_box("paravirt_patch_template"), word))
    });
    group.finish();
}

criterion_group!(benches, symbols);
criterion_main!(benches);
