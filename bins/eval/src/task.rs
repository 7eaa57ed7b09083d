//! What is to be measured: of the labels, what the detector has a class for and an image is there of; and what is left out.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

use framepipe_accuracy::{Counting, Labelled, Labels};
use serde::Serialize;

/// Names of a long list that are said.
const NAMED_MAX: usize = 5;

/// Images, and what is to be found in them.
#[derive(Debug)]
pub struct Task {
    /// Folder of the images.
    pub folder: PathBuf,
    /// Names of the classes that the labels and the detector have.
    pub classes: Vec<String>,
    /// The place of a class by its name.
    pub places: HashMap<String, usize>,
    /// The images that are there; their objects' classes are places in `classes`.
    pub images: Vec<Labelled>,
    /// Images that are not.
    pub missing: Vec<String>,
    /// Classes that the detector does not have.
    pub unknown: Vec<Unknown>,
    /// How many of the detector's classes the labels do not have.
    pub unlabelled: usize,
}

/// A class of the labels that the detector does not have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Unknown {
    /// Its name.
    pub name: String,
    /// Objects of it in all labels.
    pub objects: usize,
}

impl Task {
    /// What of `labels` a detector of these classes can be measured with, on the images below `folder`.
    ///
    /// # Errors
    /// Where nothing is left.
    pub fn new(labels: Labels, detected: &[String], folder: &Path) -> anyhow::Result<Self> {
        let Labels { classes: labelled, images } = labels;
        let classes: Vec<String> = labelled.iter().filter(|name| detected.contains(name)).cloned().collect();
        let places: HashMap<String, usize> =
            classes.iter().enumerate().map(|(place, name)| (name.clone(), place)).collect();
        let objects = |class: usize| {
            let all = images.iter().flat_map(|image| &image.objects);
            all.filter(|object| object.class == class && object.counting == Counting::Counted).count()
        };
        let unknown = labelled.iter().enumerate().filter(|(_, name)| !places.contains_key(*name));
        let unknown: Vec<Unknown> =
            unknown.map(|(class, name)| Unknown { name: name.clone(), objects: objects(class) }).collect();
        anyhow::ensure!(
            !classes.is_empty(),
            "the detector has none of the labels' classes ({}): it has {}. Rename those in the labels, or take another pipeline",
            some(&labelled),
            some(detected)
        );
        let (mut there, missing): (Vec<Labelled>, Vec<Labelled>) =
            images.into_iter().partition(|image| folder.join(&image.file).is_file());
        let missing: Vec<String> = missing.into_iter().map(|image| image.file).collect();
        anyhow::ensure!(
            !there.is_empty(),
            "{} has none of the {} labelled images ({}): name the folder that they lie in (--images)",
            folder.display(),
            missing.len(),
            some(&missing)
        );
        for image in &mut there {
            image.objects.retain_mut(|object| {
                let place = places.get(&labelled[object.class]);
                object.class = place.copied().unwrap_or_default();
                place.is_some()
            });
        }
        let unlabelled = detected.len() - classes.len();
        Ok(Self { folder: folder.to_owned(), classes, places, images: there, missing, unknown, unlabelled })
    }

    /// Says what is left out.
    pub fn warn(&self) {
        if !self.missing.is_empty() {
            let (count, all) = (self.missing.len(), self.missing.len() + self.images.len());
            eprintln!(
                "framepipe eval: {count} of {all} labelled images are missing in {} and left out: {}",
                self.folder.display(),
                some(&self.missing)
            );
        }
        if !self.unknown.is_empty() {
            let names: Vec<String> = self.unknown.iter().map(|one| format!("{} ({})", one.name, one.objects)).collect();
            eprintln!(
                "framepipe eval: classes of the labels that the detector does not have are left out, with their objects: {}",
                some(&names)
            );
        }
    }
}

/// The first of many names, and how many more there are.
pub fn some(names: &[String]) -> String {
    let named = names.iter().take(NAMED_MAX).map(String::as_str).collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(NAMED_MAX) {
        0 => named,
        more => format!("{named} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use framepipe_accuracy::Object;

    use super::*;

    fn labels(classes: &[&str], files: &[&str]) -> Labels {
        let object = |class| Object { class, corners: [0.0, 0.0, 1.0, 1.0], counting: Counting::Counted };
        let objects: Vec<Object> = (0..classes.len()).map(object).collect();
        let image = |file: &&str| Labelled { file: (*file).to_owned(), size: None, objects: objects.clone() };
        Labels { classes: names(classes), images: files.iter().map(image).collect() }
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn classes_are_matched_by_name_and_what_is_not_there_is_left_out() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a.jpg"), b"").unwrap();
        let labels = labels(&["dog", "bus", "person"], &["a.jpg", "b.jpg"]);
        let task = Task::new(labels, &names(&["person", "car", "bus"]), folder.path()).unwrap();
        assert_eq!((task.classes, task.missing, task.unlabelled), (names(&["bus", "person"]), names(&["b.jpg"]), 1));
        assert_eq!(task.unknown, [Unknown { name: "dog".into(), objects: 2 }]);
        let classes: Vec<usize> = task.images[0].objects.iter().map(|object| object.class).collect();
        assert_eq!(classes, [0, 1]);
    }

    #[test]
    fn where_nothing_is_left_it_says_why() {
        let folder = tempfile::tempdir().unwrap();
        let of = |classes, detected| Task::new(labels(classes, &["a.jpg"]), &names(detected), folder.path());
        let said = of(&["dog"], &["person"]).unwrap_err().to_string();
        assert!(said.contains("(dog)") && said.contains("it has person"), "{said}");
        let said = of(&["person"], &["person"]).unwrap_err().to_string();
        assert!(said.contains("none of the 1 labelled images (a.jpg)"), "{said}");
    }
}
