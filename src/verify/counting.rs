//! What counts calls (`retbleed=stuff`): the template of a pad, and the rows of `.call_sites`.

use std::sync::OnceLock;

use crate::sites::AddressTable;

/// Longest template there is room for.
pub(super) const MAX_TEMPLATE: u64 = 32;

/// What counting takes.
#[derive(Debug, Default)]
pub(super) struct Counting {
    /// Where the template of a pad lies, and its bytes as loaded; empty where this kernel counts no calls.
    pub template: (u64, Vec<u8>),
    sites: OnceLock<Vec<u64>>,
}

impl Counting {
    /// Rows of `.call_sites`, by address.
    pub fn call_sites(&self, rows: &AddressTable) -> &[u64] {
        self.sites.get_or_init(|| {
            let mut sites: Vec<u64> = rows.rows().map(|(_, address)| address).collect();
            sites.sort_unstable();
            sites.dedup();
            sites
        })
    }
}
