//! Boxes with captions, and points with limbs, drawn into pictures for people to look at.

mod points;

use font8x8::{BASIC_FONTS, UnicodeFonts as _};
use image::{Rgb, RgbImage};

pub use points::{Point, draw_points};

/// Colours by class, far apart in hue.
const COLOURS: [[u8; 3]; 6] =
    [[230, 60, 60], [50, 140, 230], [40, 170, 80], [240, 150, 30], [150, 80, 210], [0, 170, 170]];
/// Side of a character before it is scaled.
const GLYPH: u32 = 8;
/// Farthest from the first pixel that an edge is taken to be: beyond any image.
const FAR: f32 = 1e9;

/// A box, and what is written at it.
#[derive(Clone, Debug, PartialEq)]
pub struct Captioned {
    /// Left, top, right, bottom, in pixels.
    pub corners: [f32; 4],
    /// Chooses the colour.
    pub class: usize,
    /// Written above the box.
    pub title: String,
    /// Written below it, a line each: the object itself stays to be seen.
    pub lines: Vec<String>,
}

/// Draws the boxes, the first on top, as thick as the image's size asks for.
pub fn draw(image: &mut RgbImage, boxes: &[Captioned]) {
    let scale = scale_of(image);
    for one in boxes.iter().rev() {
        draw_one(image, one, scale);
    }
}

/// How thick things are drawn.
fn scale_of(image: &RgbImage) -> u32 {
    (image.width().max(image.height()) / 900).clamp(1, 6)
}

fn draw_one(image: &mut RgbImage, one: &Captioned, scale: u32) {
    let colour = Rgb(COLOURS[one.class % COLOURS.len()]);
    let [x0, y0, x1, y1] = one.corners.map(|edge| edge.round().clamp(-FAR, FAR) as i64);
    let thick = i64::from(scale) * 2;
    for (left, top, right, bottom) in
        [(x0, y0, x1, y0 + thick), (x0, y1 - thick, x1, y1), (x0, y0, x0 + thick, y1), (x1 - thick, y0, x1, y1)]
    {
        fill(image, [left, top, right, bottom], colour);
    }
    let line = i64::from((GLYPH + 2) * scale);
    caption(image, &one.title, x0, (y0 - line).max(0), scale, colour);
    let below = y1.min(i64::from(image.height()) - one.lines.len() as i64 * line);
    for (number, text) in one.lines.iter().enumerate() {
        caption(image, text, x0, below + number as i64 * line, scale, colour);
    }
}

/// A line of text on a ground of the box's colour, moved in where it would leave the image.
fn caption(image: &mut RgbImage, text: &str, x: i64, y: i64, scale: u32, colour: Rgb<u8>) {
    let width = i64::from(text.chars().count() as u32 * GLYPH * scale) + 2 * i64::from(scale);
    let x = x.min(i64::from(image.width()) - width).max(0);
    fill(image, [x, y, x + width, y + i64::from((GLYPH + 2) * scale)], colour);
    write(image, text, x + i64::from(scale), y + i64::from(scale), scale);
}

fn fill(image: &mut RgbImage, [left, top, right, bottom]: [i64; 4], colour: Rgb<u8>) {
    let (width, height) = (i64::from(image.width()), i64::from(image.height()));
    for y in top.clamp(0, height)..bottom.clamp(0, height) {
        for x in left.clamp(0, width)..right.clamp(0, width) {
            image.put_pixel(x as u32, y as u32, colour);
        }
    }
}

fn write(image: &mut RgbImage, text: &str, x: i64, y: i64, scale: u32) {
    let side = i64::from(scale);
    for (number, character) in text.chars().enumerate() {
        let rows = BASIC_FONTS.get(character).unwrap_or([0x7e; GLYPH as usize]);
        let left = x + number as i64 * i64::from(GLYPH) * side;
        for (row, bits) in rows.iter().enumerate() {
            for column in (0..GLYPH).filter(|column| bits >> column & 1 == 1) {
                let (px, py) = (left + i64::from(column) * side, y + row as i64 * side);
                fill(image, [px, py, px + side, py + side], Rgb([255; 3]));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_box_beyond_the_image_is_drawn_as_far_as_it_goes() {
        let corners = [-50.0, -50.0, 500.0, 20.0];
        let one = Captioned { corners, class: 0, title: "person 0.50".into(), lines: Vec::new() };
        let mut image = RgbImage::new(64, 48);
        draw(&mut image, &[one]);
        assert_eq!(image.get_pixel(32, 19), &Rgb(COLOURS[0]), "the lower edge");
        assert_eq!(image.get_pixel(32, 40), &Rgb([0; 3]), "outside the box");
    }

    #[test]
    fn a_box_as_far_as_numbers_go_is_drawn_too() {
        let corners = [-1e30, f32::MIN, 20.0, f32::MAX];
        let one = Captioned { corners, class: 0, title: "box".into(), lines: vec!["a line".into()] };
        let mut image = RgbImage::new(64, 48);
        draw(&mut image, &[one]);
        assert_eq!(image.get_pixel(19, 24), &Rgb(COLOURS[0]), "the right edge");
    }
}
