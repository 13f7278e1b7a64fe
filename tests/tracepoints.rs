//! A tracepoint's key and call are told by its list of functions too: text and data that were changed alike are found.
#![allow(clippy::unwrap_used)]

mod elfwriter;
mod memory_support;
mod symbols_support;
mod verify_support;

use elfwriter::{ElfWriter, flags};
use memory_support::{TEXT, noise, read_from, rodata};
use pvops::Result;
use pvops::image::{Bits, Image};
use pvops::memory::{Memory, Reader};
use pvops::verify::{Heard, Known, Slots, Unknown, Vote, hear};
use symbols_support::btf::Builder;
use verify_support::made;

const RODATA: u64 = TEXT + 0x20_0000;
const DATA: u64 = TEXT + 0x40_0000;
/// A tracepoint, and the key of its call.
const POINT: u64 = DATA + 0x100;
const CALL: u64 = DATA + 0x40;
/// From its start: its key, its iterator, its list.
const KEY: u64 = POINT + 8;
const ITERATOR: u64 = 40;
const LIST: u64 = 64;
/// Where lists are allocated, and how long a row of one is.
const HEAP: u64 = 0xffff_8880_0100_0000;
const ROW: u64 = 24;
/// Functions: the iterator, two that are registered, another.
const WALKS: u64 = TEXT + 0x100;
const FIRST: u64 = TEXT + 0x200;
const SECOND: u64 = TEXT + 0x300;
const OTHER: u64 = TEXT + 0x400;

fn btf() -> Vec<u8> {
    let mut b = Builder::default();
    let (pointer, key) = (b.pointer(0), b.int("int", 4));
    let key = b.structure("static_key", 16, &[("enabled", key, 0)]);
    b.structure("tracepoint_func", ROW as u32, &[("func", pointer, 0)]);
    let point = [("key", key, 64), ("iterator", pointer, 8 * ITERATOR as u32), ("funcs", pointer, 8 * LIST as u32)];
    b.structure("tracepoint", 72, &point);
    b.finish(None)
}

fn image(with_btf: bool) -> Image {
    let mut writer = ElfWriter::new(Bits::B64)
        .section(".text", TEXT, flags::TEXT, &noise(1, 0x1000))
        .section(".rodata", RODATA, flags::RODATA, &rodata())
        .nobits(".data", DATA, flags::DATA, 0x1000)
        .symbol("__tracepoint_moved", POINT, 72, 'D')
        .symbol("__SCK__tp_func_moved", CALL, 8, 'D');
    if with_btf {
        writer = writer.section(".BTF", RODATA + 0x1000, flags::RODATA, &btf());
    }
    Image::from_bytes("vmlinux", writer.build()).unwrap()
}

/// Virtual memory: the kernel where it was linked, and a list of these functions, which goes nowhere where it is lost.
struct Machine {
    data: Vec<u8>,
    heap: Option<Vec<u8>>,
}

impl Reader for Machine {
    fn read(&self, address: u64, buffer: &mut [u8]) -> Result<bool> {
        let heap = self.heap.clone().unwrap_or_default();
        Ok(read_from(
            &[(TEXT, &noise(1, 0x1000)), (RODATA, &rodata()), (DATA, &self.data), (HEAP, &heap)],
            address,
            buffer,
        ))
    }
}

/// What is heard where the text says that the key is on, and that the call goes there; of a list of these functions.
fn heard(on: bool, goes: u64, functions: &[u64], (with_btf, lost): (bool, bool)) -> Heard {
    let made = made();
    let mut report = made.judged("6.1", &made.booted("6.1"), &Known::default());
    let vote = |about, value| Vote { about, value, votes: 1, against: 0, known: false };
    report.votes = vec![vote(Unknown::Key(KEY), on.into()), vote(Unknown::Call(CALL), goes)];
    let mut data = vec![0; 0x1000];
    let mut word = |at: u64, value: u64| data[(at - DATA) as usize..][..8].copy_from_slice(&value.to_le_bytes());
    word(POINT + ITERATOR, WALKS);
    word(POINT + LIST, if functions.is_empty() { 0 } else { HEAP });
    // The data say of both what the text says.
    word(KEY, on.into());
    word(CALL, goes);
    let row = |function: &u64| [function.to_le_bytes().to_vec(), vec![7; ROW as usize - 8]].concat();
    let heap: Vec<u8> = functions.iter().chain([&0]).flat_map(row).collect();
    let image = image(with_btf);
    let memory = Memory::from_reader("<read>", Box::new(Machine { data, heap: (!lost).then_some(heap) }));
    let found = memory.find(&image, &mut |_, _| Ok(())).unwrap();
    hear(&report, &[], &Slots::default(), (&memory, &found, &image), Ok(&[])).unwrap()
}

fn wrong(found: &Heard) -> Vec<(&str, u64, u64, u64)> {
    found.disagreements.iter().map(|d| (d.what, d.address, d.expected, d.found)).collect()
}

const KNOWN: (bool, bool) = (true, false);

#[test]
fn it_is_on_while_there_are_functions() {
    for (on, functions, right) in
        [(false, &[][..], true), (true, &[FIRST], true), (true, &[], false), (false, &[FIRST], false)]
    {
        let found = heard(on, WALKS, functions, KNOWN);
        let expected = [("tracepoint", POINT, u64::from(on), u64::from(!on))];
        assert_eq!(wrong(&found), if right { &[][..] } else { &expected }, "{on} {functions:x?}");
        assert_eq!(found.counts.last(), Some(&("tracepoint", 1)));
    }
}

#[test]
fn its_call_goes_to_the_iterator_or_to_one_of_them() {
    for functions in [&[FIRST][..], &[FIRST, SECOND], &[SECOND, FIRST]] {
        for goes in [WALKS, FIRST] {
            assert_eq!(wrong(&heard(true, goes, functions, KNOWN)), []);
        }
        let named = [("tracepoint_call", CALL, OTHER, functions[0])];
        assert_eq!(wrong(&heard(true, OTHER, functions, KNOWN)), named);
    }
    assert_eq!(wrong(&heard(false, FIRST, &[], KNOWN)), [("tracepoint_call", CALL, FIRST, WALKS)]);
}

#[test]
fn nothing_is_said_where_the_list_is_not_there_or_nothing_describes_it() {
    assert_eq!(wrong(&heard(true, OTHER, &[FIRST], (true, true))), []);
    let nameless = heard(true, OTHER, &[], (false, false));
    assert_eq!((wrong(&nameless), nameless.counts.iter().any(|(what, _)| *what == "tracepoint")), (vec![], false));
}
