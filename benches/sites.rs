//! Opening an uncompressed vmlinux and listing its paravirt sites, decoded; planning and rewriting them.
//!
//! Beside each stands its limit, in the same run: walking the sites (decoding each, nothing else), copying `.text`, and
//! reading the whole file, which opening must not do. Needs `PVOPS_KERNELS`.
#![allow(missing_docs, clippy::expect_used)]

#[path = "../tests/kernels/mod.rs"]
mod kernels;

use std::hint::black_box;
use std::path::PathBuf;

use criterion::{Criterion, criterion_group, criterion_main};
use pvops::image::{Bits, Image};
use pvops::insn::{self, X86_NOPS};
use pvops::plan::paravirt::{self, NoRoom, Null, Pointer, Slot, Switch, TemplateRules};
use pvops::sites::{ParavirtTable, Site};

const RELEASE: &str = "6.1.0-56-amd64";

/// The unpacked image as a file of its own, removed in the end.
struct Unpacked(PathBuf);

impl Unpacked {
    fn new(image: &Image) -> Unpacked {
        let path = std::env::temp_dir().join(format!("pvops-bench-{}.vmlinux", std::process::id()));
        std::fs::write(&path, image.bytes()).expect("room for an unpacked kernel");
        Unpacked(path)
    }
}

impl Drop for Unpacked {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn bytes<'a>(image: &'a Image, site: &Site) -> &'a [u8] {
    &image.bytes()[site.offset as usize..][..usize::from(site.len)]
}

fn sites(c: &mut Criterion) {
    let Some(packed) = kernels::kernel(RELEASE) else { return };
    let file = Unpacked::new(&packed);

    let mut group = c.benchmark_group("open and list 6.1 amd64 (66 MB vmlinux)");
    group.bench_function("pvops: open, read the table, decode every site", |b| {
        b.iter(|| {
            let image = Image::open(&file.0).expect("it opens");
            let table = ParavirtTable::read(&image).expect("valid").expect("there");
            black_box(table.sites.len())
        });
    });
    group.bench_function("limit: read the file", |b| b.iter(|| black_box(std::fs::read(&file.0).expect("readable"))));
    group.finish();

    let image = Image::open(&file.0).expect("it opens");
    let table = ParavirtTable::read(&image).expect("valid").expect("there");
    let called = Slot { pointer: Pointer::Function(0xffff_ffff_8100_0000), jump: false, switch: Switch::Default };
    let template = vec![called; 256];
    let rules =
        TemplateRules { bits: Bits::B64, nops: &X86_NOPS, call_clobbers: None, null: Null::Ud2, no_room: NoRoom::Bug };
    let text = image.section(".text").expect(".text").clone();
    let mut out = image.section_bytes(&text).to_vec();

    let mut group = c.benchmark_group("plan and rewrite 3,848 sites");
    group.bench_function("pvops: decide, and write every site", |b| {
        b.iter(|| {
            for site in table.sites.iter().filter(|site| text.contains(site.address)) {
                let at = (site.address - text.address) as usize;
                let code = &mut out[at..at + usize::from(site.len)];
                code.copy_from_slice(bytes(&image, site));
                let slot = &template[usize::from(site.op_type)];
                paravirt::patch_site(slot, &rules, 0, site.address, code).expect("no BUG");
            }
            black_box(&out);
        });
    });
    group.bench_function("limit: walk the sites, decoding each", |b| {
        b.iter(|| {
            for site in &table.sites {
                black_box(insn::memory_branch(Bits::B64, site.address, bytes(&image, site)));
            }
        });
    });
    group.bench_function("limit: copy .text", |b| b.iter(|| black_box(image.section_bytes(&text).to_vec())));
    group.finish();
}

criterion_group!(benches, sites);
criterion_main!(benches);
