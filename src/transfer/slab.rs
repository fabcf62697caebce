//! Buffers for bytes on their way. They are used again, so that memory is touched once, and begin where a disk can take
//! them without the kernel's page cache.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

/// What offsets, lengths and addresses of direct input and output are multiples of, in bytes: a page, which every block size
/// that Linux had for long divides.
pub(super) const ALIGN: usize = 4096;

/// Buffers of one size. Cheap to clone.
#[derive(Clone)]
pub(super) struct Pool {
    size: usize,
    free: Arc<Mutex<Vec<Vec<u8>>>>,
}

/// A buffer that is being filled.
pub(super) struct Slab {
    memory: Vec<u8>,
    begin: usize,
    length: usize,
    most: usize,
    pool: Pool,
}

impl Pool {
    /// Buffers of `size` bytes.
    pub(super) fn new(size: usize) -> Self {
        Self { size, free: Arc::default() }
    }

    /// An empty buffer that takes `most` bytes, no more than the pool's size.
    pub(super) fn slab(&self, most: usize) -> Slab {
        let used = self.free.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let memory = used.unwrap_or_else(|| vec![0; self.size + ALIGN]);
        // Anything else than a small number would only mean that the disk is written by way of the page cache.
        let begin = memory.as_ptr().align_offset(ALIGN).min(ALIGN);
        Slab { memory, begin, length: 0, most: most.min(self.size), pool: self.clone() }
    }
}

impl Slab {
    /// Takes as many of the bytes as there is room for, and says how many.
    pub(super) fn take(&mut self, bytes: &[u8]) -> usize {
        let count = bytes.len().min(self.most - self.length);
        let from = self.begin + self.length;
        if let (Some(room), Some(bytes)) = (self.memory.get_mut(from..from + count), bytes.get(..count)) {
            room.copy_from_slice(bytes);
        }
        self.length += count;
        count
    }

    /// Bytes that it holds.
    pub(super) fn len(&self) -> usize {
        self.length
    }

    /// Whether nothing more goes in.
    pub(super) fn is_full(&self) -> bool {
        self.length == self.most
    }

    /// All of its room, to be read into: what was read is told by [`Slab::holds`].
    pub(super) fn room(&mut self) -> &mut [u8] {
        self.memory.get_mut(self.begin..self.begin + self.most).unwrap_or_default()
    }

    /// Its first `length` bytes are what it holds.
    pub(super) fn holds(&mut self, length: usize) {
        self.length = length.min(self.most);
    }

    /// Its bytes, for everybody who needs them. The memory comes back to the pool with the last of them.
    pub(super) fn freeze(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for Slab {
    fn as_ref(&self) -> &[u8] {
        self.memory.get(self.begin..self.begin + self.length).unwrap_or_default()
    }
}

impl Drop for Slab {
    fn drop(&mut self) {
        let memory = std::mem::take(&mut self.memory);
        self.pool.free.lock().unwrap_or_else(PoisonError::into_inner).push(memory);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_used_again_and_begins_at_a_page() {
        let pool = Pool::new(8192);
        let mut slab = pool.slab(8192);
        assert_eq!((slab.take(&[1; 5000]), slab.len(), slab.is_full()), (5000, 5000, false));
        assert_eq!((slab.take(&[2; 5000]), slab.len(), slab.is_full()), (3192, 8192, true));
        let bytes = slab.freeze();
        assert_eq!(bytes.as_ptr().align_offset(ALIGN), 0);
        assert_eq!((bytes.len(), bytes.first(), bytes.last()), (8192, Some(&1), Some(&2)));
        let (tail, place) = (bytes.slice(4096..), bytes.as_ptr());
        drop(bytes);
        assert_ne!(pool.slab(10).freeze().as_ptr(), place, "it is still held");
        drop(tail);
        let mut again = pool.slab(10);
        assert_eq!(again.take(&[3; 100]), 10);
        assert_eq!(again.freeze().as_ref(), [3; 10]);
    }
}
