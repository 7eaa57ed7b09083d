//! Results as JSON objects, a line each, of the same keys as the Python client's (`python -m framepipe push --json`).

use framepipe_client::{Attribute, Detection, FrameResult, Outcome, Value, words};
use serde_json::{Map, Value as Json, json};

/// The line of a result.
pub fn result(result: &FrameResult) -> String {
    let (mut found, mut error, mut gap) = (None, Json::Null, Json::Null);
    match &result.outcome {
        Some(Outcome::Detections(detections)) => found = Some(detections),
        Some(Outcome::Error(frame)) => error = json!({"code": words::error_code(frame), "message": frame.message}),
        Some(Outcome::Gap(missing)) => gap = json!([missing.first_sequence, missing.last_sequence]),
        None => error = json!({"code": "UNSPECIFIED", "message": "an outcome that this client does not know"}),
    }
    let times: Vec<Json> = result
        .times
        .iter()
        .map(|time| json!({"stage": time.stage, "queued_us": time.queued_us, "busy_us": time.busy_us}))
        .collect();
    line(json!({
        "name": result.name,
        "sequence": result.sequence,
        "frame": result.frame,
        "batch_index": result.batch_index,
        "detections": found.map_or(Vec::new(), |found| found.detections.iter().map(detection).collect()),
        "error": error,
        "image_size": found.map(|found| [found.image_width, found.image_height]),
        "times": times,
        "detections_dropped": found.map_or(0, |found| found.detections_dropped),
        "crops_dropped": found.map_or(0, |found| found.crops_dropped),
        "masks_dropped": found.map_or(0, |found| found.masks_dropped),
        "gap": gap,
        "cached": result.cached,
    }))
}

/// The line of a file that has become no frame: it has neither a number nor a place in the stream.
pub fn refused(name: &str, code: &str, message: &str) -> String {
    let error = json!({"code": code, "message": message});
    line(json!({"name": name, "sequence": null, "frame": null, "batch_index": null, "detections": [], "error": error}))
}

fn line(object: Json) -> String {
    format!("{object}\n")
}

fn detection(one: &Detection) -> Json {
    let place = one.r#box.unwrap_or_default();
    let mut attributes = Map::new();
    for attribute in &one.attributes {
        // Where several models give an attribute of one name, the first has it plain.
        let name = &attribute.name;
        let key = if attributes.contains_key(name) { format!("{name}@{}", attribute.model) } else { name.clone() };
        attributes.insert(key, value(attribute));
    }
    let mask = one.mask.as_ref().map(
        |mask| json!({"x": mask.x, "y": mask.y, "width": mask.width, "height": mask.height, "counts": mask.counts}),
    );
    json!({
        "label": one.label,
        "class_index": one.class_index,
        "score": one.score,
        "box": [place.x0, place.y0, place.x1, place.y1],
        "attributes": attributes,
        "mask": mask,
    })
}

fn value(attribute: &Attribute) -> Json {
    let (value, score) = match &attribute.value {
        Some(Value::Classification(class)) => (json!(class.label), json!(class.score)),
        Some(Value::Number(number)) => (json!(number), Json::Null),
        Some(Value::Embedding(vector)) => (json!(vector.values), Json::Null),
        Some(Value::Classifications(found)) => {
            let class = |class: &framepipe_client::Classification| json!({"label": class.label, "score": class.score});
            (found.classes.iter().map(class).collect(), Json::Null)
        }
        Some(Value::Keypoints(found)) => {
            let point = |point: &framepipe_client::Keypoint| json!({"name": point.name, "x": point.x, "y": point.y, "score": point.score});
            (found.points.iter().map(point).collect(), Json::Null)
        }
        Some(Value::Text(text)) => (json!(text.text), json!(text.score)),
        None => (Json::Null, Json::Null),
    };
    json!({"value": value, "score": score, "model": attribute.model})
}

#[cfg(test)]
mod tests {
    use framepipe_client::{Classification, Detections, ErrorCode, FrameError, Gap};

    use super::*;

    fn parsed(line: &str) -> Json {
        assert_eq!(line.find('\n'), Some(line.len() - 1), "one line: {line:?}");
        serde_json::from_str(line).expect("it is JSON")
    }

    #[test]
    fn an_attribute_that_several_models_give_is_there_of_each() {
        let of = |model: &str, label: &str| {
            let class = Classification { label: label.into(), score: 0.5, class_index: 1 };
            Attribute { name: "gender".into(), model: model.into(), value: Some(Value::Classification(class)) }
        };
        let attributes = vec![of("first", "man"), of("second", "woman")];
        let detections = vec![Detection { label: "a\nb".into(), attributes, ..Detection::default() }];
        let found = Detections { detections, image_width: 3, image_height: 4, ..Detections::default() };
        let result = FrameResult { outcome: Some(Outcome::Detections(found)), ..FrameResult::default() };
        let object = parsed(&super::result(&result));
        let attributes = &object["detections"][0]["attributes"];
        assert_eq!(attributes["gender"], json!({"value": "man", "score": 0.5, "model": "first"}));
        assert_eq!(attributes["gender@second"]["value"], "woman");
        assert_eq!((&object["image_size"], &object["error"]), (&json!([3, 4]), &Json::Null));
    }

    #[test]
    fn errors_and_gaps_are_told_apart() {
        let of = |outcome| parsed(&result(&FrameResult { outcome, ..FrameResult::default() }));
        let error = FrameError { code: ErrorCode::Poison.into(), message: "m".into() };
        assert_eq!(of(Some(Outcome::Error(error)))["error"], json!({"code": "POISON", "message": "m"}));
        let gap = of(Some(Outcome::Gap(Gap { first_sequence: 3, last_sequence: 9 })));
        assert_eq!((&gap["gap"], &gap["error"]), (&json!([3, 9]), &Json::Null));
        assert_eq!(of(None)["error"]["code"], "UNSPECIFIED");
        assert_eq!(parsed(&refused("a", "UNREADABLE", "m"))["error"]["code"], "UNREADABLE");
    }
}
