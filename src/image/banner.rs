//! The kernel's banner: `linux_banner` of `init/version.c`, what `/proc/version` shows.

use memchr::memmem;

use super::text;
use crate::error::Error;

/// What it begins with. A digit follows; in the format strings beside it a `%s` does.
const PREFIX: &str = "Linux version ";

/// More than any banner: `__NEW_UTS_LEN` bounds two of its parts, compilers and builders the rest.
const MAX_LENGTH: usize = 1024;

/// The first release whose rules are known: `apply_paravirt()` came with it (139ec7c41624).
const OLDEST: [u32; 3] = [2, 6, 20];

/// Finds the banner in these bytes.
///
/// Since 6.1 (2df8220cc511) there are two: that of `init/version.c` is weak and lacks what is known last, which build this
/// is and of when; that of `init/version-timestamp.c` has it, and is `linux_banner`.
pub(super) fn find(bytes: &[u8]) -> Option<&str> {
    let mut banners = all(bytes);
    let first = banners.next()?;
    if is_whole(first) {
        return Some(first);
    }
    let (builder, _) = first.rsplit_once('#')?;
    let same = |banner: &&str| banner.rsplit_once('#').is_some_and(|(by, _)| by == builder);
    banners.filter(same).find(|banner| is_whole(banner)).or(Some(first))
}

/// Whether a banner says which build it is: `#1 SMP …`, where the weak one has `# SMP …`.
pub(crate) fn is_whole(banner: &str) -> bool {
    banner.rsplit_once('#').is_some_and(|(_, build)| build.starts_with(|c: char| !c.is_whitespace()))
}

fn all(bytes: &[u8]) -> impl Iterator<Item = &str> {
    memmem::find_iter(bytes, PREFIX).filter_map(|start| {
        let rest = bytes.get(start..)?;
        let rest = rest.get(..rest.len().min(MAX_LENGTH))?;
        let end = memchr::memchr(0, rest)?;
        let line = rest.get(..end)?.trim_ascii_end();
        let text = text::of(line)?;
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

/// Why a kernel of this release is refused, if it is older than any whose rules are known.
pub(super) fn too_old(release: &str) -> Option<String> {
    let old = version(release).is_some_and(|version| version < OLDEST);
    old.then(|| format!("{release} is not known: known are 2.6.20 and later"))
}

/// Whether this may be a release of Linux that has a setup header: such headers came with 1.3.73
/// (`Documentation/arch/x86/boot.rst`: protocol 2.00), and 2.0 followed 1.3. Other programs have one too, to be started by
/// what starts Linux, and name what they are in its place.
pub(super) fn of_linux(release: &str) -> bool {
    version(release).is_some_and(|[major, minor, _]| major >= 2 || (major, minor) == (1, 3))
}

/// An error about a kernel of this release, which names it.
pub(super) fn named(mut error: Error, release: &str) -> Error {
    error.reason = format!("{} (the kernel is {release})", error.reason);
    error
}

/// The numbers a release begins with, `[2, 6, 20]` of `2.6.20-16-generic`; what is not there counts as 0.
pub(super) fn version(release: &str) -> Option<[u32; 3]> {
    let end = release.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(release.len());
    let mut numbers = release[..end].split('.').map(|part| part.parse().ok());
    Some([numbers.next()??, numbers.next()??, numbers.next().flatten().unwrap_or(0)])
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
    fn of_two_banners_that_with_the_build_is_the_kernel_s() {
        let (weak, whole) =
            ("Linux version 6.6.0 (a@b) (gcc) # SMP", "Linux version 6.6.0 (a@b) (gcc) #3 SMP Fri Jul 14");
        let other = "Linux version 5.4.0 (a@b) (gcc) #3 SMP Thu Jul 13";
        let first = |banners: &[&str]| find(banners.join(" \n\0").as_bytes()).map(str::to_owned);
        assert_eq!(first(&[weak, other, whole, ""]).as_deref(), Some(whole));
        assert_eq!(first(&[whole, weak, ""]).as_deref(), Some(whole));
        assert_eq!(first(&[weak, other, ""]).as_deref(), Some(weak), "what is not of this build is no better");
    }

    #[test]
    fn versions_are_the_numbers_before_the_suffix() {
        for (release, numbers) in [("2.4.20-xbox", [2, 4, 20]), ("2.6.24.3-x", [2, 6, 24]), ("7.1-rc1", [7, 1, 0])] {
            assert_eq!(version(release), Some(numbers), "{release}");
        }
        for release in ["", "6", "x.y", "99999999999.1"] {
            assert_eq!(version(release), None, "{release}");
        }
    }

    #[test]
    fn what_has_a_setup_header_need_not_be_linux() {
        for release in ["6.1.0-56-amd64", "2.0.40", "1.3.100"] {
            assert!(of_linux(release), "{release}");
        }
        for name in ["Memtest86+", "MEMDISK", "1.0.0+git-20190125.36a4c85-5.1", "1.21.1+", ""] {
            assert!(!of_linux(name), "{name}");
        }
    }

    #[test]
    fn no_banner_is_no_error() {
        assert_eq!(find(b"Linux version 6.1 unterminated (a) #1"), None);
        assert_eq!(find(b""), None);
    }
}
