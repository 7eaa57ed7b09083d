//! How the cache is: read from its area at that moment, for `framepipe status`, `framepipe cache stats` and `/metrics`.

use std::fmt;

use framepipe_cache::{Area, ArenaKind, Count, Kind};
use serde::{Deserialize, Serialize};

use crate::CacheConfig;

/// How the cache is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CacheStats {
    /// What is done about the memory in use: "in place", "copy on read", "spill to disk", "evict" or "refuse".
    pub level: String,
    /// Bytes of memory in use, of all kinds.
    pub memory_bytes: u64,
    /// How many they may be.
    pub memory_bytes_max: u64,
    /// Bytes in use from which on images go to the disk, at this moment.
    pub hard_bytes: u64,
    /// Bytes of images on disk.
    pub disk_bytes: u64,
    /// How many they may be, at this moment.
    pub disk_bytes_max: u64,
    /// What is remembered, by kind.
    pub kinds: Vec<KindStats>,
    /// Images that framepipe keeps.
    pub images: ImageStats,
    /// What was given back, and what was repaired.
    pub upkeep: Upkeep,
}

/// What is remembered of one kind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KindStats {
    /// "metadata", "tensors" or "results".
    pub kind: String,
    /// False where the configuration keeps none.
    pub is_on: bool,
    /// Entries.
    pub entries: u64,
    /// Entries that there may be, where their number is bounded.
    pub entries_max: Option<u64>,
    /// Bytes of memory in use.
    pub bytes: u64,
    /// Bytes of its memory.
    pub bytes_max: u64,
    /// Found when they were looked for.
    pub hits: u64,
    /// Not found.
    pub misses: u64,
    /// Hits by looks; `None` before the first one.
    pub hit_rate: Option<f64>,
    /// Entered.
    pub insertions: u64,
    /// Gone to make room.
    pub evictions: u64,
    /// Dropped as damaged.
    pub damaged: u64,
}

/// Images that framepipe keeps.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ImageStats {
    /// Bytes of memory in use.
    pub memory_bytes: u64,
    /// Kept in memory, ever.
    pub held: u64,
    /// Written to the disk at once.
    pub spilled: u64,
    /// Moved from memory to the disk.
    pub moved: u64,
    /// Read back from the disk.
    pub restored: u64,
    /// Copied out on their turn.
    pub copied_on_read: u64,
    /// Read where they lie.
    pub read_in_place: u64,
    /// Found damaged.
    pub damaged: u64,
    /// Calls refused for want of room.
    pub refused: u64,
}

/// What was given back, and what was repaired.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Upkeep {
    /// Blocks that nobody named.
    pub swept_blocks: u64,
    /// Files on disk that nobody named.
    pub swept_files: u64,
    /// Files of the inbox removed for their age.
    pub inbox_expired: u64,
    /// Repairs of the index.
    pub repairs: u64,
    /// Words of readers for which there was no room.
    pub offers_dropped: u64,
}

impl CacheStats {
    /// Of an area.
    pub fn of(area: &Area, config: &CacheConfig) -> Self {
        let (hard_bytes, disk_bytes, disk_bytes_max) = area.limits();
        let counted = |count| area.counted(count);
        let mut entries = [0; 3];
        area.all().for_each(|(_, value)| entries[value.kind as usize] += 1);
        let kind_stats = |kind: Kind| {
            let (bytes, bytes_max) = match kind.arena() {
                Some(arena) => (area.arena(arena).bytes_in_use(), area.geometry().arenas[arena as usize].bytes()),
                None => (0, 0),
            };
            let entries_max = kind.arena().is_none().then_some(config.metadata_entries_max.into());
            let (hits, misses) = (counted(Count::Hit(kind)), counted(Count::Miss(kind)));
            KindStats {
                kind: kind.name().into(),
                is_on: area.geometry().entries > 0 && (bytes_max > 0 || kind.arena().is_none()),
                entries: entries[kind as usize],
                entries_max,
                bytes,
                bytes_max,
                hits,
                misses,
                hit_rate: (hits + misses > 0).then(|| hits as f64 / (hits + misses) as f64),
                insertions: counted(Count::Insertion(kind)),
                evictions: counted(Count::Eviction(kind)),
                damaged: counted(Count::Damage(kind)),
            }
        };
        Self {
            level: area.level().name().into(),
            memory_bytes: area.memory_bytes(),
            memory_bytes_max: config.memory_bytes_max,
            hard_bytes,
            disk_bytes,
            disk_bytes_max,
            kinds: Kind::ALL.map(kind_stats).into(),
            images: ImageStats {
                memory_bytes: area.arena(ArenaKind::Images).bytes_in_use(),
                held: counted(Count::Held),
                spilled: counted(Count::Spilled),
                moved: counted(Count::Moved),
                restored: counted(Count::Restored),
                copied_on_read: counted(Count::CopiedOnRead),
                read_in_place: counted(Count::ReadInPlace),
                damaged: counted(Count::ImageDamage),
                refused: counted(Count::Refused),
            },
            upkeep: Upkeep {
                swept_blocks: counted(Count::SweptBlocks),
                swept_files: counted(Count::SweptFiles),
                inbox_expired: counted(Count::InboxExpired),
                repairs: counted(Count::Repairs),
                offers_dropped: counted(Count::OffersDropped),
            },
        }
    }

    /// For `framepipe status`: a few lines.
    pub fn in_short(&self) -> String {
        let mut text = format!(
            "cache: {}; memory {} of {}, disk {} of {}\n",
            self.level,
            mib(self.memory_bytes),
            mib(self.memory_bytes_max),
            mib(self.disk_bytes),
            mib(self.disk_bytes_max)
        );
        for kind in self.kinds.iter().filter(|kind| kind.is_on) {
            text += &format!("{:<14}{:>8} entries, hit rate {}\n", kind.kind, kind.entries, rate(kind.hit_rate));
        }
        text
    }
}

impl fmt::Display for CacheStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { level, images, upkeep, .. } = self;
        writeln!(f, "level: {level}")?;
        writeln!(
            f,
            "memory: {} of {}; images go to the disk from {} on",
            mib(self.memory_bytes),
            mib(self.memory_bytes_max),
            mib(self.hard_bytes)
        )?;
        writeln!(f, "disk: {} of {}", mib(self.disk_bytes), mib(self.disk_bytes_max))?;
        writeln!(
            f,
            "\n{:<10}{:>9}{:>12}{:>12}{:>10}{:>10}{:>9}{:>11}{:>10}{:>9}",
            "kind", "entries", "memory", "of", "hits", "misses", "hit rate", "insertions", "evictions", "damaged"
        )?;
        for kind in self.kinds.iter().filter(|kind| kind.is_on) {
            let KindStats { kind: name, entries, hits, misses, insertions, evictions, damaged, .. } = kind;
            let (bytes, of) = match kind.entries_max {
                Some(most) => ("-".into(), format!("{most}")),
                None => (mib(kind.bytes), mib(kind.bytes_max)),
            };
            let rate = rate(kind.hit_rate);
            writeln!(
                f,
                "{name:<10}{entries:>9}{bytes:>12}{of:>12}{hits:>10}{misses:>10}{rate:>9}{insertions:>11}{evictions:>10}\
                 {damaged:>9}"
            )?;
        }
        for kind in self.kinds.iter().filter(|kind| !kind.is_on) {
            writeln!(f, "{:<10} off: the configuration keeps none", kind.kind)?;
        }
        writeln!(
            f,
            "\nkept images: {} in memory, {} on disk\n  of all that there were: {} kept in memory, {} on disk at once, {} moved to the \
             disk for want of memory, {} read back, {} copied on their turn, {} read in place, {} damaged; {} calls refused",
            mib(images.memory_bytes),
            mib(self.disk_bytes),
            images.held,
            images.spilled,
            images.moved,
            images.restored,
            images.copied_on_read,
            images.read_in_place,
            images.damaged,
            images.refused
        )?;
        writeln!(
            f,
            "given back: {} blocks of memory and {} files on disk that nobody needed any more; {} files of the inbox that \
             nobody used",
            upkeep.swept_blocks, upkeep.swept_files, upkeep.inbox_expired
        )?;
        writeln!(f, "repaired: {}; told too fast for the keeper to hear: {}", upkeep.repairs, upkeep.offers_dropped)
    }
}

fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

fn rate(rate: Option<f64>) -> String {
    rate.map_or("-".into(), |rate| format!("{:.1} %", rate * 100.0))
}
