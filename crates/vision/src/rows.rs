//! Pixels as the kernel reads them: a row at a time, from the top down. Rows that nobody asks for need never be made.

use std::convert::Infallible;

use crate::{DecodeScale, FrameView, PixelOrder};

/// An image's rows.
pub trait Rows {
    /// Why a row cannot be had.
    type Error;

    /// Columns and rows, at the scale at which they are given.
    fn size(&self) -> (u32, u32);

    /// Columns and rows of the image before it was scaled.
    fn source_size(&self) -> (u32, u32);

    /// The scale at which rows are given.
    fn scale(&self) -> DecodeScale;

    /// Order of a pixel's bytes.
    fn order(&self) -> PixelOrder;

    /// The column at which rows begin: above 0 where only a part of each is there.
    fn first_column(&self) -> u32 {
        0
    }

    /// The pixels of row `y`. Rows are asked for from the top down; the latest may be asked for again.
    ///
    /// # Errors
    /// Where the row cannot be had: the image is broken there.
    fn row(&mut self, y: u32) -> Result<&[u8], Self::Error>;
}

impl Rows for FrameView<'_> {
    type Error = Infallible;

    fn size(&self) -> (u32, u32) {
        (self.width(), self.height())
    }

    fn source_size(&self) -> (u32, u32) {
        FrameView::source_size(self)
    }

    fn scale(&self) -> DecodeScale {
        FrameView::scale(self)
    }

    fn order(&self) -> PixelOrder {
        FrameView::order(self)
    }

    fn first_column(&self) -> u32 {
        FrameView::first_column(self)
    }

    fn row(&mut self, y: u32) -> Result<&[u8], Infallible> {
        Ok(FrameView::row(self, y))
    }
}
