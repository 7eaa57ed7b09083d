//! `framepipe inspect`: what it says and draws is what the graph's operators and the one pass make of an image.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use framepipe_tests::{Home, images, program, repository};
use image::RgbImage;

fn config(pipeline: &str) -> PathBuf {
    repository().join("config").join(pipeline)
}

fn inspect(image: &Path, config: &Path, out: &Path, more: &[&str]) -> Output {
    let mut command = Command::new(program());
    command.arg("inspect").arg(image).arg("--config").arg(config).arg("--out").arg(out).args(more);
    command.output().expect("framepipe can be run")
}

/// What a run that must succeed printed.
fn said(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).expect("it prints UTF-8")
}

fn check_failure(output: &Output, status: i32, words: &[&str]) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(status), "{said}");
    for word in words {
        assert!(said.contains(word), "{word:?} is wanted in: {said}");
    }
}

fn picture(folder: &Path, name: &str) -> RgbImage {
    let path = folder.join(name);
    image::open(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())).into_rgb8()
}

/// The largest difference of two pictures' levels.
fn apart(one: &RgbImage, other: &RgbImage) -> u8 {
    assert_eq!(one.dimensions(), other.dimensions());
    one.iter().zip(other.iter()).map(|(one, other)| one.abs_diff(*other)).max().expect("they have pixels")
}

/// A photo that says that its top is at the right.
fn turned(jpeg: &[u8]) -> Vec<u8> {
    // Big-endian TIFF with one entry: tag 0x0112, one short, 6.
    let exif = b"\xff\xe1\x00\x22Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0";
    [&jpeg[..2], exif, &jpeg[2..]].concat()
}

#[test]
fn operators_one_by_one_and_the_one_pass_show_the_same_and_crops_are_of_what_was_found() {
    let home = Home::new();
    let out = home.path("out");
    let said = said(&inspect(&images::photo_path("zidane.jpg"), &config("faces.toml"), &out, &[]));
    for words in [
        "1280x720 pixels",
        "720x1280x3 u8  416x416x3 u8",
        "416x416x3 u8   416x416x3 f32",
        "416x416x3 f32  3x416x416 f32",
        "fit=pad_right_bottom",
        "mean=[117.001,114.697,97.404]",
        "decoded at full size, kept for the crops; linear across, linear down",
        "x = (x - 0) * 3.0769",
        "face 0.",
        "224x224x3 u8   3x224x224 u8",
    ] {
        assert!(said.contains(words), "{words:?} is wanted in: {said}");
    }
    assert_eq!(picture(&out, "source.png").dimensions(), (1280, 720));
    assert!(apart(&picture(&out, "source.png"), &picture(&out, "detections.png")) > 100, "a box is drawn");
    let tensor = picture(&out, "tensor.png");
    assert_eq!(tensor.dimensions(), (416, 416));
    assert!(apart(&picture(&out, "2-resize.png"), &tensor) <= 1);
    assert_eq!(tensor.get_pixel(200, 300).0, [0; 3], "the padding below");
    for (model, side) in
        [("face-resnet34-descriptor", 150), ("face-age-gender", 112), ("face-expression", 112), ("faceres", 224)]
    {
        assert_eq!(picture(&out, &format!("crop-0-{model}.png")).dimensions(), (side, side), "{model}");
    }
    let page = fs::read_to_string(out.join("index.html")).expect("there is a page");
    assert!(page.contains("src=\"tensor.png\"") && page.contains("src=\"crop-0-faceres.png\""), "{page}");
}

#[test]
fn blue_first_and_the_right_way_up() {
    let home = Home::new();
    let (image, out) = (home.path("turned.jpg"), home.path("out"));
    fs::write(&image, turned(&images::photo("bus.jpg"))).expect("the test's own folder");
    let said = said(&inspect(&image, &config("street.toml"), &out, &[]));
    for words in
        ["orientation 6", "1080x810x3 u8  810x1080x3 u8", "color=bgr", "area across, linear down", "blue   min"]
    {
        assert!(said.contains(words), "{words:?} is wanted in: {said}");
    }
    let (stored, source) = (picture(&out, "0-decode.png"), picture(&out, "source.png"));
    assert_eq!((stored.dimensions(), source.dimensions()), ((810, 1080), (1080, 810)));
    assert_eq!(source.get_pixel(1079, 0), stored.get_pixel(0, 0));
    assert!(!out.join("1-orient.png").exists(), "it is the source");
    // The tensor is of blue, green and red; its picture has them as the resized photo has.
    assert!(apart(&picture(&out, "2-resize.png"), &picture(&out, "tensor.png")) <= 1);
}

#[test]
fn boxes_are_cropped_without_the_inference_engine_and_json_says_the_same() {
    let home = Home::new();
    let absent = home.path("libonnxruntime.so");
    let own = home.configure(&format!(
        "[pipeline]\ndetector = \"tiny-face-416\"\nattributes = [\"faceres\"]\n[paths]\nonnxruntime = {absent:?}\n"
    ));
    let (image, out) = (images::photo_path("zidane.jpg"), home.path("out"));
    let text = said(&inspect(&image, &own, &out, &["--json", "--box", "-40,10,60,110", "--box=870,110,1090,300"]));
    let report: serde_json::Value = serde_json::from_str(&text).expect("it is JSON");
    assert_eq!(
        report,
        serde_json::from_slice::<serde_json::Value>(&fs::read(out.join("inspect.json")).expect("kept")).expect("JSON")
    );
    assert_eq!(report["detector"]["operators"][2]["after"], serde_json::json!({"shape": [416, 416, 3], "dtype": "u8"}));
    assert_eq!(report["detections"][1]["box"], serde_json::json!([870.0, 110.0, 1090.0, 300.0]));
    let crops = report["attributes"][0]["crops"].as_array().expect("crops");
    assert_eq!(crops.len(), 2);
    for crop in crops.iter().chain([&report["detector"]]) {
        let apart = crop["difference"]["max"].as_f64().expect("a number");
        assert!(apart < 0.05, "{apart} grey levels");
    }
    // 55 of its 130 columns lie left of the photo, whose edge is repeated.
    for (edge, expected) in [-55.0, -5.0, 75.0, 125.0].into_iter().enumerate() {
        let edge = crops[0]["box"][edge].as_f64().expect("a number");
        assert!((edge - expected).abs() < 0.001, "{edge} instead of {expected}");
    }
    let crop = picture(&out, "crop-0-faceres.png");
    assert_eq!(crop.get_pixel(0, 112), crop.get_pixel(80, 112));
    assert_ne!(crop.get_pixel(100, 112), crop.get_pixel(200, 112));

    check_failure(&inspect(&image, &own, &home.path("none"), &[]), 1, &["libonnxruntime.so", "--box"]);
}

#[test]
fn what_cannot_be_inspected_is_said_and_leaves_nothing() {
    let home = Home::new();
    let (faces, out) = (config("faces.toml"), home.path("out"));
    let photo = images::photo("zidane.jpg");
    for (bytes, word) in [
        (&photo[..photo.len() / 2], "CorruptImage"),
        (&b"no image"[..], "UnsupportedFormat"),
        (&[], "UnsupportedFormat"),
    ] {
        let image = home.path("broken.jpg");
        fs::write(&image, bytes).expect("the test's own folder");
        check_failure(&inspect(&image, &faces, &out, &[]), 1, &["broken.jpg", word]);
    }
    let image = images::photo_path("zidane.jpg");
    check_failure(&inspect(&home.path("absent.jpg"), &faces, &out, &[]), 1, &["absent.jpg", "No such file"]);
    check_failure(&inspect(&home.path(""), &faces, &out, &[]), 1, &["no file"]);
    check_failure(&inspect(&image, &config("absent.toml"), &out, &[]), 1, &["absent.toml", "No such file"]);
    let unknown = home.configure("[pipeline]\ndetector = \"no-such-model\"\n");
    check_failure(&inspect(&image, &unknown, &out, &[]), 1, &["no-such-model", "tiny-face-416"]);
    for wrong in [&["--box", "1,2,3"][..], &["--box", "5,5,5,9"], &["--crops", "few"], &["--croops"]] {
        check_failure(&inspect(&image, &faces, &out, wrong), 2, &["--help"]);
    }
    assert!(!out.exists());
}

#[test]
fn others_files_are_not_overwritten_and_an_earlier_inspections_are() {
    let home = Home::new();
    let (image, faces, out) = (images::photo_path("zidane.jpg"), config("faces.toml"), home.path("out"));
    fs::create_dir(&out).expect("the test's own folder");
    fs::write(out.join("source.png"), "mine").expect("the test's own folder");
    check_failure(&inspect(&image, &faces, &out, &[]), 1, &["inspect.json", "--out"]);
    assert_eq!(fs::read_to_string(out.join("source.png")).expect("it is there"), "mine");
    fs::remove_file(out.join("source.png")).expect("it is there");

    said(&inspect(&image, &faces, &out, &[]));
    fs::write(out.join("mine.png"), "mine").expect("the test's own folder");
    said(&inspect(&image, &faces, &out, &["--crops", "0"]));
    assert!(out.join("mine.png").exists() && out.join("tensor.png").exists());
    assert!(!out.join("crop-0-faceres.png").exists(), "an earlier inspection's");
}
