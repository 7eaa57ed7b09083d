//! `framepipe inspect`: what a pipeline's preprocess graphs make of an image, operator by operator and in the one pass that
//! the stages run, in numbers and pictures.
//!
//! | file | what it holds |
//! |---|---|
//! | `frame.rs` | the image, decoded as the stages decode it |
//! | `inspection.rs` | one tensor: its operators one by one, its one pass, and how they differ |
//! | `detector.rs` | the detector's tensor, and what the detector finds in it |
//! | `crops.rs` | the tensors that attribute models see of detections |
//! | `report.rs` | what is said, as JSON |
//! | `text.rs` | the same for people |
//! | `page.rs` | the same as a page with the pictures |
//! | `folder.rs` | where the pictures go, without harm to others' files |

mod crops;
mod detector;
mod folder;
mod frame;
mod inspection;
mod page;
mod report;
mod text;

use std::{
    io::{ErrorKind, Write as _},
    path::PathBuf,
    process::ExitCode,
};

use anyhow::{Context as _, ensure};
use clap::Parser;
use framepipe_draw::{Captioned, draw};
use framepipe_frame::detections::Detection;
use framepipe_pipeline::{Config, ConfigFile, Overrides, Plan, command_line};

use crate::{
    folder::Folder,
    frame::Frame,
    report::{DetectionRow, Report},
};

/// Show what a pipeline's preprocess graphs make of an image, operator by operator, with pictures.
#[derive(Parser)]
#[command(
    name = "framepipe inspect",
    bin_name = "framepipe inspect",
    version,
    after_help = "Examples:
  framepipe inspect photos/zidane.jpg --config config/faces.toml
  framepipe inspect photos/zidane.jpg --config config/faces.toml --box 480,200,670,460
  framepipe inspect photos/bus.jpg --json | jq '.detector.operators[] | {name, after, ms}'

Each operator is done by itself, in the plainest way, which is slow; and all of them in one
pass, as the stages do it. Both must give the same, and how far they differ is said. Times are
wall-clock milliseconds, the median of 3 runs; that of decode is the decoder's. It takes some
60 bytes of memory for each decoded pixel. No pipeline need run.

Exit status: 0 done; 1 not done, as the message says; 2 wrong usage."
)]
struct Cli {
    /// A JPEG, PNG, WebP or BMP file.
    image: PathBuf,
    #[command(flatten)]
    file: ConfigFile,
    /// Folder for the pictures and index.html: a new or empty one, or one of an earlier inspection, whose files are replaced
    /// [default: inspect-IMAGE].
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Crop this box, in pixels of the image the right way up, instead of what the detector finds; may be repeated. The
    /// detector is not run then, and every attribute model's crop is made.
    #[arg(long = "box", value_name = "X0,Y0,X1,Y1", value_parser = corners, allow_hyphen_values = true)]
    boxes: Vec<[f32; 4]>,
    /// Most detections that are cropped, highest scores first.
    #[arg(long, value_name = "N", default_value_t = 4)]
    crops: usize,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    match inspect(&command_line::parse::<Cli>()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("framepipe inspect: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn inspect(cli: &Cli) -> anyhow::Result<()> {
    let config = Config::load(&cli.file.config, &Overrides::default())?;
    let plan = Plan::of(&config)?;
    let mut frame = Frame::read(&cli.image, &plan, config.limits)?;
    let seen = detector::see(&mut frame, &plan.detector)?;
    let found = match cli.boxes.as_slice() {
        [] => detector::find(&config, &plan.detector, &seen, frame.size())
            .context("the detector cannot be run; --box gives boxes without it")?,
        boxes => boxes.iter().map(|corners| of_corners(*corners)).collect(),
    };
    let labels = &plan.detector.detector()?.labels;
    let label = |one: &Detection| cli.boxes.is_empty().then(|| labels[one.class as usize].clone());
    let rows: Vec<DetectionRow> = found.iter().map(|one| DetectionRow::new(one, label(one))).collect();

    let mut folder = Folder::open(&cli.out.clone().unwrap_or_else(|| folder::default_of(&cli.image)))?;
    folder.write_picture(detector::SOURCE, &frame.picture())?;
    folder.write_picture("detections.png", &drawn(&frame, &rows))?;
    let row = detector::write(&seen, &frame, &plan.detector, &mut folder)?;
    let crops_max = if cli.boxes.is_empty() { cli.crops } else { found.len() };
    let attributes = crops::write(&frame, &plan.attributes, &rows, &found, crops_max, &mut folder)?;
    let image = frame.row(&cli.image);
    let mut report =
        Report { image, pipeline: config.name, detector: row, detections: rows, attributes, files: Vec::new() };
    folder.write("index.html", page::html(&report).as_bytes())?;
    folder.finish(&mut report)?;

    let text = match cli.json {
        true => format!("{}\n", serde_json::to_string_pretty(&report)?),
        false => format!("{report}\npictures: {}\n", folder.path().join("index.html").display()),
    };
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error).context("cannot write to standard output"),
        _ => Ok(()), // whoever closed the pipe has read enough
    }
}

/// The source with its detections drawn in, numbered as the crops are.
fn drawn(frame: &Frame, rows: &[DetectionRow]) -> image::RgbImage {
    let captioned = |(number, row): (usize, &DetectionRow)| Captioned {
        corners: row.corners,
        class: row.class as usize,
        title: format!("{number} {row}"),
        lines: Vec::new(),
    };
    let mut picture = frame.picture();
    draw(&mut picture, &rows.iter().enumerate().map(captioned).collect::<Vec<_>>());
    picture
}

fn of_corners([x0, y0, x1, y1]: [f32; 4]) -> Detection {
    Detection { class: 0, score: 1.0, x0, y0, x1, y1, row: 0 }
}

fn corners(text: &str) -> anyhow::Result<[f32; 4]> {
    let numbers = text.split(',').map(|number| number.trim().parse()).collect::<Result<Vec<f32>, _>>();
    let numbers = numbers.ok().and_then(|numbers| <[f32; 4]>::try_from(numbers).ok());
    let corners = numbers.context("give left, top, right and bottom in pixels: 10,20,110,220")?;
    let [x0, y0, x1, y1] = corners;
    ensure!(
        corners.iter().all(|edge| edge.is_finite()) && x0 < x1 && y0 < y1,
        "left < right and top < bottom are wanted"
    );
    Ok(corners)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_box_is_four_numbers_with_an_area() {
        assert_eq!(corners("-1.5, 2,10,20").unwrap(), [-1.5, 2.0, 10.0, 20.0]);
        for wrong in ["", "1,2,3", "1,2,3,4,5", "a,2,3,4", "3,2,3,4", "1,4,3,4", "NaN,2,3,4", "1,2,inf,4"] {
            assert!(corners(wrong).is_err(), "{wrong:?}");
        }
    }
}
