//! Finding a kernel in a dump of 1 GiB, and reading its text back as linked.
//!
//! `PVOPS_KERNELS=DIR cargo bench --bench memory`, with `DIR/kernels/vmlinuz-6.1.0-56-amd64` (14.7 MB of text, 223,000
//! relocated fields). The core is made here, sparse: the kernel moved by its own relocations, late in physical memory, and
//! a guest's worth of order in the rest would not change what is read. For comparison, in the same run: the text read
//! with nothing done to it, and all of the core searched for the kernel's banner, which is what tools do that do not know
//! where kernels lie.

#![allow(missing_docs, clippy::expect_used)]

#[path = "../tests/kernels/mod.rs"]
mod kernels;

use std::fs::File;
use std::hint::black_box;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::Path;

use criterion::{Criterion, criterion_group, criterion_main};
use pvops::image::Image;
use pvops::memory::Memory;

const SIZE: u64 = 1 << 30;
const PHYSICAL: u64 = 0x3400_0000;
const SLIDE: u64 = 0x1240_0000;
const HEADERS: u64 = 64 + 56;

/// A core of 1 GiB with the kernel in it.
fn write_core(image: &Image, path: &Path) -> std::io::Result<()> {
    let file = File::create(path)?;
    file.set_len(HEADERS + SIZE)?;
    let mut header = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x04\0\x3e\0\x01\0\0\0".to_vec();
    [0u64, 64, 0].iter().for_each(|word| header.extend(word.to_le_bytes()));
    header.extend([0, 0, 0, 0, 64, 0, 56, 0, 1, 0, 64, 0, 0, 0, 0, 0]);
    header.extend([1, 0, 0, 0, 0, 0, 0, 0]);
    [HEADERS, 0, 0, SIZE, SIZE, 0].iter().for_each(|word| header.extend(word.to_le_bytes()));
    file.write_all_at(&header, 0)?;
    let start = image.section(".text").map_or(0, |text| text.address);
    for section in image.sections().iter().filter(|s| s.allocated && s.bits_present && s.address >= start) {
        let mut bytes = image.section_bytes(section).to_vec();
        if let Ok(Some(relocations)) = image.relocations() {
            relocations.apply(section.address, &mut bytes, SLIDE);
        }
        file.write_all_at(&bytes, HEADERS + PHYSICAL + section.address - start)?;
    }
    Ok(())
}

/// How often the banner stands in a file, read in pieces.
fn banners(path: &Path) -> std::io::Result<usize> {
    let finder = memchr::memmem::Finder::new("Linux version 6.1");
    let mut file = File::open(path)?;
    let mut buffer = vec![0; 1 << 20];
    let mut hits = 0;
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hits),
            n => hits += finder.find_iter(&buffer[..n]).count(),
        }
    }
}

fn memory(c: &mut Criterion) {
    let Some(image) = kernels::kernel("6.1.0-56-amd64") else { return };
    let unpacked = Image::from_bytes("vmlinux", image.bytes().to_vec()).expect("it is one");
    drop(image);
    let path = std::env::temp_dir().join(format!("pvops-bench-{}.core", std::process::id()));
    write_core(&unpacked, &path).expect("room for a sparse core");
    let mut group = c.benchmark_group("find a kernel in a core of 1 GiB");
    group.sample_size(10);
    group.bench_function("pvops: open it, find the kernel and its slide", |b| {
        b.iter(|| Memory::open(black_box(&path)).and_then(|memory| memory.find(&unpacked, &mut |_, _| Ok(()))))
    });
    group.bench_function("all of it searched for the banner", |b| b.iter(|| banners(&path)));
    group.finish();

    let mut group = c.benchmark_group("read the kernel's text from the core");
    group.bench_function("pvops: relocations read from the image", |b| {
        b.iter_batched(
            || Image::from_bytes("vmlinux", unpacked.bytes().to_vec()),
            |image| image.and_then(|image| image.relocations().map(|found| found.map_or(0, |list| list.all().len()))),
            criterion::BatchSize::PerIteration,
        )
    });
    let opened = Memory::open(&path).and_then(|memory| memory.find(&unpacked, &mut |_, _| Ok(())).map(|f| (memory, f)));
    if let (Ok((memory, found)), Some(text)) = (opened, unpacked.section(".text")) {
        assert_eq!(found.slide, SLIDE);
        group.bench_function("pvops: text read, moved back to where it was linked", |b| {
            b.iter(|| found.read(&memory, &unpacked, text.address..text.end()))
        });
        group.bench_function("limit: the same bytes read, as they are", |b| {
            b.iter(|| {
                let mut bytes = vec![0; text.size as usize];
                File::open(&path).and_then(|file| file.read_exact_at(&mut bytes, HEADERS + PHYSICAL)).map(|()| bytes)
            })
        });
    }
    group.finish();
    let _ = std::fs::remove_file(&path);
}

criterion_group!(benches, memory);
criterion_main!(benches);
