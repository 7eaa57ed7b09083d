//! From memory in use to what is done about it. Pure: the keeper asks, and says it to all.

/// What is done about the memory in use: each level does what those before it do, and more.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
#[repr(u32)]
pub enum Level {
    /// Memory lasts: held images are read where they lie.
    #[default]
    InPlace = 0,
    /// Above `soft`: a held image is copied out on its turn, and its memory free at once.
    CopyOnRead = 1,
    /// Above `hard`: new images, and those whose turn is last, go to disk.
    Spill = 2,
    /// The disk's budget is used up too: what can be made again is dropped.
    Evict = 3,
    /// Nothing is left to drop: new images are refused.
    Refuse = 4,
}

impl Level {
    /// Every level.
    pub const ALL: [Self; 5] = [Self::InPlace, Self::CopyOnRead, Self::Spill, Self::Evict, Self::Refuse];

    /// The level of this number; the last one, where there is none.
    pub fn from_number(number: u32) -> Self {
        Self::ALL.get(number as usize).copied().unwrap_or(Self::Refuse)
    }

    /// Its name in `framepipe status`.
    pub fn name(self) -> &'static str {
        match self {
            Self::InPlace => "in place",
            Self::CopyOnRead => "copy on read",
            Self::Spill => "spill to disk",
            Self::Evict => "evict",
            Self::Refuse => "refuse",
        }
    }
}

/// The limits.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Limits {
    /// Bytes of memory for all kinds.
    pub memory_bytes_max: u64,
    /// Part of it above which held images are copied out on their turn.
    pub soft: f64,
    /// Part of it above which they go to disk.
    pub hard: f64,
    /// Bytes of spilled images.
    pub disk_bytes_max: u64,
}

/// What is in use, and what else there is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Pressure {
    /// Bytes of memory in use, of all kinds.
    pub memory_bytes: u64,
    /// Of these, what can be made again.
    pub evictable_bytes: u64,
    /// Bytes of spilled images.
    pub disk_bytes: u64,
    /// Bytes that the tmpfs has free.
    pub tmpfs_free_bytes: u64,
    /// Bytes that may be taken before the cgroup's memory limit.
    pub cgroup_free_bytes: u64,
    /// Bytes that the disk has free.
    pub disk_free_bytes: u64,
}

impl Limits {
    /// The memory that there is: the budget, or what is in use and what the tmpfs and the cgroup have left, whichever is less.
    pub fn memory_bytes(&self, pressure: &Pressure) -> u64 {
        let left = pressure.tmpfs_free_bytes.min(pressure.cgroup_free_bytes);
        self.memory_bytes_max.min(pressure.memory_bytes.saturating_add(left))
    }

    /// Bytes in use at which images go to disk.
    pub fn hard_bytes(&self, pressure: &Pressure) -> u64 {
        (self.memory_bytes(pressure) as f64 * self.hard) as u64
    }

    /// The disk that there is, likewise.
    pub fn disk_bytes(&self, pressure: &Pressure) -> u64 {
        self.disk_bytes_max.min(pressure.disk_bytes.saturating_add(pressure.disk_free_bytes))
    }

    /// What is done about it. `room` is what an image may need: where no more is left on disk, the disk is full.
    pub fn level(&self, pressure: &Pressure, room: u64) -> Level {
        let memory = self.memory_bytes(pressure) as f64;
        let used = pressure.memory_bytes as f64;
        if used <= self.soft * memory && memory > 0.0 {
            return Level::InPlace;
        }
        if used <= self.hard * memory && memory > 0.0 {
            return Level::CopyOnRead;
        }
        if pressure.disk_bytes.saturating_add(room) <= self.disk_bytes(pressure) {
            return Level::Spill;
        }
        if pressure.evictable_bytes > 0 { Level::Evict } else { Level::Refuse }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { memory_bytes_max: 1000, soft: 0.5, hard: 0.9, disk_bytes_max: 5000 };
    const CALM: Pressure = Pressure {
        memory_bytes: 0,
        evictable_bytes: 0,
        disk_bytes: 0,
        tmpfs_free_bytes: 1 << 40,
        cgroup_free_bytes: 1 << 40,
        disk_free_bytes: 1 << 40,
    };

    #[test]
    fn it_degrades_in_steps() {
        let at = |memory_bytes, disk_bytes, evictable_bytes| {
            LIMITS.level(&Pressure { memory_bytes, disk_bytes, evictable_bytes, ..CALM }, 100)
        };
        assert_eq!(at(500, 0, 0), Level::InPlace);
        assert_eq!(at(501, 0, 0), Level::CopyOnRead);
        assert_eq!(at(901, 0, 0), Level::Spill);
        assert_eq!(at(901, 4900, 0), Level::Spill);
        assert_eq!(at(901, 4901, 1), Level::Evict);
        assert_eq!(at(901, 4901, 0), Level::Refuse);
        assert_eq!(at(500, 5000, 0), Level::InPlace, "a full disk alone is no reason");
        assert!(Level::ALL.windows(2).all(|pair| pair[0] < pair[1]));
        assert!(Level::ALL.iter().all(|level| Level::from_number(*level as u32) == *level));
    }

    #[test]
    fn what_others_take_of_tmpfs_cgroup_and_disk_counts() {
        let used = Pressure { memory_bytes: 300, ..CALM };
        assert_eq!(LIMITS.level(&used, 100), Level::InPlace);
        let tmpfs = Pressure { tmpfs_free_bytes: 100, ..used };
        assert_eq!((LIMITS.memory_bytes(&tmpfs), LIMITS.level(&tmpfs, 100)), (400, Level::CopyOnRead));
        let cgroup = Pressure { cgroup_free_bytes: 0, ..used };
        assert_eq!((LIMITS.memory_bytes(&cgroup), LIMITS.level(&cgroup, 100)), (300, Level::Spill));
        let disk = Pressure { disk_bytes: 10, disk_free_bytes: 99, ..cgroup };
        assert_eq!(LIMITS.level(&disk, 100), Level::Refuse);
        let nothing = Pressure { cgroup_free_bytes: 0, ..CALM };
        assert_eq!(LIMITS.level(&nothing, 100), Level::Spill, "no memory at all");
    }
}
