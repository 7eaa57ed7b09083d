//! The points of an object and, where their names are those of COCO's people, the limbs between them.

use image::{Rgb, RgbImage};

use crate::{FAR, fill, scale_of};

/// Points that are less sure are not drawn.
const SCORE_MIN: f32 = 0.3;
const POINT: Rgb<u8> = Rgb([255, 225, 40]);
const LIMB: Rgb<u8> = Rgb([60, 230, 120]);
/// Names of the points that a line joins: COCO's skeleton.
const LIMBS: [(&str, &str); 19] = [
    ("nose", "left_eye"),
    ("nose", "right_eye"),
    ("left_eye", "right_eye"),
    ("left_eye", "left_ear"),
    ("right_eye", "right_ear"),
    ("left_ear", "left_shoulder"),
    ("right_ear", "right_shoulder"),
    ("left_shoulder", "right_shoulder"),
    ("left_shoulder", "left_elbow"),
    ("left_elbow", "left_wrist"),
    ("right_shoulder", "right_elbow"),
    ("right_elbow", "right_wrist"),
    ("left_shoulder", "left_hip"),
    ("right_shoulder", "right_hip"),
    ("left_hip", "right_hip"),
    ("left_hip", "left_knee"),
    ("right_hip", "right_knee"),
    ("left_knee", "left_ankle"),
    ("right_knee", "right_ankle"),
];

/// A point of an object.
#[derive(Clone, Debug, PartialEq)]
pub struct Point {
    /// Its name.
    pub name: String,
    /// Columns from the image's left edge, in pixels.
    pub x: f32,
    /// Rows from its top.
    pub y: f32,
    /// 0 to 1.
    pub score: f32,
}

/// Draws one object's points that are sure enough, and the limbs between them.
pub fn draw_points(image: &mut RgbImage, points: &[Point]) {
    let is_sure = |point: &&Point| point.score >= SCORE_MIN && point.x.is_finite() && point.y.is_finite();
    let sure: Vec<&Point> = points.iter().filter(is_sure).collect();
    let radius = scale_of(image) as i64;
    let named = |name: &str| sure.iter().find(|point| point.name == name);
    for (from, to) in LIMBS {
        if let (Some(from), Some(to)) = (named(from), named(to)) {
            line(image, from, to, radius);
        }
    }
    for point in sure {
        dot(image, point.x.clamp(-FAR, FAR) as i64, point.y.clamp(-FAR, FAR) as i64, 2 * radius, POINT);
    }
}

/// A line of dots, a pixel apart, as far as the image goes.
fn line(image: &mut RgbImage, from: &Point, to: &Point, radius: i64) {
    let (width, height) = (image.width() as f32, image.height() as f32);
    // Ends beyond the image are moved to its neighbourhood: no line is longer than three images.
    let end = |point: &Point| (point.x.clamp(-width, 2.0 * width), point.y.clamp(-height, 2.0 * height));
    let ((x0, y0), (x1, y1)) = (end(from), end(to));
    let steps = (x1 - x0).abs().max((y1 - y0).abs()).ceil().max(1.0);
    for step in 0..=steps as u32 {
        let part = step as f32 / steps;
        dot(image, (x0 + part * (x1 - x0)) as i64, (y0 + part * (y1 - y0)) as i64, radius, LIMB);
    }
}

fn dot(image: &mut RgbImage, x: i64, y: i64, radius: i64, colour: Rgb<u8>) {
    fill(image, [x - radius, y - radius, x + radius + 1, y + radius + 1], colour);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(name: &str, x: f32, y: f32, score: f32) -> Point {
        Point { name: name.into(), x, y, score }
    }

    #[test]
    fn sure_points_and_the_limbs_between_them_are_drawn() {
        let mut image = RgbImage::new(100, 50);
        let points = [
            point("left_hip", 10.0, 20.0, 0.9),
            point("left_knee", 50.0, 20.0, 0.9),
            point("left_ankle", 90.0, 20.0, 0.1),
            point("tail", 50.0, 45.0, 0.9),
        ];
        draw_points(&mut image, &points);
        assert_eq!(image.get_pixel(30, 20), &LIMB, "between hip and knee");
        assert_eq!((image.get_pixel(10, 20), image.get_pixel(50, 45)), (&POINT, &POINT));
        assert_eq!(image.get_pixel(70, 20), &Rgb([0; 3]), "the ankle is not sure");
        assert_eq!(image.get_pixel(50, 35), &Rgb([0; 3]), "nobody knows what joins a tail");
    }

    #[test]
    fn points_as_far_as_numbers_go_are_drawn_too() {
        let mut image = RgbImage::new(20, 20);
        let hips = [point("left_hip", f32::MIN, 10.0, 1.0), point("right_hip", f32::MAX, 10.0, 1.0)];
        draw_points(&mut image, &hips);
        assert_eq!(image.get_pixel(10, 10), &LIMB);
        draw_points(&mut image, &[point("nose", f32::NAN, f32::INFINITY, 1.0)]);
    }
}
