//! Where packets are taken: memory that a parent may hold too, as it holds sockets, so that what a
//! process took and did not answer is there for the next one.
//!
//! ```text
//! recvmmsg ─► length > 0 ─► answered or noted ─► length 0
//!                  └─ the process ends ─► the next one answers it, once
//! ```
//!
//! The kernel writes packets and lengths here anyway, and a kill never leaves half of a system
//! call: so this costs one store per packet.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::fs::File;
use std::io;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::ptr::{NonNull, null_mut};

use rustix::fs::{MemfdFlags, memfd_create};

use super::control::Control;
use super::{BATCH_MAX, REQUEST_MAX};

/// Octets of a tray.
const OCTETS: usize = size_of::<Memory>();

/// The memory of a batch of packets.
pub struct Tray {
    memory: NonNull<Memory>,
    is_mapped: bool,
}

/// All of it is valid whatever its octets are; pointers in headers are of the process that wrote
/// them, and are set before they are used.
#[repr(C)]
struct Memory {
    /// How many processes have begun to answer what another one left.
    tries: u32,
    headers: [libc::mmsghdr; BATCH_MAX],
    taken: [Taken; BATCH_MAX],
}

/// A packet as it was taken.
#[repr(C)]
pub struct Taken {
    pub packet: [u8; REQUEST_MAX],
    pub peer: libc::sockaddr_storage,
    pub control: Control,
}

/// A file in memory for a tray, empty.
///
/// # Errors
/// No more open files, or no such files on this kernel.
pub fn file() -> io::Result<OwnedFd> {
    Ok(memfd_create(c"tray", MemfdFlags::CLOEXEC)?)
}

impl Tray {
    /// One in a file, which is empty or was one before.
    ///
    /// # Errors
    /// The file has another size, or there is no memory.
    pub fn over(file: impl AsFd) -> io::Result<Self> {
        let file = File::from(file.as_fd().try_clone_to_owned()?);
        match file.metadata()?.len() {
            0 => file.set_len(OCTETS as u64)?,
            len if len == OCTETS as u64 => {}
            len => {
                let why = format!("{len} octets instead of {OCTETS}");
                return Err(io::Error::new(io::ErrorKind::InvalidData, why));
            }
        }
        let (access, shared) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED);
        // SAFETY: a new mapping, at a place that the kernel chooses, of a file as long as it.
        let at = unsafe { libc::mmap(null_mut(), OCTETS, access, shared, file.as_raw_fd(), 0) };
        match NonNull::new(at.cast()) {
            Some(memory) if at != libc::MAP_FAILED => Ok(Self { memory, is_mapped: true }),
            _ => Err(io::Error::last_os_error()),
        }
    }

    fn memory(&self) -> &Memory {
        // SAFETY: the memory is ours as long as `self`, of the size and alignment of a Memory, for
        // which every pattern of octets is valid; of processes that map it only one runs.
        unsafe { self.memory.as_ref() }
    }

    fn memory_mut(&mut self) -> &mut Memory {
        // SAFETY: as above, and borrowed mutably.
        unsafe { self.memory.as_mut() }
    }

    /// The headers that packets are received with.
    pub fn headers_mut(&mut self) -> &mut [libc::mmsghdr; BATCH_MAX] {
        &mut self.memory_mut().headers
    }

    /// The packets.
    pub fn taken(&self) -> &[Taken; BATCH_MAX] {
        &self.memory().taken
    }

    /// The packets.
    pub fn taken_mut(&mut self) -> &mut [Taken; BATCH_MAX] {
        &mut self.memory_mut().taken
    }

    /// Headers and packets.
    pub fn split(&mut self) -> (&mut [libc::mmsghdr], &mut [Taken]) {
        let Memory { headers, taken, .. } = self.memory_mut();
        (headers, taken)
    }

    /// A header and its packet.
    pub fn at(&self, index: usize) -> Option<(&libc::mmsghdr, &Taken)> {
        let memory = self.memory();
        memory.headers.get(index).zip(memory.taken.get(index))
    }

    /// Notes that what another process left is tried. Tells whether it was before.
    pub fn tried(&mut self) -> bool {
        let tries = &mut self.memory_mut().tries;
        *tries = tries.saturating_add(1);
        *tries > 1
    }

    /// Nothing is left of the first `count` packets.
    pub fn clear(&mut self, count: usize) {
        let memory = self.memory_mut();
        memory.headers.iter_mut().take(count).for_each(|header| header.msg_len = 0);
        memory.tries = 0;
    }
}

/// One of this process alone.
impl Default for Tray {
    fn default() -> Self {
        let layout = Layout::new::<Memory>();
        // SAFETY: the layout is not empty.
        let memory = NonNull::new(unsafe { alloc_zeroed(layout) }.cast());
        let Some(memory) = memory else { handle_alloc_error(layout) };
        Self { memory, is_mapped: false }
    }
}

impl Drop for Tray {
    fn drop(&mut self) {
        let memory = self.memory.as_ptr();
        // SAFETY: allocated or mapped by us, with this layout, and not used any more.
        unsafe {
            match self.is_mapped {
                true => drop(libc::munmap(memory.cast(), OCTETS)),
                false => dealloc(memory.cast(), Layout::new::<Memory>()),
            }
        }
    }
}
