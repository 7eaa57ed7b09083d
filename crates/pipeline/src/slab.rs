//! Slabs: the memory of handed pools, which lies in no file. The launcher has a descriptor of each, and every stage that
//! reads or writes the pool inherits one as it starts.

use std::os::fd::{AsFd as _, FromRawFd as _, OwnedFd};

use framepipe_shm::HostSlab;
use serde::{Deserialize, Serialize};

use crate::Pool;

/// A pool's slab, as a process has it.
#[derive(Debug)]
pub struct Slab {
    /// The pool.
    pub pool: Pool,
    /// A memfd, or what the GPU's driver exported.
    pub memory: OwnedFd,
    /// Bytes of it: those of the pool's slots at least, as a device may round them up.
    pub bytes: u64,
    /// True where it lies in a device's memory: it can be imported there, and not mapped.
    pub is_on_device: bool,
}

/// A slab, as a start order says it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct InheritedSlab {
    /// The pool's number.
    pub pool: usize,
    /// The descriptor's number in the process that is started.
    pub descriptor: i32,
    /// See [`Slab::bytes`].
    pub bytes: u64,
    /// See [`Slab::is_on_device`].
    pub is_on_device: bool,
}

impl Slab {
    /// The slab, where this process can map it.
    pub(crate) fn in_host_memory(&self) -> Option<HostSlab<'_>> {
        (!self.is_on_device).then(|| HostSlab { pool: self.pool as usize, memory: self.memory.as_fd() })
    }

    /// What the launcher says of it to a process that inherits it under this number.
    pub fn inherited_as(&self, descriptor: i32) -> InheritedSlab {
        InheritedSlab { pool: self.pool as usize, descriptor, bytes: self.bytes, is_on_device: self.is_on_device }
    }
}

impl InheritedSlab {
    /// Takes the slab that this process inherited.
    pub(crate) fn take(&self) -> Slab {
        let pool = Pool::ALL.into_iter().find(|pool| *pool as usize == self.pool);
        let pool = pool.expect("the launcher is of this version, and knows the same pools");
        Slab { pool, memory: inherited(self.descriptor), bytes: self.bytes, is_on_device: self.is_on_device }
    }
}

/// A descriptor that the launcher's start order names. To be taken once.
#[allow(unsafe_code, reason = "a file descriptor passed by number")]
pub(crate) fn inherited(number: i32) -> OwnedFd {
    // SAFETY: the launcher passed this descriptor to this process for this use, and named it once.
    unsafe { OwnedFd::from_raw_fd(number) }
}
