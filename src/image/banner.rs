//! The kernel's banner: `linux_banner` of `init/version.c`, what `/proc/version` shows.

use memchr::memmem;

/// What it begins with. A digit follows; in the format strings beside it a `%s` does.
const PREFIX: &str = "Linux version ";

/// More than any banner: `__NEW_UTS_LEN` bounds two of its parts, compilers and builders the rest.
const MAX_LENGTH: usize = 1024;

/// Finds the banner in these bytes.
pub(super) fn find(bytes: &[u8]) -> Option<&str> {
    memmem::find_iter(bytes, PREFIX).find_map(|start| {
        let rest = bytes.get(start..)?;
        let rest = rest.get(..rest.len().min(MAX_LENGTH))?;
        let end = memchr::memchr(0, rest)?;
        let text = std::str::from_utf8(rest.get(..end)?).ok()?.trim_end_matches('\n');
        // "version (builder@host) (compiler) #1 SMP …": every banner names who built it, in brackets.
        let version = release(text)?;
        let plausible = version.starts_with(|c: char| c.is_ascii_digit()) && text.contains(" (") && text.contains('#');
        plausible.then_some(text)
    })
}

/// The release in a banner: what `uname -r` says.
pub(super) fn release(banner: &str) -> Option<&str> {
    banner.strip_prefix(PREFIX)?.split(' ').next().filter(|release| !release.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_banner_is_not_the_format_string_beside_it() {
        let bytes = b"Linux version %s (%s)\0Linux version 6.1.0-56-amd64 (a@b) (gcc-12) #1 SMP (2026)\n\0rest";
        let banner = find(bytes).unwrap();
        assert_eq!(banner, "Linux version 6.1.0-56-amd64 (a@b) (gcc-12) #1 SMP (2026)");
        assert_eq!(release(banner), Some("6.1.0-56-amd64"));
    }

    #[test]
    fn no_banner_is_no_error() {
        assert_eq!(find(b"Linux version 6.1 unterminated (a) #1"), None);
        assert_eq!(find(b""), None);
    }
}
