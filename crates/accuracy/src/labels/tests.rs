//! Labels that are read, and hostile ones that are not.

use std::fs;

use super::*;

const COCO: &str = r#"{
    "info": {"year": 2026},
    "images": [{"id": 9, "file_name": "b.jpg", "width": 640, "height": 480}, {"id": 2, "file_name": "sub/a.jpg"}],
    "categories": [{"id": 3, "name": "car"}, {"id": 1, "name": "person"}],
    "annotations": [
        {"id": 5, "image_id": 9, "category_id": 1, "bbox": [10, 20.5, 30, 40], "iscrowd": 0, "segmentation": [[1, 2]]},
        {"id": 6, "image_id": 9, "category_id": 3, "bbox": [0, 0, 5, 5], "iscrowd": 1}
    ]
}"#;

const VOC: &str = "<annotation><filename>a.jpg</filename>
    <size><width>500</width><height>375</height><depth>3</depth></size>
    <object><name>person</name><difficult>0</difficult>
        <bndbox><xmin>1</xmin><ymin>11</ymin><xmax>2</xmax><ymax>20.5</ymax></bndbox></object>
    <object><name>dog</name><difficult>1</difficult>
        <bndbox><xmin>5</xmin><ymin>5</ymin><xmax>9</xmax><ymax>9</ymax></bndbox></object>
</annotation>";

fn coco(text: &str) -> Result<Labels, LabelsError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("labels.json");
    fs::write(&path, text).unwrap();
    Labels::read(&path)
}

fn voc(files: &[(&str, &str)]) -> Result<Labels, LabelsError> {
    let folder = tempfile::tempdir().unwrap();
    files.iter().for_each(|(name, text)| fs::write(folder.path().join(name), text).unwrap());
    Labels::read(folder.path())
}

fn refused(read: Result<Labels, LabelsError>, words: &[&str]) {
    let said = read.expect_err(&format!("labels were taken; {words:?} was to be said")).to_string();
    for word in words {
        assert!(said.contains(word), "{word:?} is wanted in: {said}");
    }
}

#[test]
fn cocos_boxes_get_corners_and_images_come_by_id() {
    let labels = coco(COCO).unwrap();
    assert_eq!(labels.classes, ["car", "person"]);
    let [first, second] = &labels.images[..] else { panic!("{labels:?}") };
    assert_eq!((first.file.as_str(), first.size, first.objects.len()), ("sub/a.jpg", None, 0));
    assert_eq!((second.file.as_str(), second.size), ("b.jpg", Some((640, 480))));
    let person = Object { class: 1, corners: [10.0, 20.5, 40.0, 60.5], counting: Counting::Counted };
    let cars = Object { class: 0, corners: [0.0, 0.0, 5.0, 5.0], counting: Counting::Crowd };
    assert_eq!(second.objects, [person, cars]);
}

#[test]
fn vocs_pixels_are_counted_from_one_and_the_last_is_the_objects() {
    let labels = voc(&[("1.xml", VOC), ("notes.txt", "no label")]).unwrap();
    assert_eq!(labels.classes, ["person", "dog"]);
    let [image] = &labels.images[..] else { panic!("{labels:?}") };
    assert_eq!((image.file.as_str(), image.size), ("a.jpg", Some((500, 375))));
    let person = Object { class: 0, corners: [0.0, 10.0, 2.0, 20.5], counting: Counting::Counted };
    let dog = Object { class: 1, corners: [4.0, 4.0, 9.0, 9.0], counting: Counting::Ignored };
    assert_eq!(image.objects, [person, dog]);
}

#[test]
fn whatever_cocos_json_is_cut_to_is_an_error() {
    for end in 0..COCO.trim_end().len() {
        refused(coco(&COCO[..end]), &["labels.json"]);
    }
}

#[test]
fn a_value_that_cannot_be_right_is_named() {
    let cases: [(&str, &str, &[&str]); 16] = [
        ("[10, 20.5, 30, 40]", "[10, 20.5, -30, 40]", &["annotations[0] (id 5)", "-30 wide", "sides of 0 or more"]),
        ("[10, 20.5, 30, 40]", "[NaN, 20.5, 30, 40]", &["line 6"]),
        ("[10, 20.5, 30, 40]", "[1e999, 20.5, 30, 40]", &["out of range"]),
        ("[10, 20.5, 30, 40]", "[1e300, 20.5, 1e300, 40]", &["annotations[0]", "10 million"]),
        ("[10, 20.5, 30, 40]", "[10, 20.5, 30]", &["invalid length 3"]),
        ("[10, 20.5, 30, 40]", "[10, 20.5, null, 40]", &["null"]),
        ("\"id\": 6", "\"id\": 5", &["annotations[1] (id 5)", "twice"]),
        ("\"id\": 2", "\"id\": 9", &["images", "id 9 twice"]),
        ("\"id\": 3", "\"id\": 1", &["categories", "id 1 twice"]),
        ("\"image_id\": 9", "\"image_id\": 8", &["image_id = 8", "no image has this id"]),
        ("\"category_id\": 1", "\"category_id\": 7", &["category_id = 7", "no category"]),
        ("\"name\": \"car\"", "\"name\": \"person\"", &["\"person\" is there twice"]),
        ("sub/a.jpg", "b.jpg", &["\"b.jpg\" is there twice"]),
        ("sub/a.jpg", "../a.jpg", &["\"../a.jpg\"", "below the folder"]),
        ("sub/a.jpg", "/etc/passwd", &["\"/etc/passwd\"", "below the folder"]),
        ("\"iscrowd\": 1", "\"iscrowd\": 2", &["iscrowd = 2", "give 0 or 1"]),
    ];
    for (from, to, words) in cases {
        assert!(COCO.contains(from), "{from}");
        refused(coco(&COCO.replacen(from, to, 1)), words);
    }
    refused(coco(r#"{"images": [], "annotations": [], "categories": []}"#), &["no images"]);
    refused(coco("[]"), &["COCO's JSON with images"]);
    refused(coco(&"[".repeat(100_000)), &["labels.json"]);
    refused(Labels::read(Path::new("/nowhere/labels.json")), &["/nowhere/labels.json"]);
}

#[test]
fn a_file_beyond_its_bound_is_not_read_whole() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("labels.json");
    File::create(&path).unwrap().set_len((1 << 30) + 1).unwrap(); // a hole: it takes no room
    assert!(matches!(read_file(&path, 1000), Err(LabelsError::TooLarge { most: 1000, .. })));
    assert!(read_file(Path::new("/dev/zero"), 1000).is_err(), "an endless one");
}

#[test]
fn hostile_xml_is_an_error() {
    let bomb = format!(
        "<!DOCTYPE a [<!ENTITY a \"aaaaaaaaaa\"><!ENTITY b \"&a;&a;&a;&a;&a;&a;&a;&a;\">]>{}",
        VOC.replace("person", "&b;")
    );
    refused(voc(&[("1.xml", &bomb)]), &["1.xml", "DTD"]);
    let outside = format!("<!DOCTYPE a [<!ENTITY a SYSTEM \"file:///etc/passwd\">]>{}", VOC.replace("person", "&a;"));
    refused(voc(&[("1.xml", &outside)]), &["1.xml", "DTD"]);
    for end in 0..VOC.trim_end().len() {
        refused(voc(&[("1.xml", &VOC[..end])]), &["1.xml"]);
    }
    let cases: [(&str, &str, &[&str]); 7] = [
        ("<xmin>1<", "<xmin>NaN<", &["<xmin> is \"NaN\""]),
        ("<xmin>1<", "<xmin>inf<", &["<xmin> is \"inf\""]),
        ("<xmin>1<", "<xmin>9<", &["object 0", "wide"]),
        ("<xmin>1</xmin>", "", &["<bndbox> has no <xmin>"]),
        ("<filename>a.jpg</filename>", "", &["<annotation> has no <filename>"]),
        ("a.jpg", "../../a.jpg", &["below the folder"]),
        ("<width>500<", "<width>-5<", &["<width> is \"-5\""]),
    ];
    for (from, to, words) in cases {
        assert!(VOC.contains(from), "{from}");
        refused(voc(&[("1.xml", &VOC.replacen(from, to, 1))]), words);
    }
    refused(voc(&[]), &["0 files end with .xml"]);
    refused(voc(&[("1.xml", VOC), ("2.xml", VOC)]), &["\"a.jpg\" is there twice"]);
    refused(voc(&[("1.xml", "<html/>")]), &["<html>", "<annotation>"]);
}
