use super::*;

/// A detector's manifest; its model file holds the bytes "model".
pub(crate) const DETECTOR: &str = r#"
name = "finder"
version = 3
file = "model.onnx"
sha256 = "9372c470eeadd5ecd9c3c74c2b3cb633f8e2f2fad799250a0f70d652b6b825e4"
source = "npm somewhere"
licence = "MIT"
description = "finds"
[input]
tensor = "images"
graph = [
    { op = "decode" },
    { op = "resize", fit = "stretch", width = 416, height = 416 },
    { op = "convert", color = "bgr" },
    { op = "normalize", mean = 0, std = [1, 1, 1] },
    { op = "layout", order = "nchw" },
]
[detector]
labels = ["person", "car"]
score_threshold = 0.35
iou_threshold = 0.6
candidates_max = 1000
detections_max = 100
[detector.head.nanodet]
scores = ["s8", "s16"]
boxes = ["b8", "b16"]
strides = [8, 16]
bins = 11
"#;

const NANODET: &str =
    "[detector.head.nanodet]\nscores = [\"s8\", \"s16\"]\nboxes = [\"b8\", \"b16\"]\nstrides = [8, 16]\nbins = 11\n";
const YOLOV2: &str = "[detector.head.yolov2]\noutput = \"out\"\ncell = 32\nanchors = [[1.5, 2], [3, 4]]\n";
const RESNET: &str = "[detector.head.resnet_anchor]\noutputs = [\"o0\", \"o1\"]\nstrides = [16, 32]\nanchors = [[[10, 20]], [[30, 40], [50, 60]]]\n";

/// An attribute model's manifest.
pub(crate) const ATTRIBUTES: &str = r#"
[attributes]
applies_to = ["face"]
[[attributes.outputs]]
tensor = "age"
name = "age"
kind = { expectation = { first = 0.0, step = 1.0 } }
[[attributes.outputs]]
tensor = "gender"
name = "gender"
kind = { class = { activation = "none", labels = ["male", "female"] } }
[[attributes.outputs]]
tensor = "mask"
name = "mask"
kind = { binary = { labels = ["no", "yes"] } }
[[attributes.outputs]]
tensor = "yaw"
name = "yaw"
kind = { number = {} }
[[attributes.outputs]]
tensor = "descriptor"
name = "embedding"
kind = { vector = { normalize = true } }
[[attributes.outputs]]
tensor = "mood"
name = "mood"
kind = { class = { activation = "softmax", labels = ["calm", "glad", "sad"] } }
"#;

const CROP: &str = "op = \"crop\", detection = \"square\", margin = 0.15";

/// The manifest of an attribute model with these sections.
pub(crate) fn with_attributes(attributes: &str) -> String {
    let detector = DETECTOR.replace("op = \"decode\"", CROP);
    format!("{}{attributes}", &detector[..detector.find("[detector]").expect("it is there")])
}

/// Loads a manifest of this text.
pub(crate) fn load(text: &str) -> Result<Manifest, ManifestError> {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join(MANIFEST_FILE), text).unwrap();
    Manifest::load(dir.path())
}

/// Loads DETECTOR with `from` replaced, and returns the error's words.
fn error_of(text: &str, from: &str, to: &str) -> String {
    assert!(text.contains(from), "{from:?} is not in the fixture");
    let error = load(&text.replacen(from, to, 1)).expect_err(&format!("{from:?} as {to:?} was taken"));
    let words = error.to_string();
    assert!(words.contains("manifest.toml"), "{words}");
    assert!(std::error::Error::source(&error).is_none(), "printed with its sources, it is said twice: {words}");
    words
}

#[test]
fn a_manifest_says_what_its_file_says() {
    let manifest = load(DETECTOR).unwrap();
    assert_eq!((manifest.name.as_str(), manifest.version, manifest.input.plan.width()), ("finder", 3, 416));
    assert_eq!(manifest.detector().unwrap().labels, ["person", "car"]);
    assert_eq!(manifest.model_path(), manifest.dir.join("model.onnx"));
    let words = manifest.attributes().unwrap_err().to_string();
    assert!(words.contains("no [attributes] section"), "{words}");

    let manifest = load(&with_attributes(ATTRIBUTES)).unwrap();
    let spec = manifest.attributes().unwrap();
    assert_eq!(spec.outputs[4].name, "embedding");
    assert_eq!(manifest.input.plan.crop_spec().unwrap().margin, 0.15);
    assert!(manifest.detector().unwrap_err().to_string().contains("no [detector] section"));
    for head in [YOLOV2, RESNET] {
        load(&DETECTOR.replace(NANODET, head)).unwrap();
    }
}

#[test]
fn a_key_too_many_or_too_few_is_shown_with_its_line() {
    let places = [("name = ", 2), ("tensor = ", 10), ("labels = ", 19), ("bins = ", 28)];
    for (key, line) in places {
        let words = error_of(DETECTOR, key, &format!("colour = 1\n{key}"));
        assert!(words.contains("colour") && words.contains(&format!("line {line}")), "{words}");
    }
    for (key, missing) in
        [("licence = \"MIT\"", "licence"), ("bins = 11", "bins"), ("iou_threshold = 0.6", "iou_threshold")]
    {
        let words = error_of(DETECTOR, key, "");
        assert!(words.contains(&format!("missing field `{missing}`")), "{words}");
    }
    let words = error_of(DETECTOR, "[detector.head.nanodet]", "[detector.head.yolov1]");
    assert!(words.contains("yolov1") && words.contains("yolov2"), "{words}");
    let attributes = with_attributes(ATTRIBUTES);
    for (from, to) in [
        ("number = {}", "number = { unit = \"m\" }"),
        ("step = 1.0", "step = 1.0, last = 9"),
        ("\"softmax\"", "\"relu\""),
    ] {
        assert!(error_of(&attributes, from, to).contains("line "), "{to}");
    }
}

#[test]
fn exactly_one_task_is_needed() {
    let words = load(&format!("{DETECTOR}{ATTRIBUTES}")).unwrap_err().to_string();
    assert!(words.contains("\"both\"") && words.contains("exactly one of [detector] and [attributes]"), "{words}");
    let words = load(&with_attributes("")).unwrap_err().to_string();
    assert!(words.contains("\"neither\""), "{words}");
}

#[test]
fn a_value_that_cannot_be_right_is_named_with_its_key() {
    let cases = [
        ("name = \"finder\"", "name = \"../finder\"", "name = \"../finder\""),
        ("version = 3", "version = 0", "version = 0"),
        ("model.onnx", "/etc/passwd", "file = \"/etc/passwd\""),
        ("9372c4", "9372C4", "64 lower-case hex digits"),
        ("9372c4", "9372c", "sha256"),
        ("tensor = \"images\"", "tensor = \"\"", "input.tensor"),
        ("width = 416", "width = 0", "input.graph[1] (resize): width = 0"),
        ("std = [1, 1, 1]", "std = [1, 0, 1]", "input.graph[3] (normalize): std = [1.0, 0.0, 1.0]"),
        ("op = \"decode\"", "op = \"crop\", detection = \"square\"", "a detector's begins with decode"),
        ("\"person\", \"car\"", "", "detector.labels = []"),
        ("\"car\"", "\"person\"", "\"person\" stands there twice"),
        ("\"car\"", "\" \"", "detector.labels"),
        (
            "score_threshold = 0.35",
            "score_threshold = 1.5",
            "detector.score_threshold = 1.5: give a number from 0 to 1",
        ),
        ("score_threshold = 0.35", "score_threshold = nan", "detector.score_threshold = NaN"),
        ("iou_threshold = 0.6", "iou_threshold = -0.1", "detector.iou_threshold = -0.1"),
        ("candidates_max = 1000", "candidates_max = 0", "detector.candidates_max = 0"),
        ("candidates_max = 1000", "candidates_max = 1000000", "detector.candidates_max = 1000000"),
        ("detections_max = 100", "detections_max = 1001", "give 1 to candidates_max, which is 1000"),
        ("strides = [8, 16]", "strides = []", "detector.head.nanodet.strides = []"),
        ("strides = [8, 16]", "strides = [8, 16, 32]", "one tensor for each of the 3 strides"),
        ("strides = [8, 16]", "strides = [8, 0]", "detector.head.nanodet.strides = 0"),
        ("strides = [8, 16]", "strides = [8, 15]", "divides the input's 416x416"),
        ("\"b8\", ", "", "detector.head.nanodet.boxes"),
        ("\"b8\"", "\"s8\"", "\"s8\" stands there twice"),
        ("bins = 11", "bins = 1", "detector.head.nanodet.bins = 1"),
    ];
    for (from, to, expected) in cases {
        let words = error_of(DETECTOR, from, to);
        assert!(words.contains(expected), "{to}: {words}");
    }
    let anchors = [
        (YOLOV2, "[1.5, 2]", "[inf, 2]", "detector.head.yolov2.anchors"),
        (YOLOV2, "[1.5, 2]", "[0, 2]", "above 0"),
        (YOLOV2, "[[1.5, 2], [3, 4]]", "[]", "1 to 64 pairs"),
        (YOLOV2, "cell = 32", "cell = 30", "detector.head.yolov2.cell = 30"),
        (RESNET, "\"o0\", ", "", "detector.head.resnet_anchor.outputs"),
        (RESNET, "[[10, 20]], ", "", "one list of anchors for each of the 2 strides"),
        (RESNET, "[10, 20]", "[10, nan]", "detector.head.resnet_anchor.anchors"),
        (RESNET, "strides = [16, 32]", "strides = []", "detector.head.resnet_anchor.strides"),
    ];
    for (head, from, to, expected) in anchors {
        let words = error_of(&DETECTOR.replace(NANODET, head), from, to);
        assert!(words.contains(expected), "{to}: {words}");
    }
    let attributes = [
        ("[\"face\"]", "[]", "attributes.applies_to = []"),
        ("margin = 0.15", "margin = -1", "input.graph[0] (crop): margin = -1"),
        (CROP, "op = \"decode\"", "an attribute model's begins with crop"),
        ("name = \"mask\"", "name = \"age\"", "attributes.outputs.name"),
        ("tensor = \"mask\"", "tensor = \"age\"", "attributes.outputs.tensor"),
        ("[\"no\", \"yes\"]", "[\"no\"]", "attributes.outputs[2].kind.binary.labels = [\"no\"]: give 2 to 2 names"),
        ("[\"male\", \"female\"]", "[\"male\"]", "attributes.outputs[1].kind.class.labels"),
        ("step = 1.0", "step = 0", "attributes.outputs[0].kind.expectation"),
        ("first = 0.0", "first = inf", "attributes.outputs[0].kind.expectation"),
    ];
    for (from, to, expected) in attributes {
        let words = error_of(&with_attributes(ATTRIBUTES), from, to);
        assert!(words.contains(expected), "{to}: {words}");
    }
}

/// `<dir>/finder/<version>/`, with a manifest of that version.
fn add_version(dir: &Path, folder: &str, version: u32) -> PathBuf {
    let model = dir.join("finder").join(folder);
    std::fs::create_dir_all(&model).unwrap();
    let text = DETECTOR.replace("version = 3", &format!("version = {version}"));
    std::fs::write(model.join(MANIFEST_FILE), text).unwrap();
    model
}

fn find(models_dir: &Path, model: &str) -> Result<Manifest, ManifestError> {
    Manifest::find(models_dir, &model.parse().unwrap())
}

#[test]
fn the_highest_version_with_a_manifest_is_found() {
    let dir = tempfile::tempdir().unwrap();
    for version in [2, 10, 9] {
        add_version(dir.path(), &version.to_string(), version);
    }
    std::fs::create_dir_all(dir.path().join("finder/11")).unwrap();
    add_version(dir.path(), "latest", 12);
    let manifest = find(dir.path(), "finder").unwrap();
    assert_eq!((manifest.version, manifest.dir), (10, dir.path().join("finder/10")));
    add_version(dir.path(), "20", 19);
    let words = find(dir.path(), "finder").unwrap_err().to_string();
    assert!(words.contains("version = 19") && words.contains("number of its folder"), "{words}");
}

#[test]
fn a_missing_model_lists_those_there_are() {
    let dir = tempfile::tempdir().unwrap();
    let words = find(&dir.path().join("none"), "finder").unwrap_err().to_string();
    assert!(
        words.contains("there are none") && words.contains("run scripts/setup") && words.contains("paths.models"),
        "{words}"
    );
    add_version(dir.path(), "1", 1);
    let words = find(dir.path(), "nanodet").unwrap_err().to_string();
    assert!(words.contains("no model \"nanodet\"") && words.contains("there are finder"), "{words}");
    add_version(dir.path(), "3", 3);
    assert_eq!(find(dir.path(), "finder@1").unwrap().version, 1, "not the newest");
    let words = find(dir.path(), "finder@2").unwrap_err().to_string();
    assert!(words.contains("no version finder@2") && words.contains("there are 1, 3"), "{words}");
    assert!(matches!(Manifest::load(dir.path()), Err(ManifestError::Read { .. })));
}

#[test]
fn verify_knows_the_file_a_missing_one_and_another() {
    let dir = tempfile::tempdir().unwrap();
    let model = add_version(dir.path(), "3", 3);
    let manifest = Manifest::load(&model).unwrap();
    let words = manifest.verify().unwrap_err().to_string();
    assert!(words.contains("model.onnx, which does not exist"), "{words}");
    std::fs::write(manifest.model_path(), "model").unwrap();
    manifest.verify().unwrap();
    std::fs::write(manifest.model_path(), "mode1").unwrap();
    let Err(ManifestError::Checksum { expected, actual, .. }) = manifest.verify() else { panic!("it was taken") };
    assert_eq!(expected, manifest.sha256);
    assert_eq!(actual, "f26577a9e6b0228aef5acbb1c403d5523b51398c0646f731935b33eb376c8a8a");
}

#[test]
fn an_int8_model_far_from_its_float_twin_is_refused_unless_forced() {
    let with = |agreement: &str, forced: bool| {
        load(&format!(
            "{DETECTOR}[quantized]\nagreement = {agreement}\nmeasure = \"ap50\"\nimages = 212\nspeed = 1.9\n\
             float_layers = [\"conv_3\"]\nforced = {forced}\n"
        ))
    };
    load(DETECTOR).unwrap().check_servable().unwrap();
    with("0.97", false).unwrap().check_servable().unwrap();
    let words = with("0.9699", false).unwrap().check_servable().unwrap_err().to_string();
    assert!(words.contains("0.9699 is below 0.97") && words.contains("--force"), "{words}");
    with("0.9699", true).unwrap().check_servable().unwrap();
    for wrong in ["1.01", "-0.1", "nan"] {
        let words = with(wrong, true).expect_err(wrong).to_string();
        assert!(words.contains("quantized.agreement"), "{words}");
    }
}

#[test]
fn an_int8_model_for_another_device_is_refused() {
    let with = |lines: &str| {
        load(&format!(
            "{DETECTOR}[quantized]\nagreement = 0.99\nmeasure = \"ap50\"\nimages = 212\nfloat_layers = []\nforced = true\n{lines}"
        ))
    };
    with("target = \"cpu\"\nspeed = 2.0\n").unwrap().check_servable().unwrap();
    let words = with("target = \"tensorrt\"\n").unwrap().check_servable().unwrap_err().to_string();
    assert!(words.contains("tensorrt") && words.contains("--target cpu"), "{words}");
    assert!(with("target = \"abacus\"\n").is_err());
    assert!(with("speed = 0.0\n").is_err());
}
