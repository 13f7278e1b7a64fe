//! All passes of a boot, from a mapped image to patched text (`PVOPS_KERNELS`).
//!
//! Limit: 30 ms for Debian's 6.1 amd64, some 90,000 writes over 14.7 MB. Copying the text alone is what it is compared to.

#![allow(missing_docs, clippy::expect_used)] // criterion_group! documents nothing

use std::path::PathBuf;

use criterion::{Criterion, criterion_group, criterion_main};
use pvops::image::Image;
use pvops::insn::{X86_11_NOPS, X86_NOPS};
use pvops::patch;
use pvops::plan::paravirt::{self, NoRoom, Null, Pointer, Slot, Switch};
use pvops::plan::{self, Boot, LoadedCode, Paravirt, Rules};
use pvops::sites::Tables;

fn boot(image: &Image, tables: &Tables) -> Boot {
    let mut boot = Boot {
        features: vec![0; 26],
        retpoline: Some(11 * 32 + 12),
        rethunk: Some(11 * 32 + 14),
        nops: &X86_11_NOPS,
        ..Boot::default()
    };
    if let Some(table) = &tables.paravirt {
        boot.nops = &X86_NOPS;
        let base = table.ops_address(image.bits()).expect("one address of ops");
        let last = table.sites.iter().map(|s| s.op_type).max().unwrap_or(0);
        let slot = |i: u64| {
            let pointer = match image.read_word(base + 8 * i) {
                None | Some(0) => Pointer::Null,
                Some(function) => Pointer::Function(function),
            };
            Slot { pointer, jump: false, switch: Switch::Default }
        };
        let rules = paravirt::TemplateRules {
            bits: image.bits(),
            nops: &X86_NOPS,
            call_clobbers: None,
            null: Null::Ud2,
            no_room: NoRoom::Bug,
        };
        boot.paravirt = Some(Paravirt { template: (0..=u64::from(last)).map(slot).collect(), rules });
    }
    boot
}

fn all(c: &mut Criterion) {
    let Some(root) = std::env::var_os("PVOPS_KERNELS") else {
        eprintln!("skipped: PVOPS_KERNELS is not set");
        return;
    };
    for (release, era) in [("6.1.0-56-amd64", "6.1"), ("6.12.117+deb12-amd64", "6.12"), ("7.2.13+deb14-amd64", "7.2")] {
        let path = PathBuf::from(&root).join(format!("kernels/vmlinuz-{release}"));
        let image = Image::open(&path).expect("a real kernel opens");
        image.symbols().expect("symbols");
        let tables = Tables::read(&image).expect("real tables are valid");
        let (boot, rules) = (boot(&image, &tables), Rules::by_name(era).expect("rules"));
        let plan = plan::boot(&image, &tables, &boot, rules).expect("a plan");
        eprintln!("{release}: {} rows", plan.writes().len());
        let mut group = c.benchmark_group(format!("boot {release}"));
        group.sample_size(30);
        group.bench_function("pvops: all of it", |b| {
            b.iter(|| {
                let tables = Tables::read(&image).expect("real tables are valid");
                let plan = plan::boot(&image, &tables, &boot, rules).expect("a plan");
                patch::text(&image, &plan)
            });
        });
        group.bench_function("pvops: read the tables", |b| b.iter(|| Tables::read(&image)));
        group.bench_function("pvops: plan", |b| b.iter(|| plan::boot(&image, &tables, &boot, rules)));
        group.bench_function("pvops: apply", |b| b.iter(|| patch::text(&image, &plan)));
        group.bench_function("limit: copy the code", |b| b.iter(|| LoadedCode::of(&image)));
        group.finish();
    }
}

criterion_group!(benches, all);
criterion_main!(benches);
