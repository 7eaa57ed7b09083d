//! What a pipeline takes of the host's memory: what it reserves when it starts, and what may come to it while it serves.

use framepipe_shm::Segment;

use crate::{Config, Device, Plan, PlanError};

/// Bytes, beside what its processes take for themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryNeed {
    /// Of the segment: reserved in `paths.shm` at the start.
    pub segment: u64,
    /// Of slabs in the host's memory (`pipeline.device = "memfd"`): reserved at the start.
    pub slabs: u64,
    /// Of the cache: in `paths.shm`, as it fills.
    pub cache: u64,
    /// Of unread results: in `paths.shm`, before they go to the disk.
    pub journal: u64,
    /// Of the images in flight: in the inboxes.
    pub inbox: u64,
}

impl MemoryNeed {
    /// Of a pipeline with these models.
    ///
    /// # Errors
    /// When the pools cannot be.
    pub fn of(config: &Config, plan: &Plan) -> Result<Self, PlanError> {
        let handed = |pool: &crate::Pool| plan.geometry.pools[*pool as usize].bytes();
        let slabs = match config.device {
            Device::Memfd => config.device.handed_pools().iter().map(handed).sum(),
            Device::Cpu | Device::Gpu(_) => 0,
        };
        Ok(Self {
            segment: Segment::bytes_needed(&plan.geometry)?,
            slabs,
            cache: config.cache.memory_bytes_max,
            journal: config.journal.memory_bytes_max,
            inbox: config.server.bytes_max,
        })
    }

    /// In `paths.shm`, at most.
    pub fn shm(&self) -> u64 {
        self.segment.saturating_add(self.cache).saturating_add(self.journal)
    }

    /// Of all kinds, at most.
    pub fn all(&self) -> u64 {
        self.shm().saturating_add(self.slabs).saturating_add(self.inbox)
    }
}
