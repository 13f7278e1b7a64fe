//! VMware's: a `.vmem` is memory, and the `.vmss` (suspended) or `.vmsn` (snapshot) beside it says where its parts belong:
//! above 4 GiB they do not lie where they are in the file. ESX may write memory into the `.vmss` or `.vmsn` itself.
//!
//! Such a state has groups, and a group tags: two bytes (flags, and the length of the name), the name, up to three indices of
//! 4 bytes, then a value of as many bytes as the flags say, or a block with its own length. Of the group `memory` are
//! read: `regionsCount`, and of each region `regionPPN` (its page of physical memory), `regionPageNum` (its page of the
//! `.vmem`) and `regionSize`; of `cpu`: `CR64` (as in volatility3's `layers/vmware.py` and crash's `vmware_vmss.c`).

use std::collections::BTreeMap;

use super::dump::{Dump, Opened};
use super::notes::{ControlRegisters, Notes};
use crate::error::{Error, Result, shown};
use crate::memory::kind::MemoryKind;
use crate::memory::space::{Extent, Space};
use crate::memory::store::Store;
use crate::numbers::{u32_at, u64_at};

/// What a state begins with, the version in the first byte's low half.
const MAGICS: [[u8; 4]; 4] = [*b"\xd0\xbe\xd2\xbe", *b"\xd1\xba\xd1\xba", *b"\xd2\xbe\xd2\xbe", *b"\xd3\xbe\xd3\xbe"];
const GROUP: usize = 80;
/// More groups, and more tags of one, than any state has.
const MAX_GROUPS: u32 = 4096;
const MAX_TAGS: usize = 1 << 20;
/// More regions than memory has holes.
const MAX_REGIONS: usize = 4096;
const PAGE: u64 = 4096;

/// What a state says.
#[derive(Debug, Default)]
struct State {
    regions: BTreeMap<u32, Region>,
    /// Where in the state memory itself is, and how long it is.
    memory: Option<(u64, u64)>,
    cpus: BTreeMap<u32, ControlRegisters>,
}

/// In pages.
#[derive(Debug, Clone, Copy, Default)]
struct Region {
    physical: u64,
    in_file: u64,
    size: u64,
}

/// Takes a state, and a `.vmem` beside which there is one.
pub(super) fn probe(dump: &Dump) -> Result<Option<Opened>> {
    let extension = |name: &str| dump.path().is_some_and(|path| path.extension().is_some_and(|found| found == name));
    let beside = |extensions: &[&str]| {
        extensions
            .iter()
            .map(|name| dump.path().map(|path| path.with_extension(name)).unwrap_or_default())
            .find(|path| path.is_file())
    };
    if MAGICS.iter().any(|magic| dump.begins_with(magic)) {
        let state = read(&dump.store)?;
        if let Some(memory) = state.memory {
            let space = state.space(memory)?;
            return Ok(Some(
                state.opened(Opened::in_file(MemoryKind::Vmware, dump, space), "memory is in the state itself"),
            ));
        }
        let Some(path) = beside(&["vmem"]) else {
            return Err(Error::memory(
                "is VMware's state without its memory: the .vmem of the same name has to lie beside it",
            ));
        };
        let memory = Dump::at(&path)?;
        let space = state.space((0, memory.store.len()))?;
        let said = format!("memory is that of {}", shown(&path));
        return Ok(Some(state.opened(Opened::in_file(MemoryKind::Vmware, &memory, space), &said)));
    }
    if !extension("vmem") {
        return Ok(None);
    }
    let Some(path) = beside(&["vmss", "vmsn"]) else { return Ok(None) };
    let state = Store::open(&path).and_then(|store| read(&store)).map_err(|error| error.in_file(&shown(&path)))?;
    let space = state.space((0, dump.store.len()))?;
    let said = format!("{} says where memory belongs", shown(&path));
    Ok(Some(state.opened(Opened::in_file(MemoryKind::Vmware, dump, space), &said)))
}

impl State {
    fn opened(self, opened: Opened, remark: &str) -> Opened {
        let cpus = self.cpus.into_values().collect();
        Opened { notes: Notes { cpus, ..Notes::default() }, remarks: vec![remark.to_owned()], ..opened }
    }

    /// Where the parts of memory belong, which is at an offset in its file.
    fn space(&self, (offset, len): (u64, u64)) -> Result<Space> {
        if self.regions.is_empty() {
            return Ok(Space::new(vec![Extent { address: 0, size: len, offset }]));
        }
        let mut extents = Vec::new();
        for (index, region) in &self.regions {
            let bytes = |pages: u64| pages.checked_mul(PAGE);
            let (Some(address), Some(from), Some(size)) =
                (bytes(region.physical), bytes(region.in_file), bytes(region.size))
            else {
                return Err(Error::memory(format!("region {index} is beyond all memory: {region:?}")));
            };
            if from.checked_add(size).is_none_or(|end| end > len) || address.checked_add(size).is_none() {
                let reason = format!(
                    "is truncated: region {index} of {size} bytes at {from:#x} leaves the memory of {len} bytes"
                );
                return Err(Error::memory(reason));
            }
            extents.push(Extent { address, size, offset: offset + from });
        }
        Ok(Space::new(extents))
    }
}

/// Reads the groups of a state that are asked for.
fn read(store: &Store) -> Result<State> {
    let head = store.read_exactly(0, 12, "its header")?;
    let count = u32_at(&head, 8).unwrap_or(0);
    if !MAGICS.iter().any(|magic| head.starts_with(magic)) || count > MAX_GROUPS {
        return Err(Error::memory(format!("is no state of VMware's: {count} groups")).in_section("header"));
    }
    let wide = head[0] & 0xf != 0;
    let groups = store.read_exactly(12, count as usize * GROUP, "its list of groups")?;
    let mut state = State::default();
    for group in groups.chunks_exact(GROUP) {
        let name = group.split(|&byte| byte == 0).next().unwrap_or_default();
        let position = u64_at(group, 64).unwrap_or(0);
        if matches!(name, b"memory" | b"cpu") {
            let memory = name == b"memory";
            tags(store, position, wide, memory, &mut state)
                .map_err(|error| error.in_section(if memory { "memory" } else { "cpu" }))?;
        }
    }
    Ok(state)
}

fn tags(store: &Store, mut at: u64, wide: bool, memory: bool, state: &mut State) -> Result<()> {
    for _ in 0..MAX_TAGS {
        let head = store.read_exactly(at, 2, "a tag")?;
        let (flags, len) = (head[0], u64::from(head[1]));
        if (flags, len) == (0, 0) {
            return Ok(());
        }
        let name = store.read_exactly(at + 2, len as usize, "a tag's name")?;
        let indices = u64::from(flags >> 6);
        let index = match indices {
            0 => 0,
            _ => word(&store.read_exactly(at + 2 + len, 4, "a tag's index")?) as u32,
        };
        let value = at + 2 + len + 4 * indices;
        let size = u64::from(flags & 0x3f);
        if size >= 62 {
            // Its length in the file and in memory, how many bytes are left out, and then the block.
            let width = if wide { 8 } else { 4 };
            let head = store.read_exactly(value, 2 * width + 2, "a block's length")?;
            let (length, padding) = (word(&head[..width]), word(&head[2 * width..]));
            let start = (value + 2 * width as u64 + 2).saturating_add(padding);
            let Some(end) = start.checked_add(length).filter(|&end| end <= store.len()) else {
                let reason =
                    format!("is truncated: a block of {length} bytes leaves the file of {} bytes", store.len());
                return Err(Error::memory(reason).at_offset(at));
            };
            match name.as_slice() {
                b"Memory" if memory && size == 63 => {
                    return Err(
                        Error::memory("has its memory packed, which is not read: dump it with vmss2core").at_offset(at)
                    );
                }
                b"Memory" if memory => state.memory = Some((start, length)),
                b"CR64" if !memory && length >= 40 => {
                    let registers = store.read_exactly(start, 40, "control registers")?;
                    let (cr3, cr4) = (word(&registers[24..32]), word(&registers[32..40]));
                    let cpu = ControlRegisters { cr3, cr4, idt: None, gdt: (0, 0), ldt: (0, 0) };
                    state.cpus.insert(index, cpu);
                }
                _ => {}
            }
            at = end;
            continue;
        }
        let bytes = store.read_exactly(value, size as usize, "a tag's value")?;
        if memory && name.starts_with(b"region") && name != b"regionsCount" {
            if state.regions.len() >= MAX_REGIONS && !state.regions.contains_key(&index) {
                return Err(Error::memory("has too many regions of memory").at_offset(at));
            }
            let region = state.regions.entry(index).or_default();
            match name.as_slice() {
                b"regionPPN" => region.physical = word(&bytes),
                b"regionPageNum" => region.in_file = word(&bytes),
                b"regionSize" => region.size = word(&bytes),
                _ => {}
            }
        }
        at = value + size;
    }
    Err(Error::memory("has more tags than any state").at_offset(at))
}

/// A number of up to 8 bytes.
fn word(bytes: &[u8]) -> u64 {
    bytes.iter().take(8).rev().fold(0, |word, &byte| word << 8 | u64::from(byte))
}
