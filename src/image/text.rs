//! What a file says in words: names and banners, which go to terminals and into reports as they are.

/// These bytes as text: UTF-8 without control characters but tabs, and without those that turn the direction of writing.
/// No linker and no kernel makes such names; who forges one wants a terminal to show something else.
pub(crate) fn of(bytes: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(bytes).ok()?;
    (!text.chars().any(unseen)).then_some(text)
}

fn unseen(c: char) -> bool {
    c.is_control() && c != '\t'
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_text() {
        for name in ["", "a\tb", "do_syscall_64", "__SCT__x86_pmu.add", "core::fmt::Write", "größe"] {
            assert_eq!(of(name.as_bytes()), Some(name));
        }
    }

    #[test]
    fn what_drives_a_terminal_is_not() {
        for name in ["a\x1b[2J", "a\nb", "a\r", "\x7f", "a\u{9b}2J", "a\u{202e}b"] {
            assert_eq!(of(name.as_bytes()), None, "{name:?}");
        }
        assert_eq!(of(b"\xff"), None);
    }
}
