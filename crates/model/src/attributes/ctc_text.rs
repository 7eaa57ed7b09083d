//! A line of text (Graves et al., "Connectionist Temporal Classification", 2006), greedily: `[steps, 1 + characters]`, of which
//! the best of each step counts; repeats are one character, blanks none. Spaces at either end are left out: they are what a crop
//! has around its line. The score is the mean of its characters'.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use framepipe_frame::attributes::Kind;
use framepipe_vision::Rect;
use serde::Deserialize;

use super::{Context, Decode, class};
use crate::manifest::{is_plain_name, sum_of};
use crate::{Activation, ManifestError};

/// Most characters of a charset.
pub(super) const CHARSET_COUNT_MAX: usize = 65_536;
/// Most bytes that are read of one.
const CHARSET_BYTES_MAX: u64 = 1 << 20;

/// `kind = { ctc_text = … }`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CtcTextSpec {
    /// What makes scores of a step's numbers: none or softmax.
    pub activation: Activation,
    /// A file in the manifest's folder, one character a line, in the model's order without the blank.
    pub charset: String,
    /// That file's sha256, 64 hex digits in lower case: other characters would be other words.
    pub charset_sha256: String,
    /// The blank's index.
    pub blank: usize,
}

#[derive(Debug)]
pub(super) struct CtcText {
    activation: Activation,
    blank: usize,
    characters: Vec<String>,
    /// The character that is a space.
    space: Option<usize>,
}

impl CtcTextSpec {
    pub(super) fn build(&self, context: &Context<'_>) -> Result<CtcText, ManifestError> {
        let Self { activation, charset, charset_sha256, blank } = self;
        let is_one = *activation != Activation::Sigmoid;
        context.require(is_one, "ctc_text.activation", activation, r#"give "none" or "softmax""#)?;
        let advice = "name a file in the manifest's own folder";
        context.require(is_plain_name(charset), "ctc_text.charset", charset, advice)?;
        let path = context.manifest.dir.join(charset);
        let text = read(&path)?;
        let actual = sum_of(text.as_bytes());
        if actual != *charset_sha256 {
            let (manifest, expected) = (context.manifest.path(), charset_sha256.clone());
            return Err(ManifestError::Checksum { manifest, path, expected, actual });
        }
        let characters: Vec<String> = text.lines().map(str::to_owned).collect();
        let is_charset =
            (1..=CHARSET_COUNT_MAX).contains(&characters.len()) && !characters.iter().any(String::is_empty);
        let advice = format!("write 1 to {CHARSET_COUNT_MAX} characters into the file, one a line");
        context.require(is_charset, "ctc_text.charset", (charset, characters.len()), &advice)?;
        let advice = format!("give 0 to {}, the number of characters", characters.len());
        context.require(*blank <= characters.len(), "ctc_text.blank", blank, &advice)?;
        let space = characters.iter().position(|character| character == " ");
        Ok(CtcText { activation: *activation, blank: *blank, characters, space })
    }
}

fn read(path: &Path) -> Result<String, ManifestError> {
    let mut text = String::new();
    let read = File::open(path).and_then(|file| file.take(CHARSET_BYTES_MAX).read_to_string(&mut text));
    read.map_err(|error| ManifestError::Read { path: path.to_owned(), error })?;
    Ok(text)
}

impl CtcText {
    /// Numbers of a step.
    fn width(&self) -> usize {
        1 + self.characters.len()
    }
}

impl Decode for CtcText {
    fn names(&self) -> &[String] {
        &self.characters
    }

    fn value_count(&self, length: usize) -> Result<usize, String> {
        let is_whole = length > 0 && length.is_multiple_of(self.width());
        if is_whole { Ok(1 + length / self.width()) } else { Err(format!("a multiple of {}", self.width())) }
    }

    fn decode(&self, numbers: &[f32], _: &Rect, values: &mut Vec<f32>) -> Kind {
        let (mut sum, mut before) = (0.0, self.blank);
        // Of the characters up to the last one that is no space.
        let (mut sum_kept, mut kept) = (0.0, 1);
        values.push(0.0);
        for step in numbers.chunks_exact(self.width()) {
            let (class, score) = class::best(self.activation, step);
            if class != self.blank && class != before {
                let character = if class > self.blank { class - 1 } else { class };
                let is_space = Some(character) == self.space;
                if !is_space || kept > 1 {
                    sum += score;
                    values.push(character as f32);
                }
                if !is_space {
                    (sum_kept, kept) = (sum, values.len());
                }
            }
            before = class;
        }
        values.truncate(kept);
        values[0] = sum_kept / (kept - 1).max(1) as f32;
        Kind::Text
    }
}
