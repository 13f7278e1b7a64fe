//! Unpacking kernels, MB/s of unpacked bytes: [`Image::open`] against the command-line tool on the bare payload.
//!
//! Kernels are those in `$PVOPS_KERNELS/kernels`; one of them is packed anew as lz4, which none at hand uses. Both sides
//! start from a file in the page cache; the tools write to `/dev/null` and pay for a process, as their users do.

use std::fs;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use criterion::{Criterion, Throughput};
use pvops::image::{Compression, ContainerKind, Image};

#[path = "../tests/kernels/mod.rs"]
mod kernels;
#[path = "../tests/elfwriter/pack.rs"]
#[expect(clippy::unwrap_used, reason = "packs what the tests trust")]
mod pack;

/// A directory that goes away with its owner.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let scratch = Scratch(std::env::temp_dir().join(format!("pvops-bench-unpack-{}", std::process::id())));
    fs::create_dir_all(&scratch.0)?;
    let mut criterion = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(5))
        .configure_from_args();
    let kernels = kernels::kernels();
    for path in &kernels {
        let image = Image::open(path)?;
        compare(&mut criterion, &scratch.0, path, &image)?;
    }
    if let Some(path) = kernels.iter().rev().find(|path| path.to_string_lossy().contains("6.1.0")).or(kernels.last()) {
        let image = Image::open(path)?;
        let elf = scratch.0.join(format!("vmlinux-{}", image.release().unwrap_or("unknown")));
        fs::write(&elf, image.bytes())?;
        mapped(&mut criterion, &elf)?;
        let repacked = scratch.0.join(format!("{}-lz4", elf.file_name().unwrap_or_default().to_string_lossy()));
        fs::write(&repacked, pack::bzimage(&pack::payload(Compression::Lz4, image.bytes())))?;
        let image = Image::open(&repacked)?;
        compare(&mut criterion, &scratch.0, &repacked, &image)?;
    }
    criterion.final_summary();
    Ok(())
}

/// Unpacks one kernel with this crate and with the tool for its compression, side by side.
fn compare(criterion: &mut Criterion, scratch: &Path, path: &Path, image: &Image) -> std::io::Result<()> {
    let container = image.container();
    let (Some(compression), ContainerKind::BzImage) = (container.compression, container.kind) else { return Ok(()) };
    let file = fs::read(path)?;
    let start = usize::try_from(container.payload_offset).unwrap_or(usize::MAX);
    let length = usize::try_from(container.payload_size).unwrap_or(usize::MAX);
    let payload = scratch.join("payload");
    fs::write(&payload, file.get(start..).and_then(|rest| rest.get(..length)).unwrap_or_default())?;

    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let mut group = criterion.benchmark_group(format!("{name} {container}"));
    group.throughput(Throughput::Bytes(container.unpacked_size));
    group.bench_function("pvops", |bencher| {
        bencher.iter(|| black_box(Image::open(path).map(|image| image.bytes().len())))
    });
    let tool = compression.name();
    if unpack_with(tool, &payload).is_ok_and(|done| done) {
        group.bench_function(format!("{tool} -dc"), |bencher| bencher.iter(|| unpack_with(tool, &payload)));
    } else {
        eprintln!("missing: {tool}: not installed, or it does not unpack the payload of {name}");
    }
    group.finish();
    Ok(())
}

fn unpack_with(tool: &str, payload: &Path) -> std::io::Result<bool> {
    let input = fs::File::open(payload)?;
    let status = Command::new(tool).arg("-dc").stdin(input).stdout(Stdio::null()).stderr(Stdio::null()).status()?;
    Ok(status.success())
}

/// Opening an ELF file that is not packed: it is mapped, so this is the price of the headers.
fn mapped(criterion: &mut Criterion, path: &Path) -> std::io::Result<()> {
    let mut group = criterion.benchmark_group("vmlinux elf");
    group.bench_function("pvops", |bencher| {
        bencher.iter(|| black_box(Image::open(path).map(|image| image.sections().len())))
    });
    // What a tool that reads instead of mapping pays before it has seen a byte.
    group.bench_function("limit: read the file", |bencher| {
        bencher.iter(|| black_box(fs::read(path).map(|bytes| bytes.len())))
    });
    group.finish();
    Ok(())
}
