//! Which of the kernel's nop tables an image has: each is an array of bytes, nops of 1, 2, 3 … bytes one behind the other
//! (`k8nops`, `p6nops` up to 5.12, `x86nops` since: arch/x86/kernel/alternative.c), found by its bytes.

use memchr::memmem;

use crate::image::Image;
use crate::insn::{Bits, NOP_TABLES, NopTable};

/// The tables of the image, those of the most nops first where one begins another. Up to 5.12 a kernel chooses between
/// them by its CPU; later ones have one table.
pub fn tables(image: &Image) -> Vec<&'static NopTable> {
    let bytes = |table: &NopTable| table.bytes().collect::<Vec<u8>>();
    let found_in = |data: &[u8]| -> Vec<&'static NopTable> {
        NOP_TABLES.iter().copied().filter(|table| memmem::find(data, &bytes(table)).is_some()).collect()
    };
    let data = image.sections().iter().filter(|section| section.allocated && !section.executable);
    // They are constants: all of them are in one section, which nearly always is the first asked.
    let constants = image.section(".rodata").into_iter().chain(data.filter(|section| section.name != ".rodata"));
    let mut found =
        constants.map(|s| found_in(image.section_bytes(s))).find(|tables| !tables.is_empty()).unwrap_or_default();
    // One array is not two tables: of those that begin alike the longest counts, and of those that are alike (P6, and
    // 64-bit kernels since 5.13) the one of the others' age.
    let old = found.iter().any(|table| table.name == "k8");
    let longest = found.iter().any(|table| table.name == "x86-11");
    found.retain(|table| match table.name {
        "p6" => old,
        "x86" => !old && !longest && image.bits() == Bits::B64,
        _ => true,
    });
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nops_of_all_tables_are_told_apart_by_their_bytes() {
        for table in NOP_TABLES {
            let alike: Vec<_> =
                NOP_TABLES.iter().filter(|other| other.bytes().eq(table.bytes())).map(|t| t.name).collect();
            let expected: &[&str] = if matches!(table.name, "p6" | "x86") { &["p6", "x86"] } else { &[table.name] };
            assert_eq!(alike, expected);
        }
    }
}
