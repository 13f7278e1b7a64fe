//! The sites as lines of text: address, symbol, op, bytes, disassembly.

use std::io::Write as _;

use super::text::{hex, push};
use crate::image::Image;
use crate::insn::{Disassembler, Namer};
use crate::sites::Site;

/// Widest site shown in full; longer ones (2007's thirteen-byte assembler sites) widen their own line only.
const BYTES_SHOWN: usize = 7;

/// One line per site, each ending in a newline.
///
/// `ops` names the types; a type beyond it is shown as `type N`. `namer` names addresses, and may know none.
pub fn listing(image: &Image, sites: &[Site], ops: &[String], namer: Namer<'_>) -> String {
    let widest = sites.iter().map(|s| op_name(ops, s.op_type).len()).max().unwrap_or(0);
    let mut disassembler = Disassembler::new(image.bits());
    let mut out = Vec::with_capacity(sites.len() * 128);
    for site in sites {
        let bytes = &image.bytes()[site.offset as usize..][..usize::from(site.len)];
        hex(&mut out, &site.address.to_be_bytes(), "");
        // Writing to a String cannot fail.
        let _ = write!(out, "  {:widest$}  {:>3}  ", op_name(ops, site.op_type), site.op_type);
        hex(&mut out, bytes, " ");
        for _ in bytes.len()..BYTES_SHOWN {
            push(&mut out, "   ");
        }
        out.push(b' ');
        for (i, line) in disassembler.lines(site.address, bytes, namer).iter().enumerate() {
            push(&mut out, if i == 0 { "" } else { "; " });
            push(&mut out, &line.text);
        }
        if let Some((symbol, offset)) = namer(site.address) {
            let _ = write!(out, "  # {symbol}+{offset:#x}");
        }
        out.push(b'\n');
    }
    // All of it was text.
    String::from_utf8(out).unwrap_or_default()
}

fn op_name(ops: &[String], op_type: u8) -> std::borrow::Cow<'_, str> {
    match ops.get(usize::from(op_type)) {
        Some(name) => name.into(),
        None => format!("type {op_type}").into(),
    }
}
