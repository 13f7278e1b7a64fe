//! Judging `.text`: what each stage costs, and beside it what is the least: comparing memory with itself (`memcmp`), and
//! finding the bytes that differ from the image (what a script's diff does, without a word on why). Needs `PVOPS_KERNELS`.

#![allow(missing_docs, clippy::expect_used)]

#[path = "../tests/boots_support/mod.rs"]
mod boots_support;

use std::hint::black_box;

use boots_support::{all, brief, kernel, rules};
use criterion::{Criterion, criterion_group, criterion_main};
use pvops::plan::Memory;
use pvops::sites::Tables;
use pvops::verify::{Known, Verifier, View};

fn verify(c: &mut Criterion) {
    let boots = all();
    let Some(recorded) = boots.iter().find(|b| b.kernel.starts_with("6.1.0-56") && b.mode == "native-max-smp2") else {
        return;
    };
    let image = kernel(&recorded.kernel);
    let tables = Tables::read(&image).expect("real tables are valid");
    let memory = recorded.memory(&image);
    let rules = rules(&recorded.kernel);
    let brief = brief(&recorded.kernel, &image);
    let verifier = Verifier::new(&image, &tables, rules, brief.clone(), Memory::of(&image)).expect("a sheet");
    let view = View::new(verifier.text(), &memory, &[]).expect("a view");
    let known = Known::default();
    let inferred = verifier.infer(&view, &known);
    let built = image.section_bytes(image.section(".text").expect(".text"));

    let mut group = c.benchmark_group("verify");
    group.sample_size(10);
    let copy = memory.clone();
    group.bench_function("memcmp", |b| b.iter(|| black_box(&copy) == black_box(&memory)));
    group.bench_function("diff", |b| {
        b.iter(|| black_box(built).iter().zip(black_box(&memory)).filter(|(a, b)| a != b).count());
    });
    group.bench_function("judge", |b| b.iter(|| verifier.judge(black_box(&view), inferred.clone())));
    group.bench_function("infer", |b| b.iter(|| verifier.infer(black_box(&view), &known)));
    group.bench_function("sites", |b| {
        b.iter(|| Verifier::new(&image, &tables, rules, brief.clone(), Memory::of(&image)).expect("a sheet"));
    });
    group.finish();
}

criterion_group!(benches, verify);
criterion_main!(benches);
