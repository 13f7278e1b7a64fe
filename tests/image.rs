//! Opening kernels: real ones, and synthetic ones in every container.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod elfwriter;
mod kernels;

use elfwriter::{ElfWriter, flags, pack};
use pvops::image::{Bits, Compression, ContainerKind, Image};

const TEXT: u64 = 0xffff_ffff_8100_0000;
const RODATA: u64 = 0xffff_ffff_8200_0000;
const BSS: u64 = 0xffff_ffff_8300_0000;
const BANNER: &str = "Linux version 6.1.0-test (a@b) (gcc 12) #1 SMP 2026";

/// A small kernel with all that real ones surprise with: a per-CPU section at 0, one without bytes, relocations behind.
fn vmlinux() -> ElfWriter {
    let mut rodata = format!("Linux version %s\0{BANNER}\n\0").into_bytes();
    rodata.resize(5000, 7);
    ElfWriter::new(Bits::B64)
        .section(".text", TEXT, flags::TEXT, &text())
        .section(".rodata", RODATA, flags::RODATA, &rodata)
        .section(".data..percpu", 0, flags::DATA, &[1; 256])
        .nobits(".bss", BSS, flags::DATA, 1 << 20)
        .section(".comment", 0, 0, b"GCC\0")
        .symbol("_text", TEXT, 0, 'T')
        .symbol("helper", TEXT + 16, 8, 't')
        .symbol("banner", RODATA, 4, 'R')
        .symbol("hole", BSS + 8, 8, 'b')
        .symbol("weak_one", TEXT + 32, 8, 'W')
        .symbol("phys_base", 0x100_0000, 0, 'A')
        .symbol("elsewhere", 0, 0, 'U')
        .trailer(&[0, 0, 0, 0, 1, 2, 3, 4])
}

/// Calls whose targets the x86 filter rewrites, and bytes that do not compress well.
fn text() -> Vec<u8> {
    let mut state = 1u32;
    let noise = std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    });
    let mut bytes: Vec<u8> = noise.take(300_000).collect();
    for at in (0..200_000).step_by(16) {
        bytes[at] = 0xe8;
        bytes[at + 1..at + 5].copy_from_slice(&(200_000 - at as u32).to_le_bytes());
    }
    bytes
}

fn open(bytes: Vec<u8>) -> Image {
    Image::from_bytes("test", bytes).unwrap_or_else(|error| panic!("{error}"))
}

fn refusal(bytes: Vec<u8>) -> String {
    Image::from_bytes("test", bytes).expect_err("should not open").to_string()
}

#[test]
fn an_elf_file_is_an_address_space() {
    let image = open(vmlinux().build());
    assert_eq!((image.bits(), image.name(), image.container().to_string().as_str()), (Bits::B64, "test", "elf"));
    let names: Vec<&str> = image.sections().iter().map(|section| section.name.as_str()).collect();
    assert_eq!(names, [".text", ".rodata", ".data..percpu", ".bss", ".comment", ".symtab", ".strtab", ".shstrtab"]);
    let text_section = image.section(".text").unwrap();
    assert!(text_section.executable && text_section.allocated && !text_section.writable);
    assert_eq!(image.section_bytes(text_section), text());
    assert_eq!(image.read(TEXT + 16, 5).unwrap(), &text()[16..21]);
    assert_eq!(image.read_word(0), Some(0x0101_0101_0101_0101));
    assert_eq!(image.section_at(255).unwrap().name, ".data..percpu");
    assert_eq!(image.section_at(256), None);
    assert_eq!(image.section_at(BSS + 5).unwrap().name, ".bss");
    assert_eq!(image.read(BSS, 1), None, "no bytes to read");
    assert_eq!(image.read(TEXT + 299_999, 2), None, "beyond the section");
    assert!(image.section_bytes(image.section(".bss").unwrap()).is_empty());
    assert_eq!(image.trailer(), [0, 0, 0, 0, 1, 2, 3, 4]);
    assert_eq!(image.banner(), Some(BANNER));
    assert_eq!(image.release(), Some("6.1.0-test"));
    assert_eq!(image.config().unwrap(), None);
}

#[test]
fn symbols_have_the_letters_of_nm() {
    for bits in [Bits::B32, Bits::B64] {
        let text = 0xc100_0000;
        let image = open(
            ElfWriter::new(bits)
                .section(".text", text, flags::TEXT, &[0x90; 64])
                .section(".data", text + 0x1000, flags::DATA, &[0; 64])
                .symbol("start", text, 4, 'T')
                .symbol("local", text + 4, 4, 't')
                .symbol("weak", text + 8, 4, 'W')
                .symbol("data", text + 0x1000, 4, 'D')
                .symbol("absolute", 5, 0, 'A')
                .symbol("undefined", 0, 0, 'U')
                .build(),
        );
        let symbols: Vec<_> = image.elf_symbols().map(Result::unwrap).collect();
        let short: Vec<_> = symbols.iter().map(|s| (s.name, s.address, s.size, s.kind)).collect();
        assert_eq!(
            short,
            [
                ("start", text, 4, 'T'),
                ("local", text + 4, 4, 't'),
                ("weak", text + 8, 4, 'W'),
                ("data", text + 0x1000, 4, 'D'),
                ("absolute", 5, 0, 'A'),
            ]
        );
    }
    assert_eq!(open(ElfWriter::new(Bits::B32).build()).elf_symbols().count(), 0);
}

#[test]
fn every_compression_opens_in_every_container() {
    let elf = vmlinux().build();
    for compression in Compression::ALL {
        let payload = pack::payload(compression, &elf);
        for (file, kind, offset) in [
            (pack::compress(compression, &elf), ContainerKind::Stream, 0),
            (payload.clone(), ContainerKind::Stream, 0),
            (pack::bzimage(&payload), ContainerKind::BzImage, 0x840),
            (pack::unified(&pack::bzimage(&payload)), ContainerKind::BzImage, pack::UNIFIED_AT as u64 + 0x840),
            (pack::compress(Compression::Gzip, &pack::bzimage(&payload)), ContainerKind::BzImage, 0),
        ] {
            let image = open(file);
            assert!(image.bytes() == elf, "{compression}: other bytes");
            let container = image.container();
            assert_eq!((container.kind, container.compression), (kind, Some(compression)));
            assert_eq!((container.payload_offset, container.unpacked_size), (offset, elf.len() as u64));
            assert_eq!(container.protocol, (kind == ContainerKind::BzImage).then_some((2, 15)));
            let name = if compression == Compression::Xz { "xz+bcj" } else { compression.name() };
            assert_eq!(container.to_string(), name);
        }
    }
    assert_eq!(open(pack::xz(&elf, false)).container().to_string(), "xz");
}

#[test]
fn a_payload_is_found_where_the_header_is_old_or_lies() {
    let elf = vmlinux().build();
    for compression in Compression::ALL {
        let payload = pack::payload(compression, &elf);
        let length = payload.len() as u32;
        for (version, offset, length) in [
            (0x204, 0, 0),
            (0x20f, 0x80_0000, length),
            (0x20f, 0x40, u32::MAX),
            (0x20f, 0x10, length),
            (0x20f, 0x40, 0),
        ] {
            let mut file = pack::bzimage_with(&payload, version, offset, length);
            // RHEL 5's bzImages begin as an ELF file does.
            if version == 0x204 {
                file[..4].copy_from_slice(b"\x7fELF");
            }
            let image = open(file);
            assert!(image.bytes() == elf, "{compression} {version:#x} {offset:#x} {length:#x}");
            assert_eq!(image.container().payload_offset, 0x840);
        }
    }
}

#[test]
fn the_program_that_unpacks_a_kernel_is_opened_as_the_kernel() {
    let elf = vmlinux().build();
    for (name, before) in [(".rodata..compressed", 0), (".rodata.compressed", 4), (".data.compressed", 4)] {
        for compression in Compression::ALL {
            let payload = [vec![0x11; before], pack::payload(compression, &elf)].concat();
            let program = ElfWriter::new(Bits::B64)
                .section(".head.text", 0, flags::TEXT, &[0xfc; 512])
                .section(name, 0x1000, flags::RODATA, &payload)
                .section(".text", 0x90_0000, flags::TEXT, &[0x90; 4096])
                .build();
            let image = open(program);
            assert!(image.bytes() == elf, "{name}, {compression}");
            assert_eq!(image.container().compression, Some(compression));
        }
        let program = ElfWriter::new(Bits::B64).section(name, 0x1000, flags::RODATA, &[7; 4096]);
        assert_eq!(open(program.build()).container().kind, ContainerKind::Elf, "what holds no kernel is what it is");
    }
}

#[test]
fn an_image_comes_through_a_pipe_and_from_a_file() {
    let elf = vmlinux().build();
    let file = pack::bzimage(&pack::payload(Compression::Zstd, &elf));
    let image = Image::from_reader("<stdin>", &mut file.as_slice()).unwrap();
    assert!(image.bytes() == elf);
    let path = std::env::temp_dir().join(format!("pvops-image-{}", std::process::id()));
    std::fs::write(&path, &elf).unwrap();
    let image = Image::open(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    assert!(image.bytes() == elf);
    let error = Image::open(&path).unwrap_err();
    assert_eq!((error.kind, error.place.file), (pvops::ErrorKind::Io, Some(path.display().to_string())));
}

#[test]
fn without_section_headers_segments_are_read() {
    let image = open(vmlinux().without_section_headers().build());
    assert!(image.sections().is_empty());
    assert_eq!(image.read(TEXT + 16, 5).unwrap(), &text()[16..21]);
    assert_eq!(image.read(BSS, 1), None);
    assert_eq!(image.banner(), Some(BANNER));
}

#[test]
fn streams_that_follow_each_other_are_one() {
    let elf = vmlinux().build();
    let (first, second) = elf.split_at(elf.len() / 2);
    for compression in [Compression::Gzip, Compression::Xz, Compression::Zstd, Compression::Bzip2] {
        let packed = [pack::compress(compression, first), pack::compress(compression, second)].concat();
        assert!(open(packed.clone()).bytes() == elf, "{compression}");
        assert!(open([packed.as_slice(), &[0; 40]].concat()).bytes() == elf, "{compression}: zeros behind are padding");
        let message = refusal([packed.as_slice(), b"hello"].concat());
        assert!(message.contains(&format!("5 bytes follow the {compression} data")), "{message}");
    }
}

#[test]
fn a_kernel_cut_short_or_without_section_headers_is_refused() {
    let elf = vmlinux().build();
    let headers = u64::from_le_bytes(elf[40..48].try_into().unwrap()) as usize;
    let message = refusal(elf[..headers + 8].to_vec());
    assert!(message.contains("section headers at") && message.contains("leave the file of"), "{message}");
    assert!(message.ends_with(&format!("(the kernel is {})", open(elf).release().unwrap())), "{message}");
    let image = open(vmlinux().without_section_headers().build());
    let message = pvops::sites::Tables::read(&image).map(|_| ()).unwrap_err().to_string();
    assert!(
        message.ends_with("has no section headers, which say where its tables are: give the vmlinux as it was built")
    );
}

#[test]
fn an_embedded_configuration_is_found() {
    let packed = pack::compress(Compression::Gzip, b"CONFIG_PARAVIRT=y\n");
    let rodata = [b"....IKCFG_ST", packed.as_slice(), b"IKCFG_ED"].concat();
    let image = open(ElfWriter::new(Bits::B64).section(".rodata", RODATA, flags::RODATA, &rodata).build());
    assert_eq!(image.config().unwrap().as_deref(), Some("CONFIG_PARAVIRT=y\n"));
}

#[test]
fn a_wrong_size_behind_the_payload_is_an_error() {
    let elf = vmlinux().build();
    for compression in Compression::ALL.into_iter().filter(|&compression| compression != Compression::Gzip) {
        for lie in [0, 1, elf.len() as u32 - 1, u32::MAX] {
            let mut payload = pack::compress(compression, &elf);
            payload.extend_from_slice(&lie.to_le_bytes());
            let message = refusal(pack::bzimage(&payload));
            let said = format!("payload says that it unpacks to {lie} bytes, but it is {}", elf.len());
            assert!(message.contains(&said), "{compression}: {message}");
        }
        let mut payload = pack::payload(compression, &elf);
        payload.extend_from_slice(&[1; 9]);
        refusal(pack::bzimage(&payload));
    }
}

#[test]
fn a_bomb_ends_in_an_error() {
    // It begins as an ELF file does, or it would not be unpacked beyond its first bytes.
    let mut bomb = vmlinux().build();
    bomb.resize(16 << 20, 0);
    for compression in Compression::ALL {
        for file in [pack::compress(compression, &bomb), pack::bzimage(&pack::payload(compression, &bomb))] {
            let error = Image::from_bytes_at_most("bomb", file, 4 << 20).unwrap_err().to_string();
            assert!(error.contains("payload") && error.contains("is larger than 4194304 bytes"), "{error}");
        }
    }
}

#[test]
fn real_kernels_open() {
    for path in kernels::kernels() {
        let image = Image::open(&path).unwrap_or_else(|error| panic!("{error}"));
        let file_name = path.file_name().unwrap().to_string_lossy().into_owned();
        let release = image.release().unwrap_or_else(|| panic!("{file_name}: no banner"));
        assert_eq!(file_name, format!("vmlinuz-{release}"));
        let container = image.container();
        assert_eq!(container.kind, ContainerKind::BzImage);
        assert_eq!(container.unpacked_size, image.bytes().len() as u64);
        assert_eq!(container.bcj, container.compression == Some(Compression::Xz));
        let text = image.section(".text").unwrap();
        assert!(text.executable && text.bits_present && text.size > 1 << 20);
        let base = if image.bits() == Bits::B64 { TEXT } else { 0xc100_0000 };
        assert_eq!(text.address, base, "{file_name}");
        for name in [".rodata", ".data", ".init.text", ".altinstructions", ".bss"] {
            assert!(image.section(name).is_some(), "{file_name}: no {name}");
        }
        let segments: u64 = image.segments().iter().map(|segment| segment.file_size).sum();
        assert!(segments > text.size && segments <= image.bytes().len() as u64);
        assert_eq!(image.config().unwrap(), None);
        assert_eq!(image.elf_symbols().count(), 0);
        pvops::image::exercise::open(image.bytes());
    }
}
