//! Judging `.text`: what each stage costs. Goal: comparing and attributing 14.7 MB in at most 20 ms, given the verifier.
//!
//! Beside it the least there is, comparing memory with itself (`memcmp`); the bytes that differ from the image, counted;
//! and those with the pass that wrote each, by numpy, which asks not whether they are the right ones. Needs `PVOPS_KERNELS`,
//! and for numpy a Python that has it: `PVOPS_BENCH_PYTHON`, or `python3`.

#![allow(missing_docs, clippy::expect_used)]

#[path = "../tests/boots_support/mod.rs"]
mod boots_support;
#[path = "support/numpy.rs"]
mod numpy;

use std::hint::black_box;

use boots_support::{Recorded, all, info, kernel, rules};
use criterion::{Criterion, criterion_group, criterion_main};
use numpy::Numpy;
use pvops::image::Image;
use pvops::plan::{self, LoadedCode};
use pvops::sites::Tables;
use pvops::verify::{Known, Verifier, View};

const RELEASE: &str = "6.1.0-56-amd64";

fn verify(c: &mut Criterion) {
    let boots = all();
    let Some(recorded) = boots.iter().find(|b| b.kernel == RELEASE && b.mode == "native-max-smp2") else {
        eprintln!("skipped: no boot of {RELEASE} is at hand");
        return;
    };
    let image = kernel(&recorded.kernel);
    let tables = Tables::read(&image).expect("real tables are valid");
    let memory = recorded.memory(&image);
    let rules = rules(&recorded.kernel);
    let info = info(&recorded.kernel, &image);
    let verifier = Verifier::new(&image, &tables, rules, info.clone(), LoadedCode::of(&image)).expect("a verifier");
    let view = View::new(verifier.text(), &memory, &[]).expect("a view");
    let known = Known::default();
    let inferred = verifier.infer(&view, &known);
    let report = verifier.judge(&view, inferred.clone());
    assert!(report.unexplained.is_empty());
    let explained = report.explained.iter().map(|part| part.bytes).sum();
    let built = image.section_bytes(image.section(".text").expect(".text"));
    let mut numpy = Numpy::start(built, &memory, &writes(recorded, &image, &tables), explained);

    let mut group = c.benchmark_group(format!("compare and attribute the text of {RELEASE}"));
    group.sample_size(20);
    group.bench_function("pvops: judge", |b| b.iter(|| verifier.judge(black_box(&view), inferred.clone())));
    let copy = memory.clone();
    group.bench_function("limit: memcmp of equal texts", |b| b.iter(|| black_box(&copy) == black_box(&memory)));
    group.bench_function("count the bytes that differ, no word on why", |b| {
        b.iter(|| black_box(built).iter().zip(black_box(&memory)).filter(|(a, b)| a != b).count());
    });
    if let Some(numpy) = &mut numpy {
        group.bench_function("numpy: diff, and whose pass, right or wrong", |b| b.iter_custom(|n| numpy.turns(n)));
    }
    group.finish();

    let mut group = c.benchmark_group(format!("what judging needs, {RELEASE}"));
    group.sample_size(10);
    group.bench_function("pvops: the sites, in clusters", |b| {
        b.iter(|| Verifier::new(&image, &tables, rules, info.clone(), LoadedCode::of(&image)).expect("a verifier"));
    });
    group.bench_function("pvops: infer the machine", |b| b.iter(|| verifier.infer(black_box(&view), &known)));
    group.finish();
}

/// What the plan of the same boot writes into `.text`: offset, length, and the pass as a number.
fn writes(recorded: &Recorded, image: &Image, tables: &Tables) -> Vec<[u32; 3]> {
    let boot = recorded.boot(image, tables);
    let plan = plan::boot(image, tables, &boot, rules(&recorded.kernel)).expect("a plan");
    let text = image.section(".text").expect(".text");
    let inside = plan.writes().iter().filter(|write| text.contains(write.address));
    inside
        .map(|write| [(write.address - text.address) as u32, plan.bytes(write).len() as u32, write.pass as u32])
        .collect()
}

criterion_group!(benches, verify);
criterion_main!(benches);
