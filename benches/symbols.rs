//! Reading what a kernel says of itself: kallsyms found and decoded, BTF indexed, ops flattened.
//!
//! `PVOPS_KERNELS=DIR cargo bench --bench symbols`, with `DIR/kernels/vmlinuz-6.1.0-56-amd64` (66 MB unpacked). For
//! comparison: crates and scripts that look for kallsyms take 1 to 2.5 s on the same image, BTF parsers 56 to 102 ms.

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
    c.bench_function("kallsyms: find and decode", |b| b.iter(find));
    c.bench_function("kallsyms: index by name, one look-up", |b| {
        b.iter_batched(|| find().unwrap_or_default(), |s| s.address_of("pv_ops"), criterion::BatchSize::LargeInput)
    });
    let found = find().unwrap_or_default();
    c.bench_function("kallsyms: address_of", |b| b.iter(|| found.address_of(black_box("pv_ops"))));
    c.bench_function("kallsyms: at", |b| b.iter(|| found.at(black_box(0xffff_ffff_8100_261a))));
    c.bench_function("btf: parse", |b| b.iter(|| Btf::parse(black_box(blob)).map(|btf| btf.len())));
    let Ok(btf) = Btf::parse(blob) else { return };
    c.bench_function("btf: flatten the template", |b| {
        b.iter(|| btf.flatten_pointers(black_box("paravirt_patch_template"), word))
    });
}

criterion_group!(benches, symbols);
criterion_main!(benches);
