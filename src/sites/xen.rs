//! What of Xen's a kernel has in its text, where no symbol names it: found by the notes for Xen, and by the code itself.

use memchr::memmem;

use crate::image::{Bits, Image};
use crate::insn::JMP;
use crate::numbers::{i32_at, u32_at, unsigned};

/// `XEN_ELFNOTE_HYPERCALL_PAGE` of include/xen/interface/elfnote.h, in notes that Xen owns.
const HYPERCALL_PAGE: u32 = 2;
const OWNER: &[u8] = b"Xen\0";
/// The size of the page.
const PAGE: u64 = 4096;
/// `__HYPERVISOR_iret` of include/xen/interface/xen.h, and the size of a stub.
const IRET: u64 = 23;
const STUB: u64 = 32;

/// `hypercall_page`, which Xen fills: where a note of the image says that it lies, in `.text`. Kernels had it up to the fix
/// of XSA-466.
pub fn hypercall_page(image: &Image) -> Option<u64> {
    let notes = image.section_bytes(image.section(".notes")?);
    let page = unsigned(note(notes, HYPERCALL_PAGE)?.get(..image.bits().word())?)?;
    let text = image.section(".text")?;
    let last = page.checked_add(PAGE)?;
    (page.is_multiple_of(PAGE) && text.address <= page && last <= text.end()).then_some(page)
}

/// What Xen's note of a type says: each is the sizes of its owner and of what it says, its type, and these, in steps of four
/// bytes.
fn note(mut notes: &[u8], kind: u32) -> Option<&[u8]> {
    loop {
        let (head, rest) = notes.split_first_chunk::<12>()?;
        let size = |at: usize| usize::try_from(u32_at(head, at)?).ok();
        let (owner, rest) = rest.split_at_checked(size(0)?.checked_next_multiple_of(4)?)?;
        let (says, rest) = rest.split_at_checked(size(4)?.checked_next_multiple_of(4)?)?;
        if u32_at(head, 8) == Some(kind) && owner == OWNER {
            return says.get(..size(4)?);
        }
        notes = rest;
    }
}

/// A jump to the next instruction, and behind it the head of native_iret: `testb $4, 0x20(%rsp); jne`, or without
/// `X86_ESPFIX64` `iretq`.
const JUMPS: [&[u8]; 2] = [&[JMP, 0, 0, 0, 0, 0xf6, 0x44, 0x24, 0x20, 0x04, 0x75], &[JMP, 0, 0, 0, 0, 0x48, 0xcf]];
/// So near to each other are the addresses of the two in xen_start_kernel().
const NEAR: usize = 24;

/// The jump at `early_xen_iret_patch` (arch/x86/entry/entry_64.S, 5.11 and later), and `xen_iret`, to which
/// xen_start_kernel() points it: the one such jump in the text, whose address stands in `.init.text` beside that of one
/// function that is `pushq $0` and the hypercall iret. `None` where this is not true of exactly one pair.
pub fn iret(image: &Image) -> Option<(u64, u64)> {
    if image.bits() != Bits::B64 {
        return None;
    }
    let section = image.section(".text")?;
    let (text, init) = (image.section_bytes(section), image.section_bytes(image.section(".init.text")?));
    let places = JUMPS.iter().flat_map(|jump| memmem::find_iter(text, jump));
    let page = hypercall_page(image);
    let mut found = None;
    for site in places.map(|at| section.address + at as u64) {
        // Kernels are linked into the last 2 GiB, so `mov $ADDRESS, %REG` has 32 bits of it.
        for at in memmem::find_iter(init, &(site as u32).to_le_bytes()) {
            let near = &init[at.saturating_sub(NEAR)..init.len().min(at + 4 + NEAR)];
            for word in (0..near.len()).map_while(|at| i32_at(near, at)) {
                let function = i64::from(word) as u64;
                let pair = Some((site, function));
                if found != pair && is_iret(image, function, page) {
                    if found.is_some() {
                        return None;
                    }
                    found = pair;
                }
            }
        }
    }
    found
}

/// Whether this is `pushq $0`, and the hypercall: through the page, or as hypercall_iret makes it (arch/x86/xen/xen-asm.S).
fn is_iret(image: &Image, function: u64, page: Option<u64>) -> bool {
    let code = image.read(function, 16);
    match code.and_then(|code| code.strip_prefix(&[0x6a, 0])) {
        Some([JMP, a, b, c, d, ..]) => {
            let next = function.wrapping_add(2 + 5);
            let target = next.wrapping_add(i64::from(i32::from_le_bytes([*a, *b, *c, *d])) as u64);
            page.is_some_and(|page| target == page + STUB * IRET)
        }
        // push %rcx; push %r11; push %rax; mov $23, %eax; syscall
        Some(rest) => rest.starts_with(&[0x51, 0x41, 0x53, 0x50, 0xb8, IRET as u8, 0, 0, 0, 0x0f, 0x05]),
        None => false,
    }
}
