//! What is counted, for `framepipe cache stats` and `framepipe status`.

use crate::Kind;

/// What is counted; of each a word in the area that whoever did it adds to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Count {
    /// Found in the index.
    Hit(Kind),
    /// Looked for, and not found.
    Miss(Kind),
    /// Entered into the index.
    Insertion(Kind),
    /// Taken out of it to make room.
    Eviction(Kind),
    /// Found damaged, and dropped.
    Damage(Kind),
    /// Images held in memory.
    Held,
    /// Images written to disk, because memory had no room.
    Spilled,
    /// Images moved from memory to disk.
    Moved,
    /// Images read from disk.
    Restored,
    /// Images copied out of the store on their turn, so that their memory was free at once.
    CopiedOnRead,
    /// Images read where they lie.
    ReadInPlace,
    /// Held images that were found damaged.
    ImageDamage,
    /// Calls that were refused for want of room in memory and on disk.
    Refused,
    /// Blocks that nobody named any more, given back.
    SweptBlocks,
    /// Files of spilled images that no frame named any more, removed.
    SweptFiles,
    /// Files of clients removed from the inbox for their age.
    InboxExpired,
    /// Repairs of the index.
    Repairs,
    /// What readers had to say and the keeper had no room to hear.
    OffersDropped,
}

/// Words of the table of counts.
pub(crate) const COUNTS: usize = 32;

impl Count {
    /// Its place in the table.
    pub(crate) fn place(self) -> usize {
        match self {
            Self::Hit(kind) => kind as usize,
            Self::Miss(kind) => 3 + kind as usize,
            Self::Insertion(kind) => 6 + kind as usize,
            Self::Eviction(kind) => 9 + kind as usize,
            Self::Damage(kind) => 12 + kind as usize,
            Self::Held => 15,
            Self::Spilled => 16,
            Self::Moved => 17,
            Self::Restored => 18,
            Self::CopiedOnRead => 19,
            Self::ReadInPlace => 20,
            Self::ImageDamage => 21,
            Self::Refused => 22,
            Self::SweptBlocks => 23,
            Self::SweptFiles => 24,
            Self::InboxExpired => 25,
            Self::Repairs => 26,
            Self::OffersDropped => 27,
        }
    }
}
