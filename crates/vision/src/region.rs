//! A rectangle of whole pixels.

/// Whole pixels of an image; pixel edges at the integers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    /// First column.
    pub left: u32,
    /// First row.
    pub top: u32,
    /// Column behind the last.
    pub right: u32,
    /// Row behind the last.
    pub bottom: u32,
}

impl Region {
    /// Columns; 0 where the right edge is not right of the left one.
    pub fn width(&self) -> u32 {
        self.right.saturating_sub(self.left)
    }

    /// Rows; 0 where the bottom is not below the top.
    pub fn height(&self) -> u32 {
        self.bottom.saturating_sub(self.top)
    }

    /// Bytes of its pixels as RGB8.
    pub fn rgb_bytes(&self) -> usize {
        3 * self.width() as usize * self.height() as usize
    }

    /// The smallest that has both.
    pub fn union(self, other: Self) -> Self {
        Self {
            left: self.left.min(other.left),
            top: self.top.min(other.top),
            right: self.right.max(other.right),
            bottom: self.bottom.max(other.bottom),
        }
    }

    /// True where it has pixels, all of them of an image of `size`.
    pub fn is_within(&self, (width, height): (u32, u32)) -> bool {
        self.width() > 0 && self.height() > 0 && self.right <= width && self.bottom <= height
    }
}
