//! The kernel this runs on: its memory, and the file it was booted from.

use std::fs::read_to_string;
use std::path::{Path, PathBuf};

use super::formats;
use super::frames::Frames;
use super::kind::MemoryKind;
use super::read::{Memory, Source};
use super::space::Space;
use super::store::Store;
use crate::error::{Error, ErrorKind, Result, shown};

/// The kernel's memory as an ELF core (`fs/proc/kcore.c`).
pub const KCORE: &str = "/proc/kcore";
/// The bit of a process's capabilities that `open_kcore()` asks for (`CAP_SYS_RAWIO`).
const RAWIO: u64 = 1 << 17;

impl Memory {
    /// Opens the memory of a running kernel: [`KCORE`], which takes root, or a file of its form.
    pub fn live(path: &Path) -> Result<Memory> {
        open(path).map_err(|error| error.in_file(&shown(path)))
    }
}

/// Opens [`KCORE`], or a file that has its form.
fn open(path: &Path) -> Result<Memory> {
    let store = Store::open_endless(path).map_err(|error| explained(error, &Rights::of_this_process()))?;
    if store.read(0, &mut [0]).map_err(|error| explained(error, &Rights::of_this_process()))? == 0 {
        // Container runtimes put `/dev/null` there.
        return Err(Error::new(ErrorKind::Io, format!("is empty: hidden from this container; {OUTSIDE}")));
    }
    let core = formats::parse_core(&store)?;
    Ok(Memory {
        name: shown(path),
        kind: MemoryKind::Live,
        source: Source::Live(store),
        physical: Space::default(),
        virtual_: core.virtual_,
        notes: core.notes,
        remarks: Vec::new(),
        frames: Frames::default(),
    })
}

/// What a container without rights is told.
const OUTSIDE: &str = "run this on the host as root, or dump the machine from without";

/// What decides whether a process may read the kernel's memory.
#[derive(Debug, Default)]
struct Rights {
    /// Its effective capabilities (`CapEff`).
    capabilities: Option<u64>,
    /// `/sys/kernel/security/lockdown`, the level in force in brackets.
    lockdown: Option<String>,
}

impl Rights {
    fn of_this_process() -> Rights {
        let status = read_to_string("/proc/self/status").unwrap_or_default();
        let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
        Rights {
            capabilities: effective.and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok()),
            lockdown: read_to_string("/sys/kernel/security/lockdown").ok(),
        }
    }
}

/// The error, with what to do.
fn explained(mut error: Error, rights: &Rights) -> Error {
    let absent = error.reason.contains("o such file");
    let refused = ["ermission denied", "peration not permitted"].iter().any(|words| error.reason.contains(words));
    let locked = rights.lockdown.as_ref().is_some_and(|levels| levels.contains("[confidentiality]"));
    let may = rights.capabilities.is_none_or(|bits| bits & RAWIO != 0);
    let advice = if absent {
        "this kernel was built without CONFIG_PROC_KCORE, or /proc is not mounted (mount -t proc proc /proc): mount it, or \
         dump the machine from without"
            .to_owned()
    } else if refused && may && locked {
        "the kernel is locked down (confidentiality): boot it without lockdown=confidentiality, or dump the machine from \
         without"
            .to_owned()
    } else if refused && may {
        "reading the kernel's memory takes root, and a kernel that is not locked down".to_owned()
    } else if refused {
        format!("reading the kernel's memory takes root with CAP_SYS_RAWIO, which this process has not; {OUTSIDE}")
    } else {
        return error;
    };
    error.reason = format!("{}: {advice}", error.reason);
    error
}

/// Why the running kernel's release is not known, and what to do.
fn unreleased(error: &std::io::Error) -> Error {
    let mut error = Error::io(error);
    if error.reason.contains("o such file") {
        error.reason += ": /proc is not mounted here; mount it (mount -t proc proc /proc), or run this where it is, on the host as root";
    }
    error
}

/// The file that the running kernel was booted from, by its release: where distributions put it.
pub fn running_kernel() -> Result<PathBuf> {
    let path = Path::new("/proc/sys/kernel/osrelease");
    let release = read_to_string(path).map_err(|error| unreleased(&error).in_file(&shown(path)))?;
    let release = release.trim();
    let tried = [
        format!("/boot/vmlinuz-{release}"),
        format!("/usr/lib/modules/{release}/vmlinuz"),
        format!("/lib/modules/{release}/vmlinuz"),
        format!("/boot/vmlinuz-{release}.efi"),
        format!("/boot/kernel-{release}"),
        format!("/usr/lib/debug/boot/vmlinux-{release}"),
        format!("/lib/modules/{release}/build/vmlinux"),
    ];
    let found = tried.iter().map(PathBuf::from).find(|path| path.is_file());
    found.ok_or_else(|| {
        let reason = format!("no image of the running kernel {release}: tried {}", tried.join(", "));
        Error::new(ErrorKind::Io, reason)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_read_is_said_with_what_to_do() {
        let io = |code: i32| Error::io(&std::io::Error::from_raw_os_error(code));
        let rights = |capabilities, lockdown: &str| Rights { capabilities, lockdown: Some(lockdown.to_owned()) };
        let (all, none) = (Some(u64::MAX), Some(0));
        let (open, closed) = ("[none] integrity confidentiality\n", "none integrity [confidentiality]\n");
        // ENOENT, EACCES, EPERM, EIO.
        let cases = [
            (2, rights(all, open), "CONFIG_PROC_KCORE"),
            (13, rights(none, open), "takes root with CAP_SYS_RAWIO"),
            (1, rights(none, closed), "on the host as root"),
            (1, rights(all, closed), "without lockdown=confidentiality"),
            (1, rights(all, open), "not locked down"),
            (1, Rights::default(), "takes root"),
        ];
        for (code, rights, expected) in cases {
            let reason = explained(io(code), &rights).reason;
            assert!(reason.contains(expected), "{reason}");
        }
        assert_eq!(explained(io(5), &rights(all, open)), io(5), "nothing is known of other errors");
        let absent = unreleased(&std::io::Error::from_raw_os_error(2)).reason;
        assert!(absent.contains("mount -t proc") && absent.contains("on the host as root"), "{absent}");
    }
}
