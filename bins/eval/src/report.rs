//! What is said.

use std::{fmt, path::PathBuf};

use framepipe_accuracy::Accuracy;
use framepipe_pipeline::Config;
use serde::Serialize;

use crate::{
    run::{Failed, FoundIn},
    task::{Task, Unknown, some},
};

/// How well the detections agree with the labels. Without objects there is no AP.
#[derive(Debug, Serialize)]
pub struct Report {
    pipeline: String,
    detector: String,
    /// Detections above this count.
    score: f32,
    /// Mean of the classes that have objects.
    ap50: Option<f64>,
    /// The same, over ten overlaps.
    ap50_95: Option<f64>,
    images: usize,
    folder: PathBuf,
    classes: Vec<ClassRow>,
    missing_images: Vec<String>,
    failed_images: Vec<Failed>,
    /// Their labels may be of another picture.
    other_size_images: Vec<String>,
    unknown_classes: Vec<Unknown>,
    /// Classes of the detector that the labels do not have.
    unlabelled_classes: usize,
}

#[derive(Debug, Serialize)]
struct ClassRow {
    name: String,
    ap50: Option<f64>,
    ap50_95: Option<f64>,
    /// To be found.
    objects: usize,
    /// Of them, overlapped by a detection by 0.5.
    found: usize,
    /// Crowds and difficult ones.
    ignored: usize,
    detections: usize,
}

impl Report {
    /// The report of a run.
    pub fn new(config: &Config, score: f32, task: &Task, found: &FoundIn, accuracy: Accuracy) -> Self {
        let row = |(name, class): (&String, framepipe_accuracy::ClassAccuracy)| ClassRow {
            name: name.clone(),
            ap50: class.ap50,
            ap50_95: class.ap,
            objects: class.objects,
            found: class.found,
            ignored: class.ignored,
            detections: class.detections,
        };
        Self {
            pipeline: config.name.clone(),
            detector: config.detector.to_string(),
            score,
            ap50: accuracy.ap50,
            ap50_95: accuracy.ap,
            images: task.images.len(),
            folder: task.folder.clone(),
            classes: task.classes.iter().zip(accuracy.classes).map(row).collect(),
            missing_images: task.missing.clone(),
            failed_images: found.failed.clone(),
            other_size_images: found.other_size.clone(),
            unknown_classes: task.unknown.clone(),
            unlabelled_classes: task.unlabelled,
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { pipeline, detector, score, images, .. } = self;
        writeln!(
            f,
            "pipeline {pipeline}, detector {detector}, scores above {score}: {images} images of {}",
            self.folder.display()
        )?;
        let wide = self.classes.iter().map(|class| class.name.chars().count()).chain([5]).max().unwrap_or_default();
        writeln!(f, "\n{:wide$}   AP50  AP50:95  objects  found  ignored  detections", "class")?;
        let ap = |ap: Option<f64>| ap.map_or_else(|| "-".into(), |ap| format!("{ap:.3}"));
        for class in &self.classes {
            let (ap50, ap50_95) = (ap(class.ap50), ap(class.ap50_95));
            let ClassRow { name, objects, found, ignored, detections, .. } = class;
            writeln!(
                f,
                "{name:wide$}  {ap50:>5}  {ap50_95:>7}  {objects:>7}  {found:>5}  {ignored:>7}  {detections:>10}"
            )?;
        }
        writeln!(f, "{:wide$}  {:>5}  {:>7}", "all", ap(self.ap50), ap(self.ap50_95))?;
        if self.unlabelled_classes > 0 {
            writeln!(
                f,
                "\n{} classes of the detector have no labels: their detections are not judged",
                self.unlabelled_classes
            )?;
        }
        if !self.unknown_classes.is_empty() {
            let names: Vec<String> =
                self.unknown_classes.iter().map(|one| format!("{} ({} objects)", one.name, one.objects)).collect();
            writeln!(f, "left out, as the detector does not have them: {}", some(&names))?;
        }
        if !self.missing_images.is_empty() {
            writeln!(f, "{} labelled images are missing: {}", self.missing_images.len(), some(&self.missing_images))?;
        }
        if !self.other_size_images.is_empty() {
            let (count, names) = (self.other_size_images.len(), some(&self.other_size_images));
            writeln!(
                f,
                "{count} images are of another size than their labels say, which may be of another picture: {names}"
            )?;
        }
        for Failed { file, error } in &self.failed_images {
            writeln!(f, "{file} could not be processed, and nothing counts as found in it: {error}")?;
        }
        Ok(())
    }
}
