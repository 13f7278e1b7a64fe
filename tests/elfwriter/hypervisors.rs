//! Writes what hypervisors save of a guest: Xen's `xl dump-core`, VMware's states.

const PAGE: u64 = 4096;

/// A core of `xl dump-core`: pages of a guest by number; with `paravirtual` the machine's numbers stand beside them.
pub fn xen_core(pages: &[(u64, &[u8])], paravirtual: bool) -> Vec<u8> {
    let names = b"\0.shstrtab\0.xen_p2m\0.xen_pfn\0.xen_pages\0";
    let list: Vec<u8> = pages
        .iter()
        .flat_map(|(number, _)| {
            let machine = if paravirtual { (number + 0x1000).to_le_bytes().to_vec() } else { Vec::new() };
            [number.to_le_bytes().to_vec(), machine].concat()
        })
        .collect();
    let (table, count) = (64, 4);
    let names_at = table + 64 * count;
    let list_at = (names_at + names.len() as u64).next_multiple_of(8);
    let pages_at = (list_at + list.len() as u64).next_multiple_of(PAGE);
    let mut out = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x04\0\x3e\0\x01\0\0\0".to_vec();
    [0, 0, table].iter().for_each(|word: &u64| out.extend(word.to_le_bytes()));
    out.extend([0; 4]);
    [64u16, 56, 0, 64, count as u16, 1].iter().for_each(|half| out.extend(half.to_le_bytes()));
    let mut section = |name: u32, kind: u32, offset: u64, size: u64, entry: u64| {
        [name, kind].iter().for_each(|word| out.extend(word.to_le_bytes()));
        [0, 0, offset, size, 0, 0, entry].iter().for_each(|word| out.extend(word.to_le_bytes()));
    };
    section(0, 0, 0, 0, 0);
    section(1, 3, names_at, names.len() as u64, 0);
    let (name, entry) = if paravirtual { (11, 16) } else { (20, 8) };
    section(name, 1, list_at, list.len() as u64, entry);
    section(29, 1, pages_at, PAGE * pages.len() as u64, PAGE);
    out.extend(names);
    out.resize(list_at as usize, 0);
    out.extend(list);
    out.resize(pages_at as usize, 0);
    pages.iter().for_each(|(_, bytes)| out.extend(*bytes));
    out
}

/// A state of VMware's: regions (page of physical memory, page of the `.vmem`, pages), a CPU's cr3 and cr4, and memory
/// where the state has it in itself.
pub fn vmware_state(regions: &[(u32, u32, u32)], cpu: Option<(u64, u64)>, memory: Option<&[u8]>) -> Vec<u8> {
    let tag = |out: &mut Vec<u8>, name: &str, index: Option<u32>, value: u32| {
        out.push(4 | if index.is_some() { 1 << 6 } else { 0 });
        out.push(name.len() as u8);
        out.extend(name.as_bytes());
        index.iter().for_each(|index| out.extend(index.to_le_bytes()));
        out.extend(value.to_le_bytes());
    };
    let block = |out: &mut Vec<u8>, name: &str, index: u32, bytes: &[u8]| {
        out.extend([62 | 1 << 6, name.len() as u8]);
        out.extend(name.as_bytes());
        out.extend(index.to_le_bytes());
        out.extend([(bytes.len() as u64).to_le_bytes(), (bytes.len() as u64).to_le_bytes()].concat());
        out.extend(3u16.to_le_bytes());
        out.extend(b"pad");
        out.extend(bytes);
    };
    let mut memory_group = Vec::new();
    tag(&mut memory_group, "align_mask", None, 0xffff);
    tag(&mut memory_group, "regionsCount", None, regions.len() as u32);
    for (index, &(physical, in_file, size)) in regions.iter().enumerate() {
        tag(&mut memory_group, "regionPageNum", Some(index as u32), in_file);
        tag(&mut memory_group, "regionPPN", Some(index as u32), physical);
        tag(&mut memory_group, "regionSize", Some(index as u32), size);
    }
    memory.iter().for_each(|bytes| block(&mut memory_group, "Memory", 0, bytes));
    memory_group.extend([0, 0]);
    let mut cpu_group = Vec::new();
    tag(&mut cpu_group, "cpu:numVCPUs", None, 1);
    if let Some((cr3, cr4)) = cpu {
        let registers: Vec<u8> =
            [1, 0, 0, cr3, cr4, 0, 0, 0, 0].iter().flat_map(|word: &u64| word.to_le_bytes()).collect();
        block(&mut cpu_group, "CR64", 0, &registers);
    }
    cpu_group.extend([0, 0]);
    let mut out = b"\xd2\xbe\xd2\xbe\x08\0\0\0\x02\0\0\0".to_vec();
    let mut at = 12 + 2 * 80;
    for (name, group) in [("cpu", &cpu_group), ("memory", &memory_group)] {
        let mut entry = name.as_bytes().to_vec();
        entry.resize(64, 0);
        out.extend(entry);
        out.extend([(at as u64).to_le_bytes(), (group.len() as u64).to_le_bytes()].concat());
        at += group.len();
    }
    out.extend(cpu_group);
    out.extend(memory_group);
    out
}
