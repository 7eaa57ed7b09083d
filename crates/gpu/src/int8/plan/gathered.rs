//! How the network's input is gathered: what a block of threads fetches, and where in it each byte of an output pixel lies.

use super::parameters::GatherParameters;
use crate::GpuError;
use crate::int8::graph::{Tensor, Window};

/// Most bytes of an output pixel.
const PIXEL_MAX: usize = 512;
/// Output pixels of a block, where shared memory has room for them.
const COLUMNS: usize = 64;
/// Shared memory that every device gives a block unasked.
const SHARED_BYTES: usize = 48 << 10;
/// Bytes between output pixels in shared memory: `GATHER_GAP` in `kernels/int8.cu`.
const GAP: usize = 16;

impl GatherParameters {
    /// Of a first convolution's window over samples of these channels, rows and columns, into pixels of `to`; its addresses are
    /// left out.
    pub(super) fn new(window: &Window, [planes, height, width]: [usize; 3], to: &Tensor) -> Result<Self, GpuError> {
        if to.pixel() > PIXEL_MAX {
            let reason = format!("a first window of {} numbers, where {PIXEL_MAX} can be", to.channels);
            return Err(GpuError::Argument(reason));
        }
        let of = |columns: usize| Self {
            in_size: [height as i32, width as i32],
            out_size: super::size(to),
            stride: window.stride.map(|step| step as i32),
            pad: window.pad.map(|side| side as i32),
            window_height: window.height as i32,
            planes: planes as i32,
            columns: columns as i32,
            span: ((columns - 1) * window.stride[1] + window.width) as i32,
            out_pixel: to.pixel() as i32,
            inverse_scale: 1.0 / to.steps.scale,
            zero: to.steps.zero.into(),
            ..Self::default()
        };
        let mut gather = of(COLUMNS);
        while gather.shared_bytes() > SHARED_BYTES {
            gather = of(gather.columns as usize / 2); // one column has room: 3 KiB at most
        }
        Ok(gather)
    }

    /// Shared memory of a block: what it makes, the places, and what it fetches.
    pub(super) fn shared_bytes(&self) -> usize {
        let [columns, pixel] = [self.columns, self.out_pixel].map(|count| count as usize);
        let fetched = (self.planes * self.window_height * self.span) as usize;
        columns * (pixel + GAP) + pixel * size_of::<i32>() + fetched
    }

    /// By byte of an output pixel: where its number lies among what a block fetches for its first pixel. The numbers of the
    /// window come pixel by pixel; what fills the pixel up is -1.
    pub(super) fn places_of(&self, window: &Window, to: &Tensor) -> Vec<i32> {
        let pixels = (0..window.height as i32).flat_map(|y| (0..window.width as i32).map(move |x| (y, x)));
        let place = |(y, x): (i32, i32), plane: i32| (plane * self.window_height + y) * self.span + x;
        let mut places: Vec<i32> =
            pixels.flat_map(|pixel| (0..self.planes).map(move |plane| place(pixel, plane))).collect();
        places.resize(to.pixel(), -1);
        places
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::int8::{WINDOW_MAX, graph::Steps};

    /// Of every window that there may be, on 1 to 12 channels: a block has room, and fetches whatever its last pixel is made of.
    #[test]
    fn a_block_has_room_and_fetches_all_that_it_gathers() {
        let (mut halved, mut refused) = (0, 0);
        let sides = 1..=WINDOW_MAX;
        let windows = sides.clone().flat_map(|side| sides.clone().map(move |stride| (side, stride)));
        for (planes, (side, stride)) in (1..=12).flat_map(|planes| windows.clone().map(move |window| (planes, window)))
        {
            let window = Window { height: side, width: side, stride: [stride; 2], pad: [side / 2; 2] };
            let channels = planes * side * side;
            let to = Tensor { height: 50, width: 50, channels, steps: Steps { scale: 1.0, zero: 7 } };
            let Ok(gather) = GatherParameters::new(&window, [planes, 400, 400], &to) else {
                assert!(channels > PIXEL_MAX - 16, "{channels}");
                refused += 1;
                continue;
            };
            assert!(gather.columns >= 1 && gather.shared_bytes() <= SHARED_BYTES, "{gather:?}");
            halved += u32::from(gather.columns < COLUMNS as i32);
            let places = gather.places_of(&window, &to);
            assert_eq!(places.len(), to.pixel());
            assert_eq!(places.iter().filter(|place| **place >= 0).count(), channels, "and each number once");
            let last = places.iter().max().expect("there are some") + (gather.columns - 1) * gather.stride[1];
            assert!(last < gather.planes * gather.window_height * gather.span, "{gather:?}");
        }
        assert!(halved > 0 && refused > 0, "{halved} {refused}");
    }
}
