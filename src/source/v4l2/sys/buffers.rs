//! Mapped buffers of one queue.
//!
//! In: an open node with a format set. Out: buffers in turn, each with its bytes while it is ours.
//! Not here: formats, events (the module above).
#![allow(unsafe_code)]

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;
use v4l::v4l_sys as raw;

use super::kernel::{ioctl, libc_int, zeroed};
use super::mapping::Mapping;
use super::{MAX_PLANES, Queue, duration_of, fd_of, stream_off};

/// One dequeued buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dequeued {
    pub index: usize,
    /// `V4L2_BUF_FLAG_*`.
    pub flags: u32,
    pub sequence: u32,
    /// Since an epoch that the flags name (monotonic clock, or copied from the other queue).
    pub timestamp: Duration,
    /// For each plane: bytes before the picture, and bytes up to its end.
    pub planes: Vec<(usize, usize)>,
}

impl Dequeued {
    /// The driver says that the data is damaged.
    pub fn is_damaged(&self) -> bool {
        self.flags & raw::V4L2_BUF_FLAG_ERROR != 0
    }

    /// The last buffer of a drain.
    pub fn is_last(&self) -> bool {
        self.flags & raw::V4L2_BUF_FLAG_LAST != 0
    }

    pub fn is_key_frame(&self) -> bool {
        self.flags & raw::V4L2_BUF_FLAG_KEYFRAME != 0
    }

    /// Stamped with CLOCK_MONOTONIC.
    pub fn is_monotonic(&self) -> bool {
        self.flags & raw::V4L2_BUF_FLAG_TIMESTAMP_MASK == raw::V4L2_BUF_FLAG_TIMESTAMP_MONOTONIC
    }
}

/// Mapped buffers of one queue. A buffer's bytes can be reached only while the device does not
/// have it. Dropping stops the queue and frees the buffers, and ignores errors: the device may be
/// gone.
#[derive(Debug)]
pub struct Buffers {
    fd: Arc<OwnedFd>,
    queue: Queue,
    maps: Vec<Vec<Mapping>>,
    is_queued: Vec<bool>,
}

impl Buffers {
    /// Asks for `count` buffers of `queue` with `planes` planes each (of the format that is set;
    /// 1 for single-planar queues) and maps them. The driver may give more or fewer.
    ///
    /// # Errors
    /// `EBUSY` when somebody else streams, `EINVAL` when the queue cannot be mapped, `ENOMEM`,
    /// and those of a device that is gone.
    pub fn new(fd: Arc<OwnedFd>, queue: Queue, count: u32, planes: usize) -> nix::Result<Self> {
        let granted = request_buffers(&fd, queue, count)?;
        let mut buffers = Self {
            fd,
            queue,
            maps: Vec::new(),
            is_queued: Vec::new(),
        };
        // From here on a failure frees what was asked for.
        for index in 0..granted {
            let planes = query_planes(&buffers.fd, queue, index, planes)?;
            let maps = planes
                .into_iter()
                .map(|(length, offset)| Mapping::new(&buffers.fd, length, offset))
                .collect::<nix::Result<Vec<_>>>()?;
            buffers.maps.push(maps);
            buffers.is_queued.push(false);
        }
        if buffers.maps.is_empty() {
            return Err(Errno::ENOMEM);
        }
        Ok(buffers)
    }

    pub fn len(&self) -> usize {
        self.maps.len()
    }

    pub fn is_empty(&self) -> bool {
        self.maps.is_empty()
    }

    /// A buffer that the device does not have.
    pub fn free(&self) -> Option<usize> {
        self.is_queued.iter().position(|queued| !queued)
    }

    /// How many buffers the device has.
    pub fn queued(&self) -> usize {
        self.is_queued.iter().filter(|queued| **queued).count()
    }

    /// The whole of a plane; `None` while the device has the buffer, or for one that is not
    /// there.
    pub fn bytes(&self, index: usize, plane: usize) -> Option<&[u8]> {
        if *self.is_queued.get(index)? {
            return None;
        }
        // SAFETY: mapped for as long as `self`; the device, which alone could write, does not
        // have the buffer, and `queue` needs `&mut self`.
        Some(unsafe { self.maps.get(index)?.get(plane)?.bytes() })
    }

    /// As [`Buffers::bytes`], for writing.
    pub fn bytes_mut(&mut self, index: usize, plane: usize) -> Option<&mut [u8]> {
        if *self.is_queued.get(index)? {
            return None;
        }
        // SAFETY: as in `bytes`, and `&mut self` excludes any other slice of it.
        Some(unsafe { self.maps.get_mut(index)?.get_mut(plane)?.bytes_mut() })
    }

    /// Gives a buffer to the device. `used` are the bytes written to each plane and `timestamp`
    /// is copied to what comes out (output queues; capture queues pass `&[]` and zero).
    ///
    /// # Errors
    /// `EINVAL` when it is queued already or is not there, and the driver's own.
    pub fn queue(&mut self, index: usize, used: &[usize], timestamp: Duration) -> nix::Result<()> {
        let maps = self.maps.get(index).ok_or(Errno::EINVAL)?;
        if self.is_queued[index] || maps.len() > MAX_PLANES {
            return Err(Errno::EINVAL);
        }
        let mut planes: [raw::v4l2_plane; MAX_PLANES] = zeroed();
        for (n, (plane, map)) in planes.iter_mut().zip(maps).enumerate() {
            plane.length = map.len() as u32;
            let used = used.get(n).copied().unwrap_or(0);
            plane.bytesused = used.min(map.len()) as u32;
        }
        let mut buffer = self.describe(index);
        buffer.field = raw::v4l2_field_V4L2_FIELD_NONE;
        buffer.timestamp.tv_sec = timestamp.as_secs() as _;
        buffer.timestamp.tv_usec = timestamp.subsec_micros() as _;
        if self.queue.is_mplane() {
            buffer.length = maps.len() as u32;
            buffer.m.planes = planes.as_mut_ptr();
        } else {
            (buffer.bytesused, buffer.length) = (planes[0].bytesused, planes[0].length);
        }
        // SAFETY: `buffer` and the planes it points to are alive for the call and as long as they
        // say. The device may write to the mapping from here on: `is_queued` bars slices of it.
        unsafe { ioctl::qbuf(fd_of(&self.fd), &mut buffer) }?;
        self.is_queued[index] = true;
        Ok(())
    }

    /// Takes back a buffer that the device is done with; `None` when there is none yet.
    ///
    /// # Errors
    /// `EPIPE` after the last buffer of a drain, `EIO`, `ENODEV`, `EINVAL` when not streaming.
    pub fn dequeue(&mut self) -> nix::Result<Option<Dequeued>> {
        let mut planes: [raw::v4l2_plane; MAX_PLANES] = zeroed();
        let mut buffer = self.describe(0);
        if self.queue.is_mplane() {
            buffer.length = MAX_PLANES as u32;
            buffer.m.planes = planes.as_mut_ptr();
        }
        // SAFETY: as in `queue`.
        match unsafe { ioctl::dqbuf(fd_of(&self.fd), &mut buffer) } {
            Ok(_) => {}
            Err(Errno::EAGAIN) => return Ok(None),
            Err(errno) => return Err(errno),
        }
        let index = buffer.index as usize;
        let maps = self.maps.get(index).ok_or(Errno::EPROTO)?;
        self.is_queued[index] = false;
        if !self.queue.is_mplane() {
            planes[0].bytesused = buffer.bytesused;
        }
        let planes = planes.iter().zip(maps).map(|(plane, map)| {
            let end = (plane.bytesused as usize).min(map.len());
            ((plane.data_offset as usize).min(end), end)
        });
        Ok(Some(Dequeued {
            index,
            flags: buffer.flags,
            sequence: buffer.sequence,
            timestamp: duration_of(&buffer.timestamp),
            planes: planes.collect(),
        }))
    }

    /// Starts the queue.
    ///
    /// # Errors
    /// The driver's own; `ENOSPC` or `EPIPE` for a USB bus or pipeline that cannot carry it.
    pub fn start(&self) -> nix::Result<()> {
        let kind = self.queue.raw() as libc_int;
        // SAFETY: reads one int.
        unsafe { ioctl::streamon(fd_of(&self.fd), &kind) }.map(drop)
    }

    /// Stops the queue; every buffer is ours again.
    ///
    /// # Errors
    /// `ENODEV` when the device is gone (it has no buffer then either).
    pub fn stop(&mut self) -> nix::Result<()> {
        stream_off(&self.fd, self.queue)?;
        self.is_queued.fill(false);
        Ok(())
    }

    fn describe(&self, index: usize) -> raw::v4l2_buffer {
        describe_buffer(self.queue, index as u32)
    }
}

impl Drop for Buffers {
    fn drop(&mut self) {
        let _ = self.stop();
        self.maps.clear();
        let _ = request_buffers(&self.fd, self.queue, 0);
    }
}

fn request_buffers(fd: impl AsFd, queue: Queue, count: u32) -> nix::Result<u32> {
    let mut request: raw::v4l2_requestbuffers = zeroed();
    request.count = count;
    request.type_ = queue.raw();
    request.memory = raw::v4l2_memory_V4L2_MEMORY_MMAP;
    // SAFETY: one struct, alive for the call.
    unsafe { ioctl::reqbufs(fd_of(fd.as_fd()), &mut request) }?;
    Ok(request.count)
}

fn describe_buffer(queue: Queue, index: u32) -> raw::v4l2_buffer {
    let mut buffer: raw::v4l2_buffer = zeroed();
    buffer.index = index;
    buffer.type_ = queue.raw();
    buffer.memory = raw::v4l2_memory_V4L2_MEMORY_MMAP;
    buffer
}

/// Whether the driver has given a buffer of this number.
pub(super) fn is_there(fd: impl AsFd, queue: Queue, index: usize) -> bool {
    query_planes(fd, queue, index as u32, 1).is_ok()
}

/// Length and offset of each plane of one buffer.
fn query_planes(
    fd: impl AsFd,
    queue: Queue,
    index: u32,
    expected: usize,
) -> nix::Result<Vec<(usize, i64)>> {
    let mut planes: [raw::v4l2_plane; MAX_PLANES] = zeroed();
    let mut buffer = describe_buffer(queue, index);
    if queue.is_mplane() {
        buffer.length = MAX_PLANES as u32;
        buffer.m.planes = planes.as_mut_ptr();
    }
    // SAFETY: the struct and the planes it points to are alive for the call.
    unsafe { ioctl::querybuf(fd_of(fd.as_fd()), &mut buffer) }?;
    if !queue.is_mplane() {
        // SAFETY: `offset` is the member of mmap buffers; any bits are a number.
        let offset = unsafe { buffer.m.offset };
        return Ok(vec![(buffer.length as usize, i64::from(offset))]);
    }
    let count = (buffer.length as usize).min(expected).min(MAX_PLANES);
    let planes = planes.iter().take(count).map(|plane| {
        // SAFETY: `mem_offset` is the member of mmap buffers; any bits are a number.
        let offset = unsafe { plane.m.mem_offset };
        (plane.length as usize, i64::from(offset))
    });
    Ok(planes.collect())
}
