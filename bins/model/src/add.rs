//! `framepipe model add`: an ONNX file becomes a model of the repository, as far as the file says what it is. What it does not
//! say is guessed where the field has a habit, and listed as `unfinished` in the manifest, which is not served until somebody
//! has looked at it.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use framepipe_infer::{Description, Runtime, Tensor};
use framepipe_model::{MANIFEST_FILE, Manifest, ModelRef};
use framepipe_pipeline::Config;
use sha2::{Digest as _, Sha256};

use crate::{Place, repository};

/// Strides of the detectors that are known by their shape alone.
const STRIDES: [usize; 3] = [8, 16, 32];
/// Anchors of a cell in an exported YOLOv3, v5 or v7.
const ANCHORS: usize = 3;
/// Numbers before a box's class scores: of YOLOv8, and with an objectness, of YOLOv3.
const BOX_NUMBERS: usize = 4;

/// What is added, and what is known of it.
#[derive(Args)]
pub struct Arguments {
    /// The ONNX file; it is copied.
    file: PathBuf,
    /// The model's name, or NAME@VERSION [default version: the highest and one].
    #[arg(long)]
    name: ModelRef,
    /// A file of the labels, one a line, in the model's order.
    #[arg(long, value_name = "FILE")]
    labels: Option<PathBuf>,
    /// Where the model came from.
    #[arg(long)]
    source: Option<String>,
    /// Its licence.
    #[arg(long)]
    licence: Option<String>,
    #[command(flatten)]
    pub place: Place,
}

/// What is written, and what nobody said.
struct Draft {
    /// `[input]` and the task's section.
    sections: String,
    unfinished: Vec<String>,
}

/// What goes in: its name, and its sizes without the batch.
struct Image<'a> {
    tensor: &'a Tensor,
    order: &'static str,
    width: usize,
    height: usize,
}

/// Adds a model; says what was done, and what is left to do.
pub fn add(config: &Config, arguments: &Arguments) -> anyhow::Result<String> {
    let file = &arguments.file;
    let bytes = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    let runtime = Runtime::load(&config.onnxruntime)?;
    let description = Description::of(&runtime, file)?;
    let labels = labels(arguments, &description)?;
    let Draft { sections, mut unfinished } = draft(file, &description, labels)?;
    for (what, given) in [("source", &arguments.source), ("licence", &arguments.licence)] {
        if given.is_none() {
            unfinished.push(what.to_owned());
        }
    }
    let name = &arguments.name.name;
    let next = repository::named(&config.models, &ModelRef { name: name.clone(), version: None })
        .ok()
        .and_then(|folders| Some(folders.last()?.file_name()?.to_str()?.parse::<u32>().ok()? + 1));
    let version = arguments.name.version.or(next).unwrap_or(1);
    let sum: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    let given = |text: &Option<String>| text.clone().unwrap_or_else(|| "unknown".into());
    let mut manifest = String::new();
    writeln!(manifest, "name = {name:?}\nversion = {version}\nfile = \"model.onnx\"\nsha256 = {sum:?}")?;
    writeln!(manifest, "source = {:?}\nlicence = {:?}", given(&arguments.source), given(&arguments.licence))?;
    writeln!(manifest, "description = {:?}", format!("made of {}", file.file_name().unwrap_or_default().display()))?;
    if !unfinished.is_empty() {
        writeln!(
            manifest,
            "# Look at each, correct it, and take it out of this list: until it is empty, the model is not served."
        )?;
        writeln!(manifest, "unfinished = [")?;
        unfinished.iter().try_for_each(|what| writeln!(manifest, "    {what:?},"))?;
        writeln!(manifest, "]")?;
    }
    manifest += &sections;
    let folder = config.models.join(name).join(version.to_string());
    store(&folder, &manifest, &bytes)?;
    let mut said = format!("{}: {name}@{version}\n", folder.display());
    if unfinished.is_empty() {
        writeln!(said, "framepipe model check {name}@{version} says whether it can be served")?;
    } else {
        writeln!(
            said,
            "it is not served until {} is finished; the file does not say:",
            folder.join(MANIFEST_FILE).display()
        )?;
        unfinished.iter().try_for_each(|what| writeln!(said, "  {what}"))?;
    }
    Ok(said)
}

/// Whole, or not at all.
fn store(folder: &Path, manifest: &str, bytes: &[u8]) -> anyhow::Result<()> {
    ensure!(!folder.exists(), "{} is there: give another version, NAME@NUMBER", folder.display());
    let version = folder.file_name().expect("a version's folder has a name").to_string_lossy();
    let aside = folder.with_file_name(format!(".{version}.new"));
    let _ = fs::remove_dir_all(&aside); // what a former try left
    let written = (|| {
        fs::create_dir_all(&aside)?;
        fs::write(aside.join("model.onnx"), bytes)?;
        fs::write(aside.join(MANIFEST_FILE), manifest)
    })();
    written.with_context(|| format!("cannot write to {}", aside.display()))?;
    Manifest::load(&aside)?; // what was guessed must hold together
    fs::rename(&aside, folder).with_context(|| folder.display().to_string())
}

/// The labels that were given, or that the exporter noted: `{0: 'person', 1: 'car'}`.
fn labels(arguments: &Arguments, description: &Description) -> anyhow::Result<Option<Vec<String>>> {
    if let Some(path) = &arguments.labels {
        let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let labels: Vec<String> = text.lines().map(|line| line.trim().to_owned()).collect();
        ensure!(labels.iter().all(|label| !label.is_empty()), "{}: give one label a line", path.display());
        return Ok(Some(labels));
    }
    let noted = description.names.as_deref().and_then(|names| names.trim().strip_prefix('{')?.strip_suffix('}'));
    let label = |entry: &str| Some(entry.split_once(':')?.1.trim().trim_matches(['\'', '"']).to_owned());
    Ok(noted.and_then(|names| names.split(", ").map(label).collect()))
}

fn draft(file: &Path, description: &Description, labels: Option<Vec<String>>) -> anyhow::Result<Draft> {
    let image = image(file, &description.inputs)?;
    let output = match description.outputs.as_slice() {
        [output] if output.dtype == "f32" => output,
        outputs => bail!("{}: {}", file.display(), unknown(outputs)),
    };
    let cells: usize = STRIDES.iter().map(|stride| (image.width / stride) * (image.height / stride)).sum();
    match output.shape[..] {
        [_, Some(numbers), Some(count)] if count == cells && numbers > BOX_NUMBERS => {
            Ok(detector(&image, output, "yolov8.exported", "", numbers - BOX_NUMBERS, labels))
        }
        [_, Some(count), Some(numbers)] if count == ANCHORS * cells && numbers > BOX_NUMBERS + 1 => {
            let anchors = format!("anchors_per_cell = {ANCHORS}\n");
            Ok(detector(&image, output, "yolov3.exported", &anchors, numbers - BOX_NUMBERS - 1, labels))
        }
        [_, Some(classes)] if classes > 1 => Ok(classifier(&image, output, classes, labels)),
        _ => bail!("{}: {}", file.display(), unknown(&description.outputs)),
    }
}

fn image<'a>(file: &Path, inputs: &'a [Tensor]) -> anyhow::Result<Image<'a>> {
    let words = "framepipe feeds one tensor of images, f32 or u8, [batch, 3, rows, columns] or [batch, rows, columns, 3] of fixed sizes: \
                 export the model so";
    let [tensor] = inputs else { bail!("{} has the inputs {}: {words}", file.display(), listed(inputs)) };
    let (order, height, width) = match tensor.shape[..] {
        [_, Some(3), Some(height), Some(width)] => ("nchw", height, width),
        [_, Some(height), Some(width), Some(3)] => ("nhwc", height, width),
        _ => bail!("{} has the input {}: {words}", file.display(), listed(inputs)),
    };
    ensure!(
        ["f32", "u8"].contains(&tensor.dtype.as_str()),
        "{} has the input {}: {words}",
        file.display(),
        listed(inputs)
    );
    Ok(Image { tensor, order, width, height })
}

impl Image<'_> {
    /// `[input]`, with the operators before `layout`.
    fn section(&self, operators: &[String], normalize: &str) -> String {
        let mut section = format!("\n[input]\ntensor = {:?}\ngraph = [\n", self.tensor.name);
        for operator in operators {
            section += &format!("    {{ {operator} }},\n");
        }
        if self.tensor.dtype == "f32" {
            section += &format!("    {{ op = \"normalize\", {normalize} }},\n");
        }
        section + &format!("    {{ op = \"layout\", order = {:?} }},\n]\n", self.order)
    }

    fn resize(&self, more: &str) -> String {
        format!("op = \"resize\", {more}, width = {}, height = {}", self.width, self.height)
    }
}

/// A detector as ultralytics and its kin export it: letterbox, RGB, 0 to 1.
fn detector(
    image: &Image<'_>,
    output: &Tensor,
    head: &str,
    more: &str,
    classes: usize,
    labels: Option<Vec<String>>,
) -> Draft {
    let operators =
        ["op = \"decode\"".into(), "op = \"orient\"".into(), image.resize("fit = \"letterbox\", pad = 114")];
    let (labels, mut unfinished) = completed(labels, classes, "detector.labels");
    unfinished.push("input.graph: taken for letterbox, RGB, 0 to 1, as YOLOv5 and later are trained".into());
    let sections = format!(
        "{}\n[detector]\nlabels = {labels:?}\nscore_threshold = 0.25\niou_threshold = 0.7\ncandidates_max = 1000\n\
         detections_max = 300\n\n[detector.head.{head}]\noutput = {:?}\nstrides = {STRIDES:?}\n{more}",
        image.section(&operators, "std = 255"),
        output.name
    );
    Draft { sections, unfinished }
}

/// A classifier of crops, as torchvision trains them.
fn classifier(image: &Image<'_>, output: &Tensor, classes: usize, labels: Option<Vec<String>>) -> Draft {
    let operators = ["op = \"crop\", detection = \"square\", margin = 0.1".into(), image.resize("fit = \"stretch\"")];
    let (labels, mut unfinished) = completed(labels, classes, "attributes.outputs: labels");
    unfinished.push("input.graph: taken for a square crop, RGB, ImageNet's mean and std".into());
    unfinished.push("attributes.applies_to: taken for persons".into());
    unfinished.push("attributes.outputs: activation, taken for softmax of logits".into());
    let normalize = "mean = [123.675, 116.28, 103.53], std = [58.395, 57.12, 57.375]";
    let sections = format!(
        "{}\n[attributes]\napplies_to = [\"person\"]\n\n[[attributes.outputs]]\ntensor = {:?}\nname = \"class\"\n\
         kind = {{ class = {{ activation = \"softmax\", labels = {labels:?} }} }}\n",
        image.section(&operators, normalize),
        output.name
    );
    Draft { sections, unfinished }
}

/// As many labels as there are classes, and what is to be looked at of them.
fn completed(labels: Option<Vec<String>>, classes: usize, key: &str) -> (Vec<String>, Vec<String>) {
    match labels {
        Some(labels) if labels.len() == classes => (labels, Vec::new()),
        other => {
            let given = other.map_or("none given".into(), |labels| format!("{} given", labels.len()));
            let labels = (0..classes).map(|class| format!("class {class}")).collect();
            (labels, vec![format!("{key}: {classes} are needed, {given}")])
        }
    }
}

fn unknown(outputs: &[Tensor]) -> String {
    format!(
        "the outputs {} are not those of a family that is known by its shape (YOLOv8 or YOLOv3 in one exported tensor, a classifier): \
         write a manifest, after one of config/models and the families in ARCHITECTURE.md, and see framepipe model check",
        listed(outputs)
    )
}

fn listed(tensors: &[Tensor]) -> String {
    let size = |size: &Option<usize>| size.map_or("?".into(), |size| size.to_string());
    let tensor = |one: &Tensor| {
        let shape: Vec<String> = one.shape.iter().map(size).collect();
        format!("{:?} {} [{}]", one.name, one.dtype, shape.join(", "))
    };
    tensors.iter().map(tensor).collect::<Vec<_>>().join(", ")
}
