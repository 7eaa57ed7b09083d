//! The report as a page that shows the pictures.

use crate::{
    detector::SOURCE,
    report::{InputRow, Report},
};

const STYLE: &str = "body{font:15px sans-serif;margin:2em}img{max-width:420px;max-height:420px;background:#ccc}\
td,th{padding:.3em 1em;text-align:left;vertical-align:top}pre{overflow:auto}figure{display:inline-block;margin:.5em}";

/// All of it.
pub fn html(report: &Report) -> String {
    let crops: String = report
        .attributes
        .iter()
        .map(|row| {
            let figure =
                |crop: &crate::report::CropRow| figure(&crop.pass.picture, &format!("detection {}", crop.detection));
            let figures: String = row.crops.iter().map(figure).collect();
            format!("<h2>{}</h2>\n{figures}\n", escaped(&row.input.model))
        })
        .collect();
    let name = escaped(&report.image.path);
    format!(
        "<!doctype html>\n<meta charset=\"utf-8\">\n<title>{name}</title>\n<style>{STYLE}</style>\n<h1>{name}</h1>\n{}{}\
         <h2>{}</h2>\n{}{}\n{crops}<h2>In numbers</h2>\n<pre>{}</pre>\n",
        figure(SOURCE, "source"),
        figure("detections.png", "detections"),
        escaped(&report.detector.input.model),
        operators(&report.detector.input),
        figure(&report.detector.pass.picture, "what the model sees"),
        escaped(&report.to_string()),
    )
}

fn operators(input: &InputRow) -> String {
    let row = |(at, row): (usize, &crate::report::OperatorRow)| {
        // A picture that an earlier operator shows already is not shown again.
        let earlier = at.checked_sub(1).and_then(|at| input.operators[at].picture.as_deref()).unwrap_or(SOURCE);
        let picture = row.picture.as_deref().filter(|picture| *picture != earlier);
        let picture = picture.map_or(String::new(), |picture| format!("<img src=\"{}\">", escaped(picture)));
        let (name, arguments) = (row.name, escaped(&row.arguments));
        format!("<tr><th>{name}<td>{}<td>{arguments}<td>{picture}\n", row.after)
    };
    format!("<table>\n{}</table>\n", input.operators.iter().enumerate().map(row).collect::<String>())
}

fn figure(picture: &str, caption: &str) -> String {
    let (picture, caption) = (escaped(picture), escaped(caption));
    format!("<figure><img src=\"{picture}\"><figcaption>{caption}</figcaption></figure>\n")
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
