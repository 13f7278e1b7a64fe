//! The list of modules in memory: read as the kernel keeps it, refused where it is broken, whatever memory says.
#![allow(clippy::unwrap_used)]

mod elfwriter;
mod memory_support;
mod symbols_support;

use elfwriter::{ElfWriter, flags};
use memory_support::{BANNER, TEXT, noise};
use pvops::Result;
use pvops::image::{Bits, Blocks, Image};
use pvops::memory::{LoadedModule, Memory, Reader, modules};
use symbols_support::btf::Builder;

const RODATA: u64 = TEXT + 0x20_0000;
const HEAD: u64 = TEXT + 0x40_0000;
const FIRST: u64 = 0xffff_ffff_c000_1000;
const SECOND: u64 = 0xffff_ffff_c000_9000;
/// Offsets in the `struct module` of these tests, and its size.
const LIST: usize = 8;
const NAME: usize = 24;
const PERCPU: usize = 80;
const PARTS: usize = 96;
const SIZE: usize = 0x100;

/// How a kernel of this time describes a module's memory.
#[derive(Clone, Copy, PartialEq)]
enum Time {
    /// Up to 6.3.
    Core,
    /// Since 6.4.
    Apart,
}

fn btf(time: Time) -> Vec<u8> {
    let mut b = Builder::default();
    let (int, pointer) = (b.int("unsigned int", 4), b.pointer(0));
    let bits = |bytes: usize| 8 * bytes as u32;
    let list = b.structure("list_head", 16, &[("next", pointer, 0), ("prev", pointer, 64)]);
    let character = b.int("char", 1);
    let name = b.array(character, 56);
    let (member, parts) = match time {
        Time::Core => {
            let members = [("base", pointer, 0), ("size", int, 64), ("text_size", int, 96)];
            ("core_layout", b.structure("module_layout", 16, &members))
        }
        Time::Apart => {
            let memory = b.structure("module_memory", 24, &[("base", pointer, 0), ("size", int, 128)]);
            ("mem", b.array(memory, 7))
        }
    };
    let members = [
        ("state", int, 0),
        ("list", list, bits(LIST)),
        ("name", name, bits(NAME)),
        ("percpu", pointer, bits(PERCPU)),
        (member, parts, bits(PARTS)),
    ];
    b.structure("module", SIZE as u32, &members);
    b.finish(None)
}

fn image(time: Time) -> Image {
    let mut rodata = noise(2, 0x1000);
    rodata[..BANNER.len() + 1].copy_from_slice(format!("{BANNER}\0").as_bytes());
    let file = ElfWriter::new(Bits::B64)
        .section(".text", TEXT, flags::TEXT, &noise(1, 0x1000))
        .section(".rodata", RODATA, flags::RODATA, &rodata)
        .section(".BTF", RODATA + 0x1000, flags::RODATA, &btf(time))
        .nobits(".data", HEAD, flags::DATA, 0x1000)
        .symbol("modules", HEAD, 16, 'D')
        .build();
    Image::from_bytes("vmlinux", file).unwrap()
}

/// Virtual memory in pieces.
#[derive(Clone)]
struct Pieces(Vec<(u64, Vec<u8>)>);

impl Reader for Pieces {
    fn read(&self, address: u64, buffer: &mut [u8]) -> Result<bool> {
        for (start, bytes) in &self.0 {
            let at = usize::try_from(address.wrapping_sub(*start)).unwrap();
            if let Some(found) = at.checked_add(buffer.len()).and_then(|end| bytes.get(at..end)) {
                buffer.copy_from_slice(found);
                return Ok(true);
            }
        }
        Ok(false)
    }
}

impl Pieces {
    fn put(&mut self, address: u64, bytes: &[u8]) {
        let (start, piece) =
            self.0.iter_mut().find(|(start, piece)| (*start..*start + piece.len() as u64).contains(&address)).unwrap();
        piece[(address - *start) as usize..][..bytes.len()].copy_from_slice(bytes);
    }

    fn word(&mut self, address: u64, value: u64) {
        self.put(address, &value.to_le_bytes());
    }

    /// A `struct module` between two others.
    fn module(&mut self, time: Time, address: u64, name: &str, next: u64, previous: u64) {
        self.0.push((address, vec![0; 0x1000]));
        self.word(address + LIST as u64, next);
        self.word(address + LIST as u64 + 8, previous);
        self.put(address + NAME as u64, name.as_bytes());
        self.word(address + PERCPU as u64, 0x1234);
        let parts = address + PARTS as u64;
        match time {
            Time::Core => {
                self.word(parts, address & !0xfff);
                self.word(parts + 8, 0x1000 << 32 | 0x4000);
            }
            Time::Apart => {
                for kind in 0..4 {
                    self.word(parts + 24 * kind, (address & !0xfff) + 0x10_0000 * kind);
                    self.word(parts + 24 * kind + 16, 0x1000);
                }
            }
        }
    }
}

/// The kernel with two modules, each at `list` of the other.
fn memory(time: Time) -> Pieces {
    let mut rodata = noise(2, 0x1000);
    rodata[..BANNER.len() + 1].copy_from_slice(format!("{BANNER}\0").as_bytes());
    let mut pieces = Pieces(vec![(TEXT, noise(1, 0x1000)), (RODATA, rodata), (HEAD, vec![0; 16])]);
    let (first, second) = (FIRST + LIST as u64, SECOND + LIST as u64);
    pieces.word(HEAD, first);
    pieces.word(HEAD + 8, second);
    pieces.module(time, FIRST, "newest", second, HEAD);
    pieces.module(time, SECOND, "oldest", HEAD, first);
    pieces
}

fn listed(time: Time, pieces: Pieces) -> Result<Vec<LoadedModule>> {
    let image = image(time);
    let memory = Memory::from_reader("<read>", Box::new(pieces));
    let found = memory.find(&image, &mut |_, _| Ok(())).unwrap();
    modules(&memory, &found, &image)
}

/// What is said of a list in which this was changed.
fn refused(change: impl FnOnce(&mut Pieces)) -> String {
    let mut pieces = memory(Time::Core);
    change(&mut pieces);
    listed(Time::Core, pieces).unwrap_err().to_string()
}

#[test]
fn both_layouts_are_read_the_newest_first() {
    let core = listed(Time::Core, memory(Time::Core)).unwrap();
    assert_eq!(core.iter().map(|m| &m.name[..]).collect::<Vec<_>>(), ["newest", "oldest"]);
    assert_eq!((core[0].address, core[0].text, core[0].size), (FIRST, (FIRST, 0x1000), 0x4000));
    assert_eq!((core[1].blocks, core[1].percpu, core[1].live), (Blocks::Together(SECOND), Some(0x1234), true));
    let apart = listed(Time::Apart, memory(Time::Apart)).unwrap();
    assert_eq!((apart[1].text, apart[1].size), ((SECOND, 0x1000), 0x4000));
    // `enum mod_mem_type`: text, data, rodata, ro_after_init.
    let at = |kind: u64| SECOND + 0x10_0000 * kind;
    assert_eq!(apart[1].blocks, Blocks::Apart { text: at(0), data: at(1), rodata: at(2), ro_after_init: at(3) });
}

#[test]
fn no_module_is_a_list_too() {
    let mut pieces = memory(Time::Core);
    pieces.word(HEAD, HEAD);
    pieces.word(HEAD + 8, HEAD);
    assert_eq!(listed(Time::Core, pieces), Ok(Vec::new()));
}

#[test]
fn a_module_that_is_being_loaded_is_not_live() {
    let mut pieces = memory(Time::Core);
    pieces.word(FIRST, 1);
    assert!(!listed(Time::Core, pieces).unwrap()[0].live);
}

#[test]
fn a_circle_that_leaves_the_head_out_ends() {
    let told = refused(|pieces| pieces.word(SECOND + LIST as u64, FIRST + LIST as u64));
    assert_eq!(
        told,
        "<read>: (0xffffffffc0001000): the list of modules is broken behind oldest: it comes back to a module it has already"
    );
}

#[test]
fn wild_pointers_are_named_with_what_led_to_them() {
    for wild in [0, 1, LIST as u64, 0xdead_beef_0000_0000, u64::MAX, TEXT + 0x3fff_f000] {
        let told = refused(|pieces| pieces.word(FIRST + LIST as u64, wild));
        assert!(told.contains("broken behind newest: the next struct module could not be read"), "{wild:#x}: {told}");
        let told = refused(|pieces| pieces.word(HEAD, wild));
        assert!(told.contains("broken at its head"), "{wild:#x}: {told}");
    }
}

#[test]
fn a_module_has_to_point_back() {
    let told = refused(|pieces| pieces.word(SECOND + LIST as u64 + 8, HEAD));
    assert!(told.ends_with("broken behind newest: the next does not point back"), "{told}");
    // One that took itself out of the list in one direction only.
    let told = refused(|pieces| pieces.word(FIRST + LIST as u64, HEAD));
    assert!(told.ends_with("does not end where its head says"), "{told}");
}

#[test]
fn names_and_sizes_that_no_module_has() {
    for name in [&[0; 56][..], &[b'a'; 56], b"a b\0", b"\xff\0"] {
        let told = refused(|pieces| pieces.put(SECOND + NAME as u64, name));
        assert!(told.ends_with("broken behind newest: the next has no name"), "{told}");
    }
    for (base, sizes) in [(SECOND + 1, 0x1000 << 32 | 0x4000), (SECOND, 0x8000 << 32 | 0x4000), (SECOND, 0xffff_ffff)] {
        let told = refused(|pieces| {
            pieces.word(SECOND + PARTS as u64, base);
            pieces.word(SECOND + PARTS as u64 + 8, sizes);
        });
        assert!(told.contains("broken behind newest: oldest has"), "{told}");
    }
    let told = refused(|pieces| pieces.word(SECOND + PARTS as u64, 0xffff_ffff_ffff_f000));
    assert!(told.contains("oldest has"), "{told}");
}

#[test]
fn a_list_without_end_has_one() {
    let mut pieces = memory(Time::Core);
    let count = 5000;
    // One piece: a reader of many would be slow.
    let at = |i: u64| FIRST + (1 << 20) + i * SIZE as u64;
    pieces.0.insert(0, (at(0), vec![0; SIZE * count as usize]));
    for i in 0..count {
        let previous = if i == 0 { HEAD } else { at(i - 1) + LIST as u64 };
        let next = if i + 1 == count { HEAD } else { at(i + 1) + LIST as u64 };
        pieces.word(at(i) + LIST as u64, next);
        pieces.word(at(i) + LIST as u64 + 8, previous);
        pieces.put(at(i) + NAME as u64, b"many");
    }
    pieces.word(HEAD, at(0) + LIST as u64);
    pieces.word(HEAD + 8, at(count - 1) + LIST as u64);
    let told = listed(Time::Core, pieces).unwrap_err().to_string();
    assert!(told.ends_with("broken behind many: it has more modules than any kernel"), "{told}");
}

#[test]
fn an_image_without_symbols_says_so() {
    let file = ElfWriter::new(Bits::B64)
        .section(".text", TEXT, flags::TEXT, &noise(1, 0x1000))
        .section(".BTF", RODATA + 0x1000, flags::RODATA, &btf(Time::Core))
        .symbol("_text", TEXT, 0, 'T')
        .build();
    let image = Image::from_bytes("vmlinux", file).unwrap();
    let memory = Memory::from_reader("<read>", Box::new(Pieces(vec![(TEXT, noise(1, 0x1000))])));
    let found = memory.find(&image, &mut |_, _| Ok(())).unwrap();
    let told = modules(&memory, &found, &image).unwrap_err().to_string();
    assert!(told.contains("does not name its list of modules"), "{told}");
}

#[test]
fn without_types_modules_are_read_as_declared_but_for_their_per_cpu_data() {
    let file = ElfWriter::new(Bits::B64)
        .section(".text", TEXT, flags::TEXT, &noise(1, 0x1000))
        .nobits(".data", HEAD, flags::DATA, 0x1000)
        .symbol("modules", HEAD, 16, 'D')
        .build();
    let image = Image::from_bytes("vmlinux", file).unwrap();
    let listed = |change: &dyn Fn(&mut Pieces)| {
        let mut pieces = memory(Time::Core);
        change(&mut pieces);
        let memory = Memory::from_reader("<read>", Box::new(pieces));
        let found = memory.find(&image, &mut |_, _| Ok(())).unwrap();
        modules(&memory, &found, &image)
    };
    let found = listed(&|_| {}).unwrap();
    assert_eq!(found.iter().map(|m| &m.name[..]).collect::<Vec<_>>(), ["newest", "oldest"]);
    assert_eq!((found[0].text, found[0].size, found[0].percpu), ((FIRST, 0x1000), 0x4000, None));
    assert_eq!((found[1].blocks, found[1].live), (Blocks::Together(SECOND), true));
    // A module that lies where it cannot be: nothing is read as a module's memory that is not.
    let told = listed(&|pieces| pieces.word(SECOND + PARTS as u64, FIRST & !0xfff)).unwrap_err().to_string();
    assert!(told.contains("none of the layouts of struct module"), "{told}");
    let told = listed(&|pieces| pieces.word(FIRST + LIST as u64, 0x1000)).unwrap_err().to_string();
    assert!(told.contains("broken behind newest"), "{told}");
}
