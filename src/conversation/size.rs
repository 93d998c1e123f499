//! How large the packets of a conversation are. What its path carries may shrink; a segment that was cut before stays as large
//! as it is until it is acknowledged.

use crate::segment::{HEADER, ahead};

/// Sizes of KCP packets, bytes.
pub(super) struct PacketSize {
    /// Of the largest that is made from now on.
    mtu: usize,
    /// Some that are not acknowledged may be larger: so large, and all of them before this number.
    larger: Option<(usize, u32)>,
}

impl PacketSize {
    pub(super) fn new(mtu: usize) -> PacketSize {
        PacketSize { mtu, larger: None }
    }

    /// The size of the largest packet that is made.
    pub(super) fn mtu(&self) -> usize {
        self.mtu
    }

    /// Bytes of data of the largest segment that is made.
    pub(super) fn mss(&self) -> usize {
        self.mtu - HEADER
    }

    /// New segments are cut for packets of so many bytes from now on. `first`: all before it were acknowledged; `next`: the
    /// number of the next segment. False if that is nothing new.
    pub(super) fn set(&mut self, mtu: usize, first: u32, next: u32) -> bool {
        if mtu == self.mtu {
            return false;
        }
        let longest = self.longest(first);
        self.larger = (longest > mtu).then_some((longest, next));
        self.mtu = mtu;
        true
    }

    /// The size of the largest packet that may have to be sent, where all before `first` were acknowledged.
    pub(super) fn longest(&self, first: u32) -> usize {
        match self.larger {
            Some((size, before)) if ahead(before, first) > 0 => size.max(self.mtu),
            _ => self.mtu,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_cut_larger_counts_until_it_is_acknowledged() {
        let mut size = PacketSize::new(1400);
        assert!(!size.set(1400, 0, 5) && size.set(1200, 0, 5));
        assert_eq!((size.longest(4), size.longest(5)), (1400, 1200));
        assert!(size.set(1300, 4, 9));
        assert_eq!((size.longest(8), size.longest(9)), (1400, 1300));
        assert!(size.set(1400, 9, 12));
        assert_eq!(size.longest(9), 1400);
    }
}
