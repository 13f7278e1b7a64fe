//! What is no kernel, or none that can be opened, is named for what it is.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod elfwriter;

use elfwriter::{ElfWriter, flags, pack};
use pvops::image::{Bits, Compression, Image};

const TEXT: u64 = 0xffff_ffff_8100_0000;
const RODATA: u64 = 0xffff_ffff_8200_0000;
const BANNER: &str = "Linux version 6.1.0-test (a@b) (gcc 12) #1 SMP 2026";

fn refusal(bytes: Vec<u8>) -> String {
    Image::from_bytes("test", bytes).expect_err("should not open").to_string()
}

/// libkrunfw is a library with a kernel among its data; libc's .tbss begins where its next section does.
#[test]
fn a_library_that_carries_a_kernel_is_none_itself() {
    const THREADS: u64 = 0x400;
    let library = |banner: &str| {
        ElfWriter::new(Bits::B64)
            .section(".text", 0x1000, flags::TEXT, &[0xc3; 64])
            .nobits(".tbss", 0x3000, flags::DATA | THREADS, 128)
            .section(".data", 0x3000, flags::DATA, banner.as_bytes())
            .build()
    };
    let refused = "is a program or a library that carries Linux 6.1.0-test, and no kernel itself: nothing in it is linked \
                   where kernels are: give the vmlinux";
    assert!(refusal(library(&format!("{BANNER}\n\0"))).ends_with(refused));
    assert_eq!(Image::from_bytes("test", library("none")).unwrap().section_at(0x3002).unwrap().name, ".data");
}

#[test]
fn what_is_no_x86_kernel_is_named() {
    let text = |writer: ElfWriter| writer.section(".text", TEXT, flags::TEXT, &[0x90]).build();
    let banner = b"Linux version 2.4.27-2-386 (a@b) (gcc version 3.3.5) #1 Mon May 16\n\0";
    let old = || text(ElfWriter::new(Bits::B64).section(".rodata", RODATA, flags::RODATA, banner));
    let mut broken = pack::raw_bzimage("2.4.37.11 (a@b)");
    let at = memchr::memmem::rfind(&broken, b"\x1f\x8b\x08").unwrap();
    broken[at + 10..at + 20].fill(0xff);
    let named = |release: &str, payload: &[u8], length| {
        let mut file = pack::bzimage_with(payload, 0x20f, 0x40, length);
        file[0x20e..0x210].copy_from_slice(&0x100u16.to_le_bytes());
        file[0x300..0x300 + release.len()].copy_from_slice(release.as_bytes());
        file
    };
    let at = |offset: usize, magic: &[u8], kernel: &[u8]| {
        let mut file = vec![0; 0x9000];
        file[offset..offset + magic.len()].copy_from_slice(magic);
        [file.as_slice(), kernel].concat()
    };
    let held = named("5.10.0-46-amd64", &[1; 64], 64);
    let mut uki = pack::unified(&held);
    uki.truncate(pack::UNIFIED_AT + 100);
    let uboot = |arch: u8| {
        let mut file = at(0, &[0x27, 0x05, 0x19, 0x56], &held);
        file[29] = arch;
        file
    };
    let cut = &pack::compress(Compression::Gzip, &text(ElfWriter::new(Bits::B64)))[..64];
    let pretending = |mut file: Vec<u8>| {
        file[..4].copy_from_slice(b"\x7fELF");
        file
    };
    for (file, said) in [
        (text(ElfWriter::new(Bits::B64).machine(183)), "machine 183 (arm64)"),
        (text(ElfWriter::new(Bits::B64).file_type(4)), "a memory dump"),
        (text(ElfWriter::new(Bits::B64).machine(3)), "class 2 does not fit machine 3"),
        (b"MZ\0\0zimg".to_vec(), "EFI zboot"),
        (b"hello".to_vec(), "neither an ELF file"),
        (Vec::new(), "is empty"),
        (pack::compress(Compression::Gzip, b"hello"), "payload (offset 0x0): does not hold an ELF file"),
        (pack::bzimage_with(&[1; 4096], 0x204, 0, 0), "boot protocol 2.04 does not say"),
        (pack::bzimage_with(&pack::compress(Compression::Gzip, &[0xfa; 4096]), 0x204, 0, 0), "before 2.6.26"),
        (pack::raw_bzimage("2.4.20-x (a@b)"), "2.4.20-x is not known: known are 2.6.20 and later"),
        (pack::raw_bzimage("2.6.19"), "2.6.19 is not known"),
        (pack::raw_bzimage("Memtest86+ v6.10"), "but names itself Memtest86+ v6.10, which is no release of Linux"),
        (pack::raw_bzimage("MEMDISK 6.04 20200816"), "but names itself MEMDISK 6.04 20200816, which is no release"),
        (pack::raw_bzimage("1.21.1+git20250501"), "but names itself 1.21.1+git20250501, which is no release of Linux"),
        (pretending(pack::raw_bzimage("2.6.18-398.el5")), "2.6.18-398.el5 is not known: known are 2.6.20 and later"),
        (pretending(pack::raw_bzimage("2.6.20-1.fc6")), "2.6.20-1.fc6, packed as a raw binary, which has no section"),
        (named("4.0.0-lego", &[0xfa; 4096], 0), "4.0.0-lego, packed as a raw binary, which has no section tables"),
        (named("5.4.0", cut, 64), "(the kernel is 5.4.0)"),
        (named("6.1.0", cut, 0x10000), "leaves the file of 2688 bytes (the kernel is 6.1.0)"),
        (broken, "2.4.37.11 is not known: known are 2.6.20 and later"),
        (old(), "test: 2.4.27-2-386 is not known: known are 2.6.20 and later"),
        (pack::compress(Compression::Gzip, &old()), "2.4.27-2-386 is not known"),
        (
            at(0x8001, b"CD001", &held),
            "an ISO image, not a kernel: give the kernel in it (5.10.0-46-amd64 at offset 0x9000)",
        ),
        (at(0, b"ANDROID!", &[held.clone(), held.clone()].concat()), "at offset 0x9000, 5.10.0-46-amd64 at offset 0x"),
        (at(0x1fe, b"\x55\xaa", &held), "(5.10.0-46-amd64 at offset 0x9000)"),
        (uboot(2), "a U-Boot image for a machine that is no x86"),
        (uboot(3), "a U-Boot image, not a kernel: give the kernel in it (5.10.0-46-amd64 at offset 0x9000)"),
        (uki, ".linux (offset 0x600): 2688 bytes leave the file of 1636 bytes (a unified kernel image)"),
        (pack::unified(b"hello"), "neither an ELF file, nor a bzImage"),
        (
            pack::unified(&held),
            "payload (offset 0xe40): is in no compression the kernel supports (the kernel is 5.10.0-46",
        ),
        (at(0, b"MZ", &[]), "a PE file with neither a kernel's setup header nor a kernel in a section .linux"),
        (pack::raw_bzimage("2.6.20-16"), "2.6.20-16, packed as a raw binary, which has no section tables: give its vm"),
    ] {
        let message = refusal(file);
        assert!(message.starts_with("test: ") && message.contains(said), "{message}");
    }
    let mut big_endian = text(ElfWriter::new(Bits::B64));
    big_endian[5] = 2;
    assert!(refusal(big_endian).contains("big-endian"));
}

#[test]
fn a_kernel_of_user_mode_linux_patches_nothing() {
    let banner = [BANNER.as_bytes(), b"\n\0"].concat();
    let process = |bits, text| {
        let writer = ElfWriter::new(bits).section(".text", text, flags::TEXT, &[0x90; 64]);
        let writer = writer.section(".rodata", text + 0x1000, flags::RODATA, &banner);
        writer.section(".uml.setup.init", text + 0x2000, flags::RODATA, &[0; 16])
    };
    for (bits, text) in [(Bits::B64, 0x6002_a520), (Bits::B32, 0x0804_9000)] {
        let message = refusal(process(bits, text).build());
        let said = "test: is User Mode Linux 6.1.0-test, which runs as a process and patches none of its text";
        assert_eq!(message, said);
    }
}

#[test]
fn sections_that_share_an_address_are_named() {
    let message = refusal(
        ElfWriter::new(Bits::B64)
            .section(".rodata", TEXT + 63, flags::RODATA, &[0; 8])
            .section(".text", TEXT, flags::TEXT, &[0x90; 64])
            .build(),
    );
    assert!(message.starts_with("test: .text (0xffffffff81000000, offset 0x"), "{message}");
    assert!(message.ends_with("overlaps .rodata (0xffffffff8100003f, 8 bytes)"), "{message}");
}

#[test]
fn a_file_of_a_terabyte_is_refused_at_once() {
    let path = std::env::temp_dir().join(format!("pvops-terabyte-{}", std::process::id()));
    for begins in [b"no kernel".to_vec(), pack::bzimage(b"in no compression")] {
        std::fs::write(&path, begins).unwrap();
        std::fs::File::options().write(true).open(&path).unwrap().set_len(1 << 40).unwrap();
        let refused = Image::open(&path);
        std::fs::remove_file(&path).unwrap();
        assert!(refused.is_err());
    }
}
