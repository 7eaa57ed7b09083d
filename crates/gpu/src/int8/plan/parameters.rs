//! The parameters of the kernels, as `kernels/int8.cu` declares them. `rows`, `pixels` and `samples` come with the batch.

use bytemuck::NoUninit;

/// Parameters of the convolutions: `struct Conv` in `kernels/int8.cu`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ConvParameters {
    pub(crate) input: u64,
    pub(crate) weights: u64,
    pub(crate) bias: u64,
    pub(crate) scale: u64,
    pub(crate) taps: u64,
    pub(crate) residual: u64,
    pub(crate) output: u64,
    pub(crate) rows: i32,
    pub(crate) out_size: [i32; 2],
    pub(crate) in_size: [i32; 2],
    pub(crate) in_pixel: i32,
    pub(crate) out_pixel: i32,
    pub(crate) residual_pixel: i32,
    pub(crate) stride: [i32; 2],
    pub(crate) pad: [i32; 2],
    pub(crate) tap_count: i32,
    pub(crate) window: [i32; 2],
    pub(crate) channels: i32,
    pub(crate) padding: u32,
    pub(crate) low: i32,
    pub(crate) zero: i32,
    pub(crate) residual_zero: i32,
    pub(crate) then_zero: i32,
    pub(crate) is_changed: i32,
    pub(crate) conv_scale: f32,
    pub(crate) slope: f32,
    pub(crate) residual_scale: f32,
    pub(crate) then_inverse: f32,
}

// As the kernels' source lays them out.
const _: () = {
    assert!(size_of::<ConvParameters>() == 160);
    assert!(size_of::<GatherParameters>() == 88);
    assert!(size_of::<PixelsParameters>() == 120);
    assert!(size_of::<NumbersParameters>() == 56);
    assert!(size_of::<HeadParameters>() == 48);
};

/// `struct Tap` there.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, NoUninit)]
pub(crate) struct Tap {
    pub(crate) at: i32,
    pub(crate) needs: u32,
}

/// `struct Gather` there.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct GatherParameters {
    pub(crate) samples: u64,
    pub(crate) places: u64,
    pub(crate) output: u64,
    pub(crate) in_size: [i32; 2],
    pub(crate) out_size: [i32; 2],
    pub(crate) stride: [i32; 2],
    pub(crate) pad: [i32; 2],
    pub(crate) window_height: i32,
    pub(crate) planes: i32,
    pub(crate) columns: i32,
    pub(crate) span: i32,
    pub(crate) out_pixel: i32,
    pub(crate) inverse_scale: f32,
    pub(crate) zero: f32,
}

/// `struct Pixels` there.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct PixelsParameters {
    pub(crate) input: u64,
    pub(crate) other: u64,
    pub(crate) table: u64,
    pub(crate) output: u64,
    pub(crate) pixels: i32,
    pub(crate) in_size: [i32; 2],
    pub(crate) out_size: [i32; 2],
    pub(crate) in_pixel: i32,
    pub(crate) other_pixel: i32,
    pub(crate) out_pixel: i32,
    pub(crate) channels: i32,
    pub(crate) kernel: [i32; 2],
    pub(crate) stride: [i32; 2],
    pub(crate) pad: [i32; 2],
    pub(crate) in_scale: f32,
    pub(crate) in_zero: f32,
    pub(crate) other_scale: f32,
    pub(crate) other_zero: f32,
    pub(crate) inverse_scale: f32,
    pub(crate) zero: f32,
}

/// `struct Numbers` there.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct NumbersParameters {
    pub(crate) input: u64,
    pub(crate) output: u64,
    pub(crate) samples: i32,
    pub(crate) pixels: i32,
    pub(crate) in_pixel: i32,
    pub(crate) first: i32,
    pub(crate) count: i32,
    pub(crate) is_f32: i32,
    pub(crate) is_planar: i32,
    pub(crate) is_sigmoid: i32,
    pub(crate) scale: f32,
    pub(crate) zero: f32,
}

/// `struct Head` there.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct HeadParameters {
    pub(crate) input: u64,
    pub(crate) weights: u64,
    pub(crate) bias: u64,
    pub(crate) output: u64,
    pub(crate) pixels: i32,
    pub(crate) in_pixel: i32,
    pub(crate) in_channels: i32,
    pub(crate) out_channels: i32,
}
