//! Branches into the middle of a site, over the whole text (`PVOPS_KERNELS`).
//!
//! At least 400 MB/s. Beside it the limits: looking for three opcodes only (memchr), and copying the text.
#![allow(missing_docs, clippy::expect_used)] // criterion_group! documents nothing

#[path = "../tests/kernels/mod.rs"]
mod kernels;

use std::hint::black_box;
use std::time::Instant;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use pvops::sites::{Tables, intrusions};

const RUNS: u32 = 10;

fn scan(c: &mut Criterion) {
    for release in ["6.1.0-56-amd64", "6.12.117+deb12-amd64", "7.2.13+deb14-amd64"] {
        let Some(image) = kernels::kernel(release) else { return };
        let tables = Tables::read(&image).expect("real tables are valid");
        let text = image.section_bytes(image.section(".text").expect(".text"));
        assert!(intrusions(&image, &tables).is_empty());

        let start = Instant::now();
        for _ in 0..RUNS {
            black_box(intrusions(&image, &tables));
        }
        let seconds = start.elapsed().as_secs_f64() / f64::from(RUNS);
        eprintln!("{release}: {:.0} MB/s of .text", text.len() as f64 / seconds / 1e6);

        let mut group = c.benchmark_group(format!("branches into sites, {release}"));
        group.sample_size(20).throughput(Throughput::BytesDecimal(text.len() as u64));
        group.bench_function("pvops: whole scan", |b| b.iter(|| intrusions(&image, &tables)));
        group.bench_function("limit: memchr of three opcodes", |b| {
            b.iter(|| memchr::memchr3_iter(0xe8, 0xe9, 0x0f, black_box(text)).count());
        });
        group.bench_function("limit: copy the text", |b| b.iter(|| black_box(text.to_vec())));
        group.finish();
    }
}

criterion_group!(benches, scan);
criterion_main!(benches);
