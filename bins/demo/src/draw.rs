//! Draws detections into a photo: boxes with a caption each.

use std::path::Path;

use anyhow::Context as _;
use font8x8::{BASIC_FONTS, UnicodeFonts as _};
use framepipe_client::{Detection, Detections, Value};
use framepipe_vision::{Decoder, Limits, probe};
use image::{Rgb, RgbImage};

/// Colours by class, far apart in hue.
const COLOURS: [[u8; 3]; 6] =
    [[230, 60, 60], [50, 140, 230], [40, 170, 80], [240, 150, 30], [150, 80, 210], [0, 170, 170]];
/// Side of a character before it is scaled.
const GLYPH: u32 = 8;

/// Writes the photo with its detections as a PNG.
pub fn annotate(encoded: &[u8], found: &Detections, path: &Path) -> anyhow::Result<()> {
    let limits = Limits::default();
    let header = probe(encoded, &limits)?;
    let (width, height) = header.oriented_size();
    let mut image = RgbImage::new(width, height);
    Decoder::new(limits)?.decode_rgb(encoded, &header, &mut image)?;
    let scale = (width.max(height) / 900).clamp(1, 6);
    for one in found.detections.iter().rev() {
        draw_one(&mut image, one, scale); // the highest score last, on top
    }
    image.save(path).with_context(|| format!("cannot write {}", path.display()))
}

fn draw_one(image: &mut RgbImage, one: &Detection, scale: u32) {
    let colour = Rgb(COLOURS[one.class_index as usize % COLOURS.len()]);
    let place = one.r#box.unwrap_or_default();
    let edge = |value: f32| value.round() as i64;
    let (x0, y0, x1, y1) = (edge(place.x0), edge(place.y0), edge(place.x1), edge(place.y1));
    let thick = i64::from(scale) * 2;
    for (left, top, right, bottom) in
        [(x0, y0, x1, y0 + thick), (x0, y1 - thick, x1, y1), (x0, y0, x0 + thick, y1), (x1 - thick, y0, x1, y1)]
    {
        fill(image, [left, top, right, bottom], colour);
    }
    // The class above the box, what else is known below it: the object itself stays to be seen.
    let line = i64::from((GLYPH + 2) * scale);
    caption(image, &format!("{} {:.2}", one.label, one.score), x0, (y0 - line).max(0), scale, colour);
    let known = attributes(one);
    let below = y1.min(i64::from(image.height()) - known.len() as i64 * line);
    for (number, text) in known.iter().enumerate() {
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

/// What is known of the object beside its class; vectors say nothing to an eye.
fn attributes(one: &Detection) -> Vec<String> {
    let seen = |value: &&framepipe_client::Attribute| {
        !matches!(value.value, Some(Value::Embedding(_) | Value::Keypoints(_)) | None)
    };
    let attributes = one.attributes.iter().filter(seen);
    let line =
        |attribute: &framepipe_client::Attribute| format!("{} {}", attribute.name, crate::print::words(attribute));
    attributes.map(line).collect()
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
    use framepipe_client::Detection;

    #[test]
    fn a_box_beyond_the_image_is_drawn_as_far_as_it_goes() {
        let place = framepipe_proto_box(-50.0, -50.0, 500.0, 20.0);
        let one = Detection { label: "person".into(), score: 0.5, r#box: Some(place), ..Detection::default() };
        let mut image = RgbImage::new(64, 48);
        draw_one(&mut image, &one, 1);
        assert_eq!(image.get_pixel(32, 19), &Rgb(COLOURS[0]), "the lower edge");
        assert_eq!(image.get_pixel(32, 40), &Rgb([0; 3]), "outside the box");
    }

    fn framepipe_proto_box(x0: f32, y0: f32, x1: f32, y1: f32) -> framepipe_client::BoundingBox {
        framepipe_client::BoundingBox { x0, y0, x1, y1 }
    }
}
