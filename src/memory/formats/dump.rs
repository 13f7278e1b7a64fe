//! A dump before and after a format has opened it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::notes::Notes;
use crate::error::Result;
use crate::memory::frames::Frames;
use crate::memory::kind::MemoryKind;
use crate::memory::pages::Pages;
use crate::memory::space::Space;
use crate::memory::store::Store;

/// How much of its beginning a format is told by.
const HEAD: usize = 64;

/// A file of which it is not known yet what it is.
pub(in crate::memory) struct Dump {
    pub store: Arc<Store>,
    /// Where it lies; what belongs to it may lie beside it.
    path: Option<PathBuf>,
    /// Its first bytes, [`HEAD`] of them where it has as many.
    head: Vec<u8>,
}

/// An opened dump: its address spaces, whose extents say where in `content` the bytes are.
pub(in crate::memory) struct Opened {
    pub kind: MemoryKind,
    pub content: Content,
    pub physical: Space,
    pub virtual_: Space,
    pub notes: Notes,
    /// What a reader of the report should know of how it was put together.
    pub remarks: Vec<String>,
    /// What its page tables call memory.
    pub frames: Frames,
}

/// What the offsets of extents count in.
pub(in crate::memory) enum Content {
    /// The file itself.
    File(Arc<Store>),
    /// What comes out when it is unpacked.
    Pages(Box<dyn Pages>),
}

impl Dump {
    /// The file at a path.
    pub fn at(path: &Path) -> Result<Dump> {
        let dump = Store::open(path).and_then(Dump::new)?;
        Ok(Dump { path: Some(path.to_owned()), ..dump })
    }

    pub fn new(store: Store) -> Result<Dump> {
        let mut head = vec![0; HEAD];
        let len = store.read(0, &mut head)?;
        head.truncate(len);
        Ok(Dump { store: Arc::new(store), path: None, head })
    }

    /// Where it lies; bytes of the caller's lie nowhere.
    pub(super) fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// Its first bytes, as many of them as a format is told by.
    pub(super) fn head(&self) -> &[u8] {
        &self.head
    }

    /// Whether it begins with these bytes.
    pub(super) fn begins_with(&self, magic: &[u8]) -> bool {
        self.head.starts_with(magic)
    }
}

impl Opened {
    /// A dump whose extents lie in its file as they are.
    pub(super) fn in_file(kind: MemoryKind, dump: &Dump, physical: Space) -> Opened {
        Opened {
            kind,
            content: Content::File(Arc::clone(&dump.store)),
            physical,
            virtual_: Space::default(),
            notes: Notes::default(),
            remarks: Vec::new(),
            frames: Frames::default(),
        }
    }
}
