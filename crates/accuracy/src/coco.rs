//! COCO's JSON (<https://cocodataset.org/#format-data>): `images` with `id` and `file_name`, `categories` with `id` and
//! `name`, and `annotations` with `image_id`, `category_id` and `bbox`: left, top, width and height, pixel edges at the
//! integers. Other keys, segmentations among them, are skipped.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use serde::Deserialize;

use crate::labels::{check_corners, read_file, wrong};
use crate::{Counting, Labelled, Labels, LabelsError, Object};

/// COCO's own largest, train2017 with its segmentations, has 450 MB.
const BYTES_MAX: u64 = 1 << 30;

#[derive(Deserialize)]
struct Coco {
    images: Vec<Image>,
    annotations: Vec<Annotation>,
    categories: Vec<Category>,
}

#[derive(Deserialize)]
struct Image {
    id: i64,
    file_name: String,
    width: Option<u32>,
    height: Option<u32>,
}

#[derive(Deserialize)]
struct Annotation {
    id: Option<i64>,
    image_id: i64,
    category_id: i64,
    bbox: [f64; 4],
    #[serde(default)]
    iscrowd: u8,
}

#[derive(Deserialize)]
struct Category {
    id: i64,
    name: String,
}

pub(crate) fn read(path: &Path) -> Result<Labels, LabelsError> {
    let bytes = read_file(path, BYTES_MAX)?;
    let mut coco: Coco =
        serde_json::from_slice(&bytes).map_err(|error| LabelsError::Json { path: path.to_owned(), error })?;
    drop(bytes);
    // As COCO's own evaluation takes them, which decides between equal scores.
    coco.images.sort_by_key(|image| image.id);
    let image_ids = coco.images.iter().map(|image| image.id);
    let places = numbered(path, "images", image_ids)?;
    let classes = numbered(path, "categories", coco.categories.iter().map(|category| category.id))?;
    let mut names = HashSet::new();
    if let Some(twice) = coco.categories.iter().find(|category| !names.insert(category.name.as_str())) {
        let what = format!("the category {:?} is there twice", twice.name);
        return Err(wrong(path, what, "classes are told apart by name: give each its own"));
    }
    let mut images: Vec<Labelled> = coco.images.into_iter().map(labelled).collect();
    let mut ids = HashSet::new();
    for (number, annotation) in coco.annotations.iter().enumerate() {
        let place = match annotation.id {
            Some(id) => format!("annotations[{number}] (id {id})"),
            None => format!("annotations[{number}]"),
        };
        if annotation.id.is_some_and(|id| !ids.insert(id)) {
            return Err(wrong(path, place, "its id is there twice: give each annotation its own, or none"));
        }
        let Some(image) = places.get(&annotation.image_id) else {
            let what = format!("{place}.image_id = {}", annotation.image_id);
            return Err(wrong(path, what, "no image has this id: add it to images, or drop the annotation"));
        };
        let Some(class) = classes.get(&annotation.category_id) else {
            let what = format!("{place}.category_id = {}", annotation.category_id);
            return Err(wrong(path, what, "no category has this id: add it to categories, or drop the annotation"));
        };
        images[*image].objects.push(object(path, &place, annotation, *class)?);
    }
    Ok(Labels { classes: coco.categories.into_iter().map(|category| category.name).collect(), images })
}

/// Places by id.
fn numbered(path: &Path, list: &str, ids: impl Iterator<Item = i64>) -> Result<HashMap<i64, usize>, LabelsError> {
    let mut places = HashMap::new();
    for (place, id) in ids.enumerate() {
        if places.insert(id, place).is_some() {
            return Err(wrong(path, format!("{list} have the id {id} twice"), "give each its own"));
        }
    }
    Ok(places)
}

fn labelled(image: Image) -> Labelled {
    Labelled { file: image.file_name, size: image.width.zip(image.height), objects: Vec::new() }
}

fn object(path: &Path, place: &str, annotation: &Annotation, class: usize) -> Result<Object, LabelsError> {
    let [left, top, width, height] = annotation.bbox;
    let corners = check_corners(path, &format!("{place}.bbox"), [left, top, left + width, top + height])?;
    let counting = match annotation.iscrowd {
        0 => Counting::Counted,
        1 => Counting::Crowd,
        other => return Err(wrong(path, format!("{place}.iscrowd = {other}"), "give 0 or 1")),
    };
    Ok(Object { class, corners, counting })
}
