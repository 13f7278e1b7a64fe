//! The code of a cluster, as the passes change it.

/// How far a cluster is followed: up to a stage, and within it a row, not included.
pub(super) type Until = (u8, u32);
pub(super) const END: Until = (u8::MAX, u32::MAX);

/// The code of a cluster under a pass's hands.
pub(super) struct ClusterCode<'b> {
    pub start: u64,
    pub bytes: &'b mut [u8],
}

impl ClusterCode<'_> {
    pub fn at(&mut self, address: u64, len: usize) -> Option<&mut [u8]> {
        let at = usize::try_from(address.checked_sub(self.start)?).ok()?;
        self.bytes.get_mut(at..at.checked_add(len)?)
    }

    pub fn put(&mut self, address: u64, bytes: &[u8]) {
        if let Some(place) = self.at(address, bytes.len()) {
            place.copy_from_slice(bytes);
        }
    }
}
