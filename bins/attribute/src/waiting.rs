//! Crops of several frames that wait for one model's next run.

use framepipe_vision::Rect;

/// Where a crop comes from, and where its entries go.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Origin {
    /// The frame's place in the batch of frames.
    pub item: usize,
    /// The detection's place in the frame.
    pub detection: usize,
    /// Where in the frame's slot its entries begin.
    pub at: usize,
    /// What was cropped: from its lower right corner on, where the crop was turned.
    pub rect: Rect,
}

/// One run's crops.
#[derive(Debug)]
pub struct Waiting {
    origins: Vec<Origin>,
    most: usize,
}

impl Waiting {
    /// For `most` crops.
    pub fn new(most: usize) -> Self {
        Self { origins: Vec::with_capacity(most), most }
    }

    /// Adds a crop, and says which place its tensor has. There is room while it is not full.
    pub fn add(&mut self, origin: Origin) -> usize {
        debug_assert!(!self.is_full());
        self.origins.push(origin);
        self.origins.len() - 1
    }

    /// Where the crops come from.
    pub fn origins(&self) -> &[Origin] {
        &self.origins
    }

    /// True when the next crop needs a run first.
    pub fn is_full(&self) -> bool {
        self.origins.len() == self.most
    }

    /// Forgets the crops.
    pub fn clear(&mut self) {
        self.origins.clear();
    }
}
