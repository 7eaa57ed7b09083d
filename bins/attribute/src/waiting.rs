//! Crops of several frames that wait for one model's next run, their tensors close together.

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

/// One run's crops, in memory that was taken at start.
#[derive(Debug)]
pub struct Waiting {
    /// f32, so that the bytes of either type of number are aligned.
    memory: Vec<f32>,
    tensor_bytes: usize,
    origins: Vec<Origin>,
    most: usize,
}

impl Waiting {
    /// Memory for `most` crops.
    pub fn new(tensor_bytes: usize, most: usize) -> Self {
        let memory = vec![0.0; (tensor_bytes * most).div_ceil(size_of::<f32>())];
        Self { memory, tensor_bytes, origins: Vec::with_capacity(most), most }
    }

    /// Adds a crop; its tensor is to be written into what is returned. There is room while it is not full.
    pub fn add(&mut self, origin: Origin) -> &mut [u8] {
        debug_assert!(!self.is_full());
        let at = self.origins.len() * self.tensor_bytes;
        self.origins.push(origin);
        &mut bytemuck::cast_slice_mut(&mut self.memory)[at..][..self.tensor_bytes]
    }

    /// The tensors of some crops.
    pub fn tensors(&self, crops: Range<usize>) -> &[u8] {
        &bytemuck::cast_slice(&self.memory)[crops.start * self.tensor_bytes..crops.end * self.tensor_bytes]
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crops_of_several_frames_keep_their_order_tensor_and_origin() {
        let mut waiting = Waiting::new(3, 3);
        let rect = Rect { x0: 0.0, y0: 0.0, x1: 1.0, y1: 1.0 };
        let origins = [(0, 0, 0), (0, 4, 28), (2, 1, 0)];
        let origins = origins.map(|(item, detection, at)| Origin { item, detection, at, rect });
        for (number, origin) in origins.into_iter().enumerate() {
            assert!(!waiting.is_full());
            waiting.add(origin).fill(number as u8 + 1);
        }
        assert!(waiting.is_full());
        assert_eq!(waiting.origins(), origins);
        assert_eq!(waiting.tensors(0..3), [1, 1, 1, 2, 2, 2, 3, 3, 3]);
        assert_eq!(waiting.tensors(1..2), [2, 2, 2], "one alone");
        waiting.clear();
        waiting.add(origins[2]).fill(9);
        assert_eq!((waiting.origins(), waiting.tensors(0..1)), (&origins[2..], &[9, 9, 9][..]), "memory is reused");
    }
}
