//! A folder of Pascal VOC's XML, one file an image (<http://host.robots.ox.ac.uk/pascal/VOC/>). Its pixels are counted from 1,
//! and `xmax` and `ymax` are the last of the object's: xmin = 1 and xmax = 2 are two columns.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use roxmltree::{Document, Node};

use crate::labels::{check_corners, read_file, wrong};
use crate::{Counting, Labelled, Labels, LabelsError, Object};

/// Of one image's file.
const BYTES_MAX: u64 = 16 << 20;
/// Files of a folder.
const FILES_MAX: usize = 1_000_000;

pub(crate) fn read(folder: &Path) -> Result<Labels, LabelsError> {
    let failed = |error| LabelsError::Read { path: folder.to_owned(), error };
    let entries = fs::read_dir(folder).map_err(failed)?.map(|entry| entry.map(|entry| entry.path()));
    let is_label = |path: &PathBuf| path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("xml"));
    let all = entries.collect::<Result<Vec<_>, _>>().map_err(failed)?;
    let mut files: Vec<PathBuf> = all.into_iter().filter(is_label).collect();
    if files.is_empty() || files.len() > FILES_MAX {
        let what = format!("{} files end with .xml", files.len());
        return Err(wrong(folder, what, "name a folder of 1 to 1,000,000 of Pascal VOC's annotations"));
    }
    files.sort();
    let mut classes = Classes::default();
    let images = files.iter().map(|file| image(file, &mut classes)).collect::<Result<_, _>>()?;
    Ok(Labels { classes: classes.names, images })
}

#[derive(Default)]
struct Classes {
    names: Vec<String>,
    places: HashMap<String, usize>,
}

impl Classes {
    fn place(&mut self, name: &str) -> usize {
        *self.places.entry(name.to_owned()).or_insert_with(|| {
            self.names.push(name.to_owned());
            self.names.len() - 1
        })
    }
}

fn image(path: &Path, classes: &mut Classes) -> Result<Labelled, LabelsError> {
    let bytes = read_file(path, BYTES_MAX)?;
    let text = String::from_utf8(bytes).map_err(|error| wrong(path, error.to_string(), "write it in UTF-8"))?;
    // A document type, and so its entities, is refused.
    let document = Document::parse(&text).map_err(|error| LabelsError::Xml { path: path.to_owned(), error })?;
    let root = document.root_element();
    if !root.has_tag_name("annotation") {
        let what = format!("its first element is <{}>", root.tag_name().name());
        return Err(wrong(path, what, "Pascal VOC's is <annotation>"));
    }
    let file = text_of(path, root, "filename")?.to_owned();
    let size = match child(root, "size") {
        None => None,
        Some(size) => Some((side(path, size, "width")?, side(path, size, "height")?)),
    };
    let objects = root.children().filter(|node| node.has_tag_name("object")).enumerate();
    let objects = objects.map(|(number, node)| object(path, number, node, classes)).collect::<Result<_, _>>()?;
    Ok(Labelled { file, size, objects })
}

fn object(path: &Path, number: usize, node: Node<'_, '_>, classes: &mut Classes) -> Result<Object, LabelsError> {
    let place = format!("object {number}");
    let class = classes.place(text_of(path, node, "name")?);
    let Some(bounds) = child(node, "bndbox") else {
        return Err(wrong(path, format!("{place} has no <bndbox>"), "add it"));
    };
    let edge = |name| number_of(path, bounds, name);
    let [x0, y0, x1, y1] = [edge("xmin")?, edge("ymin")?, edge("xmax")?, edge("ymax")?];
    let corners = check_corners(path, &place, [x0 - 1.0, y0 - 1.0, x1, y1])?;
    let is_difficult = child(node, "difficult").is_some_and(|node| node.text().is_some_and(|text| text.trim() == "1"));
    Ok(Object { class, corners, counting: if is_difficult { Counting::Ignored } else { Counting::Counted } })
}

fn child<'a, 'input>(node: Node<'a, 'input>, name: &str) -> Option<Node<'a, 'input>> {
    node.children().find(|node| node.has_tag_name(name))
}

fn text_of<'a>(path: &Path, node: Node<'a, '_>, name: &str) -> Result<&'a str, LabelsError> {
    let text = child(node, name).and_then(|node| node.text()).map(str::trim).filter(|text| !text.is_empty());
    text.ok_or_else(|| wrong(path, format!("<{}> has no <{name}>", node.tag_name().name()), "add it"))
}

fn number_of(path: &Path, node: Node<'_, '_>, name: &str) -> Result<f64, LabelsError> {
    let text = text_of(path, node, name)?;
    let number = text.parse().ok().filter(|number: &f64| number.is_finite());
    number.ok_or_else(|| wrong(path, format!("<{name}> is {text:?}"), "give a number"))
}

fn side(path: &Path, node: Node<'_, '_>, name: &str) -> Result<u32, LabelsError> {
    let text = text_of(path, node, name)?;
    text.parse().map_err(|_| wrong(path, format!("<{name}> is {text:?}"), "give a number of pixels"))
}
