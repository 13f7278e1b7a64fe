//! Numbers, bytes and strings as documents have them.

use std::io::Write as _;

const DIGITS: &[u8; 16] = b"0123456789abcdef";

/// Bytes as two hex digits each, with something behind each of them. `write!` takes ten times as long.
pub(super) fn hex(out: &mut Vec<u8>, bytes: &[u8], behind: &str) {
    for chunk in bytes.chunks(if behind.is_empty() { 16 } else { 1 }) {
        let mut text = [0; 32];
        for (digits, byte) in text.chunks_exact_mut(2).zip(chunk) {
            digits.copy_from_slice(&[DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
        }
        out.extend_from_slice(&text[..2 * chunk.len()]);
        push(out, behind);
    }
}

/// Appends text.
pub(super) fn push(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(text.as_bytes());
}

/// A string as JSON has it, in ASCII.
pub(super) fn json_string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    json_text(out, text);
    out.push(b'"');
}

/// What stands between the quotes of a string.
pub(super) fn json_text(out: &mut Vec<u8>, text: &str) {
    // Every byte is looked at, many at once.
    let plain = |byte: u8| matches!(byte, b' '..=b'~') & (byte != b'"') & (byte != b'\\');
    if text.bytes().fold(true, |all, byte| all & plain(byte)) {
        return push(out, text);
    }
    for c in text.chars() {
        match c {
            '"' => push(out, "\\\""),
            '\\' => push(out, "\\\\"),
            ' '..='~' => out.push(c as u8),
            _ => {
                let mut units = [0; 2];
                for unit in c.encode_utf16(&mut units) {
                    let _ = write!(out, "\\u{unit:04x}");
                }
            }
        }
    }
}

/// A number as `{:#x}` has it. That takes five times as long, and a long list has a million.
pub(super) fn hexadecimal(out: &mut Vec<u8>, value: u64) {
    let mut text = [0; 18];
    for (i, digit) in text[2..].iter_mut().rev().enumerate() {
        *digit = DIGITS[(value >> (4 * i) & 15) as usize];
    }
    let start = value.leading_zeros().min(60) as usize / 4;
    text[start..start + 2].copy_from_slice(b"0x");
    out.extend_from_slice(&text[start..]);
}

/// A number as `{}` has it.
pub(super) fn decimal(out: &mut Vec<u8>, mut value: u64) {
    let mut digits = [b'0'; 20];
    let mut at = digits.len();
    while at > 0 && (value > 0 || at == digits.len()) {
        at -= 1;
        digits[at] = b'0' + (value % 10) as u8;
        value /= 10;
    }
    out.extend_from_slice(&digits[at..]);
}

/// Whether a field of CSV stands as it is.
pub(super) fn is_plain(text: &str) -> bool {
    !text.bytes().any(|byte| matches!(byte, b'"' | b',' | b'\n' | b'\r'))
}

/// A field of CSV, in quotes where it has to be (RFC 4180).
pub(super) fn csv_field(out: &mut Vec<u8>, text: &str) {
    if is_plain(text) {
        push(out, text);
    } else {
        let _ = write!(out, "\"{}\"", text.replace('"', "\"\""));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_the_standard_library_does() {
        for value in (0..64).flat_map(|bit| [(1u64 << bit) - 1, 1 << bit, (1 << bit) + 9]).chain([u64::MAX]) {
            let mut out = Vec::new();
            hexadecimal(&mut out, value);
            decimal(&mut out, value);
            assert_eq!(out, format!("{value:#x}{value}").as_bytes());
        }
    }
}
