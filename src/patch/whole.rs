//! Files that appear whole or not at all: what is written has no name until it is whole.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result, shown};

/// Writes what a file is to hold.
pub type Contents<'a> = &'a mut dyn FnMut(&mut dyn Write) -> io::Result<()>;

/// How many names are tried for a file beside another.
const NAMES: u32 = 100;

/// Writes a file so that it appears whole or not at all: beside its place, then moved there. Whoever ends the process
/// meanwhile leaves nothing behind, where the file system knows files without a name.
///
/// What already stands there and is no regular file (a pipe, a device) is written to as it is. `contents` writes the bytes,
/// and may be asked to do so twice.
pub fn write_file(path: &Path, contents: Contents<'_>) -> Result<()> {
    let placed = |e: io::Error| Error::io(&e).in_file(&shown(path));
    let target = match fs::metadata(path) {
        Ok(meta) if meta.is_dir() => return Err(placed(io::ErrorKind::IsADirectory.into())),
        Ok(meta) if !meta.is_file() => {
            return OpenOptions::new().write(true).open(path).and_then(|mut f| contents(&mut f)).map_err(placed);
        }
        // A symbolic link stays one: what it points to is replaced.
        Ok(_) => fs::canonicalize(path).map_err(placed)?,
        Err(_) => path.to_owned(),
    };
    replace(&target, contents).map_err(placed)
}

fn replace(target: &Path, contents: Contents<'_>) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    if let Some(file) = nameless::beside(target) {
        fill(&file, contents, target)?;
        if let Some(named) = nameless::name(&file, target) {
            return named;
        }
    }
    let (scratch, file) =
        scratch_beside(target, |scratch| OpenOptions::new().write(true).create_new(true).open(scratch))?;
    moved(&scratch, target, fill(&file, contents, target))
}

fn fill(mut file: &File, contents: Contents<'_>, target: &Path) -> io::Result<()> {
    contents(&mut file)?;
    if let Ok(meta) = fs::metadata(target) {
        file.set_permissions(meta.permissions())?;
    }
    Ok(())
}

/// Moves a file to its place, or takes it away where that fails or its writing did.
fn moved(scratch: &Path, target: &Path, written: io::Result<()>) -> io::Result<()> {
    let moved = written.and_then(|()| fs::rename(scratch, target));
    if moved.is_err() {
        // The error to report is the first one.
        let _ = fs::remove_file(scratch);
    }
    moved
}

/// A name beside a file that nobody has yet, and what `make` made of it.
fn scratch_beside<T>(target: &Path, mut make: impl FnMut(&Path) -> io::Result<T>) -> io::Result<(PathBuf, T)> {
    target.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let mut attempt = 0;
    loop {
        // Not longer than the shortest name that a file system allows, whatever the target is called.
        let scratch = target.with_file_name(format!(".pvops.{}.{attempt}.part", std::process::id()));
        match make(&scratch) {
            Ok(made) => return Ok((scratch, made)),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists && attempt < NAMES => attempt += 1,
            Err(e) => return Err(e),
        }
    }
}

/// Files without a name, which go with the process that has them open (`O_TMPFILE`, open(2)).
#[cfg(target_os = "linux")]
mod nameless {
    use std::fs::File;
    use std::io;
    use std::os::fd::AsRawFd;
    use std::path::Path;

    use rustix::fs::{AtFlags, CWD, Mode, OFlags, linkat, openat};

    /// A file in the folder of another; `None` where the file system has none without a name.
    pub(super) fn beside(target: &Path) -> Option<File> {
        let folder = target.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
        openat(CWD, folder, flags, Mode::from_raw_mode(0o666)).ok().map(File::from)
    }

    /// Gives a file its name, which another may have; `None` where nothing can be named so.
    pub(super) fn name(file: &File, target: &Path) -> Option<io::Result<()>> {
        let own = format!("/proc/self/fd/{}", file.as_raw_fd());
        let link = |to: &Path| linkat(CWD, own.as_str(), CWD, to, AtFlags::SYMLINK_FOLLOW).map_err(io::Error::from);
        match link(target) {
            Ok(()) => return Some(Ok(())),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            Err(_) => return None,
        }
        let (scratch, ()) = super::scratch_beside(target, link).ok()?;
        Some(super::moved(&scratch, target, Ok(())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("pvops-whole-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        folder
    }

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    #[test]
    fn nothing_is_there_before_all_is() {
        let folder = folder("before");
        let nameless = cfg!(target_os = "linux") && nameless::beside(&folder.join("out")).is_some();
        for (text, there) in [("first", vec![]), ("second", vec!["out".to_owned()])] {
            let mut seen = Vec::new();
            write_file(&folder.join("out"), &mut |out| {
                seen = names(&folder);
                out.write_all(text.as_bytes())
            })
            .unwrap();
            assert!(seen == there || !nameless, "{seen:?}");
            assert_eq!(names(&folder), ["out"]);
            assert_eq!(fs::read_to_string(folder.join("out")).unwrap(), text);
        }
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn what_fails_leaves_what_was_there() {
        let folder = folder("fails");
        let out = folder.join("o".repeat(255));
        write_file(&out, &mut |out| out.write_all(b"as it was")).unwrap();
        let failed = write_file(&out, &mut |out| out.write_all(b"half").and(Err(io::ErrorKind::StorageFull.into())));
        assert!(failed.is_err());
        assert_eq!(names(&folder).len(), 1);
        assert_eq!(fs::read_to_string(&out).unwrap(), "as it was");
        fs::remove_dir_all(folder).unwrap();
    }
}
