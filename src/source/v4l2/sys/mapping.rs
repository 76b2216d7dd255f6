//! One mapped plane of a buffer.
//!
//! In: a node, length and offset as it told them. Out: its bytes.
//! Not here: who may touch them when (sys).
#![allow(unsafe_code)]

use std::num::NonZeroUsize;
use std::os::fd::AsFd;
use std::os::raw::c_void;
use std::ptr::NonNull;
use std::slice;

use nix::errno::Errno;
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};

/// Memory shared with a device, unmapped when dropped.
#[derive(Debug)]
pub(super) struct Mapping {
    start: NonNull<c_void>,
    len: usize,
}

// SAFETY: plain memory of the process, reached through this owner alone, from any thread.
unsafe impl Send for Mapping {}
// SAFETY: `&Mapping` reads length and address; bytes are handed out under `bytes`' own terms.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps `len` bytes of `fd` at `offset`.
    pub(super) fn new(fd: impl AsFd, len: usize, offset: i64) -> nix::Result<Self> {
        let size = NonZeroUsize::new(len).ok_or(Errno::EINVAL)?;
        #[allow(clippy::useless_conversion)] // not on 32-bit targets
        let offset = offset.try_into().map_err(|_| Errno::EOVERFLOW)?;
        let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice changes no existing memory.
        let start = unsafe { mmap(None, size, access, MapFlags::MAP_SHARED, fd, offset) }?;
        Ok(Self { start, len })
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// # Safety
    /// Nobody, the device included, may write to the memory while the slice lives.
    pub(super) unsafe fn bytes(&self) -> &[u8] {
        // SAFETY: mapped for `len` bytes until drop; the caller keeps writers away.
        unsafe { slice::from_raw_parts(self.start.as_ptr().cast(), self.len) }
    }

    /// # Safety
    /// Nobody else, the device included, may read or write the memory while the slice lives.
    pub(super) unsafe fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: mapped for `len` bytes until drop; the caller keeps everybody else away.
        unsafe { slice::from_raw_parts_mut(self.start.as_ptr().cast(), self.len) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: mapped by `new` with this length; no slice outlives `self`.
        let _ = unsafe { munmap(self.start, self.len) };
    }
}
