//! Crops of several frames that wait for one model's next run, and their tensors.

use std::ops::Range;

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

/// Tensors of one size, close together, in memory that was taken at start.
#[derive(Debug)]
pub struct Tensors {
    /// f32, so that the bytes of either type of number are aligned.
    memory: Vec<f32>,
    tensor_bytes: usize,
}

impl Tensors {
    /// Memory for `most` tensors.
    pub fn new(tensor_bytes: usize, most: usize) -> Self {
        Self { memory: vec![0.0; (tensor_bytes * most).div_ceil(size_of::<f32>())], tensor_bytes }
    }

    /// The tensor at a place, to be written.
    pub fn at(&mut self, place: usize) -> &mut [u8] {
        &mut bytemuck::cast_slice_mut(&mut self.memory)[place * self.tensor_bytes..][..self.tensor_bytes]
    }

    /// Some of them.
    pub fn of(&self, places: Range<usize>) -> &[u8] {
        &bytemuck::cast_slice(&self.memory)[places.start * self.tensor_bytes..places.end * self.tensor_bytes]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crops_of_several_frames_keep_their_order_tensor_and_origin() {
        let (mut waiting, mut tensors) = (Waiting::new(3), Tensors::new(3, 3));
        let rect = Rect { x0: 0.0, y0: 0.0, x1: 1.0, y1: 1.0 };
        let origins = [(0, 0, 0), (0, 4, 28), (2, 1, 0)];
        let origins = origins.map(|(item, detection, at)| Origin { item, detection, at, rect });
        for (number, origin) in origins.into_iter().enumerate() {
            assert!(!waiting.is_full());
            tensors.at(waiting.add(origin)).fill(number as u8 + 1);
        }
        assert!(waiting.is_full());
        assert_eq!(waiting.origins(), origins);
        assert_eq!(tensors.of(0..3), [1, 1, 1, 2, 2, 2, 3, 3, 3]);
        assert_eq!(tensors.of(1..2), [2, 2, 2], "one alone");
        waiting.clear();
        tensors.at(waiting.add(origins[2])).fill(9);
        assert_eq!((waiting.origins(), tensors.of(0..1)), (&origins[2..], &[9, 9, 9][..]), "memory is reused");
    }
}
