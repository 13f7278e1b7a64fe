//! Frames of the machine, where a guest's page tables hold those: a paravirtual guest of Xen sees memory by numbers of its
//! own, and its page tables have the machine's.

/// Bits of a number within a page.
const SHIFT: u32 = 12;

/// Neighbours in the machine that are neighbours for the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Run {
    machine: u64,
    guest: u32,
    count: u32,
}

/// Which page of the guest each frame of the machine is; where there are none, they are the same.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Frames(Vec<Run>);

impl Frames {
    /// Notes that a page of the guest is a frame of the machine; numbers that no memory has are left out.
    pub fn push(&mut self, guest: u64, machine: u64) {
        let Ok(guest) = u32::try_from(guest) else { return };
        match self.0.last_mut() {
            Some(last)
                if machine == last.machine.wrapping_add(last.count.into())
                    && last.guest.checked_add(last.count) == Some(guest) =>
            {
                last.count += 1;
            }
            _ => self.0.push(Run { machine, guest, count: 1 }),
        }
    }

    /// Makes them ready to be asked.
    pub fn sorted(mut self) -> Frames {
        self.0.sort_unstable();
        self
    }

    /// Where what a page table calls this address is for the guest; none where the guest does not have it.
    pub fn guest(&self, machine: u64) -> Option<u64> {
        if self.0.is_empty() {
            return Some(machine);
        }
        let frame = machine >> SHIFT;
        let run = self.0[..self.0.partition_point(|run| run.machine <= frame)].last()?;
        let within = frame - run.machine;
        let page = u64::from(run.guest) + within;
        (within < run.count.into()).then_some(page << SHIFT | machine & ((1 << SHIFT) - 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_there_are_none_the_guest_s_are_the_machine_s() {
        assert_eq!(Frames::default().guest(0x1234_5678), Some(0x1234_5678));
    }

    #[test]
    fn each_frame_has_its_page() {
        let mut frames = Frames::default();
        for (guest, machine) in [(0, 0x500), (1, 0x501), (2, 0x300), (3, 0x301), (u64::MAX, 0x700), (4, u64::MAX)] {
            frames.push(guest, machine);
        }
        let frames = frames.sorted();
        for (guest, machine) in [(0u64, 0x500u64), (1, 0x501), (2, 0x300), (3, 0x301)] {
            assert_eq!(frames.guest(machine << 12 | 0x18), Some(guest << 12 | 0x18));
        }
        for absent in [0x2ff, 0x302, 0x4ff, 0x502, 0x700, 0] {
            assert_eq!(frames.guest(absent << 12), None, "{absent:#x}");
        }
    }
}
