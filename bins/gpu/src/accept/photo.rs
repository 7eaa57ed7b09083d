//! An image that compresses as a photo does, so that none has to be there.

use anyhow::Result;
use turbojpeg::{Compressor, Image, PixelFormat, Subsamp};

/// Of 1 to 100, libjpeg's.
const QUALITY: i32 = 85;
/// Largest grey level of the noise.
const NOISE: u32 = 12;

/// Waves of several lengths, edges, and noise: RGB.
pub fn pixels(width: u32, height: u32) -> Vec<u8> {
    let mut state = 1u32;
    let mut noise = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        ((state >> 16) % NOISE) as f32
    };
    let mut pixels = Vec::with_capacity(3 * width as usize * height as usize);
    for y in 0..height {
        for x in 0..width {
            let (across, down) = (x as f32, y as f32);
            let slow = (across / 211.0).sin() * (down / 173.0).cos();
            let fast = ((across + 2.0 * down) / 9.0).sin() * (0.5 + 0.5 * slow);
            let edge = if (x / 97 + y / 61) % 3 == 0 { 35.0 } else { 0.0 };
            for (gain, turn) in [(70.0, 1.0), (55.0, 0.8), (45.0, 1.2)] {
                pixels.push((110.0 + gain * slow + 20.0 * turn * fast + edge + noise()).clamp(0.0, 255.0) as u8);
            }
        }
    }
    pixels
}

/// A JPEG of RGB pixels, colours at half the resolution.
pub fn jpeg(pixels: &[u8], width: u32, height: u32) -> Result<Vec<u8>> {
    let (width, height) = (width as usize, height as usize);
    let mut compressor = Compressor::new()?;
    compressor.set_subsamp(Subsamp::Sub2x2)?;
    compressor.set_quality(QUALITY)?;
    Ok(compressor.compress_to_vec(Image { pixels, width, pitch: 3 * width, height, format: PixelFormat::RGB })?)
}
