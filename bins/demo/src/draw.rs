//! Draws detections into a photo: boxes with a caption each, and keypoints.

use std::path::Path;

use anyhow::Context as _;
use framepipe_client::{Attribute, Detection, Detections, Keypoint, Value, words};
use framepipe_draw::{Captioned, Point, draw, draw_points};
use framepipe_vision::{Decoder, Limits, probe};
use image::RgbImage;

/// Writes the photo with its detections as a PNG.
pub fn annotate(encoded: &[u8], found: &Detections, path: &Path) -> anyhow::Result<()> {
    let limits = Limits::default();
    let header = probe(encoded, &limits)?;
    let (width, height) = header.oriented_size();
    let mut image = RgbImage::new(width, height);
    Decoder::new(limits)?.decode_rgb(encoded, &header, &mut image)?;
    // The highest score comes first, and is drawn on top.
    draw(&mut image, &found.detections.iter().map(captioned).collect::<Vec<_>>());
    for attribute in found.detections.iter().flat_map(|one| &one.attributes) {
        if let Some(Value::Keypoints(found)) = &attribute.value {
            draw_points(&mut image, &found.points.iter().map(point).collect::<Vec<_>>());
        }
    }
    image.save(path).with_context(|| format!("cannot write {}", path.display()))
}

fn captioned(one: &Detection) -> Captioned {
    let place = one.r#box.unwrap_or_default();
    Captioned {
        corners: [place.x0, place.y0, place.x1, place.y1],
        class: one.class_index as usize,
        title: format!("{} {:.2}", one.label, one.score),
        lines: attributes(one),
    }
}

fn point(one: &Keypoint) -> Point {
    Point { name: one.name.clone(), x: one.x, y: one.y, score: one.score }
}

/// What is known of the object beside its class; vectors say nothing to an eye, and points are drawn.
fn attributes(one: &Detection) -> Vec<String> {
    let seen = |value: &&Attribute| !matches!(value.value, Some(Value::Embedding(_) | Value::Keypoints(_)) | None);
    let attributes = one.attributes.iter().filter(seen);
    attributes.map(|attribute| format!("{} {}", attribute.name, words::attribute(attribute))).collect()
}
