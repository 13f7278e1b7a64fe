//! Where the linker has put strings: they are constants, and no data that the kernel writes are like long stretches of them.

/// How long a stretch of strings is at least.
const STRETCH: usize = 4096;
/// What is shorter at the end of a stretch may be a number that looks like one.
const STRING: usize = 8;
/// No more zeros are between two strings, for the alignment of the second.
const PADDING: usize = 63;

/// Where the last long stretch of strings ends; 0 where there is none.
pub(super) fn end_of_strings(bytes: &[u8]) -> usize {
    let (mut found, mut start, mut end, mut string, mut zeros) = (0, 0, 0, 0, 0);
    for (at, &byte) in bytes.iter().enumerate() {
        let other = if byte == 0 {
            if string >= STRING {
                end = at + 1;
            }
            (string, zeros) = (0, zeros + 1);
            zeros > PADDING
        } else {
            (string, zeros) = (string + 1, 0);
            !is_text(byte)
        };
        if other {
            if end >= start + STRETCH {
                found = end;
            }
            (start, string, zeros) = (at + 1, 0, 0);
        }
    }
    if end >= start + STRETCH { end } else { found }
}

/// ASCII, what moves the cursor, and the `KERN_SOH` before a level (include/linux/kern_levels.h).
fn is_text(byte: u8) -> bool {
    matches!(byte, b' '..=b'~' | b'\t' | b'\n' | b'\r' | 0x1b | 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Strings of together at least so many bytes, and how many these are.
    fn strings(least: usize) -> (Vec<u8>, usize) {
        let mut bytes = Vec::new();
        while bytes.len() < least {
            bytes.extend(b"\x016%s: a message, of which there are many\n\0\0\0");
        }
        let end = bytes.len() - 2;
        (bytes, end)
    }

    #[test]
    fn the_last_long_stretch_counts_without_what_may_be_numbers() {
        let (long, end) = strings(STRETCH);
        assert_eq!(end_of_strings(&long), end);
        let numbers = [&b" \0\0\0A\0\0\0"[..], &[0x80, 0, 0, 0xc1], &[0; 200]].concat();
        assert_eq!(end_of_strings(&[&long[..], &numbers].concat()), end);
        let second = [&long[..], &numbers, &long, &numbers, &strings(STRETCH / 2).0].concat();
        assert_eq!(end_of_strings(&second), long.len() + numbers.len() + end);
        for none in [&[][..], &numbers, &strings(STRETCH / 2).0, &vec![0; 2 * STRETCH], &vec![b'A'; 2 * STRETCH]] {
            assert_eq!(end_of_strings(none), 0);
        }
    }
}
