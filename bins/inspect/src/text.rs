//! The report for people: aligned tables.

use std::fmt;

use framepipe_vision::{DataType, Kernel, Sampling};

use crate::report::{AttributeRow, DetectorRow, Difference, InputRow, MapRow, OperatorRow, PassRow, Report, Shape};

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let image = &self.image;
        writeln!(
            f,
            "{}: {}, {} bytes, {}x{} pixels, orientation {}; pipeline {}\n",
            image.path, image.format, image.bytes, image.width, image.height, image.orientation, self.pipeline
        )?;
        write!(f, "{}", self.detector)?;
        writeln!(f, "\ndetections: {}", self.detections.len())?;
        let row = |(number, one): (usize, &crate::report::DetectionRow)| {
            [number.to_string(), one.to_string(), words_of(one.corners)]
        };
        write!(f, "{}", table(self.detections.iter().enumerate().map(row), [Right, Left, Left]))?;
        self.attributes.iter().try_for_each(|row| write!(f, "\n{row}"))
    }
}

impl fmt::Display for DetectorRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { input, pass, scale_divisor, is_kept, map } = self;
        let MapRow { scale_x, scale_y, pad_x, pad_y } = map;
        write!(f, "{input}")?;
        let size = if *scale_divisor == 1 { "full size".into() } else { format!("1/{scale_divisor} of its size") };
        let kept = if *is_kept { ", kept for the crops" } else { "" };
        let PassRow { kernel, ms, difference, picture, .. } = pass;
        writeln!(f, "  in one pass, {ms:.3} ms: decoded at {size}{kept}; {}", words(kernel))?;
        writeln!(f, "    {difference}")?;
        writeln!(f, "  the model sees {} {:?}: {picture}", input.size, input.tensor)?;
        write!(f, "{}", channels(pass))?;
        writeln!(f, "  back to the source: x = (x - {pad_x}) * {scale_x}, y = (y - {pad_y}) * {scale_y}")
    }
}

impl fmt::Display for AttributeRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { input, crops } = self;
        if crops.is_empty() {
            return writeln!(f, "{}: nothing to crop", input.model);
        }
        write!(f, "{input}")?;
        writeln!(f, "  in one pass the model sees {} {:?}", input.size, input.tensor)?;
        for crop in crops {
            let PassRow { kernel, ms, difference, picture, .. } = &crop.pass;
            writeln!(f, "  detection {}, {}: {picture}", crop.detection, words_of(crop.corners))?;
            writeln!(f, "    {}; {ms:.3} ms; {difference}", words(kernel))?;
            write!(f, "{}", channels(&crop.pass))?;
        }
        Ok(())
    }
}

impl fmt::Display for InputRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: each operator by itself", self.model)?;
        let title = ["operator", "before", "after", "ms", "picture", "arguments"].map(String::from);
        let row = |row: &OperatorRow| {
            let OperatorRow { name, arguments, before, after, ms, picture } = row;
            let before = before.map_or("encoded".into(), |before| before.to_string());
            let picture = picture.clone().unwrap_or_default();
            [name.to_string(), before, after.to_string(), format!("{ms:.3}"), picture, arguments.clone()]
        };
        let rows = std::iter::once(title).chain(self.operators.iter().map(row));
        write!(f, "{}", table(rows, [Left, Left, Left, Right, Left, Left]))
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c] = self.shape;
        let dtype = match self.dtype {
            DataType::F32 => "f32",
            DataType::U8 => "u8",
        };
        write!(f, "{a}x{b}x{c} {dtype}")
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at most {:.5} grey levels from the operators' result, {:.5} on average", self.max, self.mean)
    }
}

fn words(kernel: &Kernel) -> String {
    let word = |sampling| match sampling {
        Sampling::Copy => "copied",
        Sampling::Linear => "linear",
        Sampling::Area => "area",
    };
    let instructions = if kernel.avx2 { "AVX2" } else { "without AVX2" };
    format!("{} across, {} down, {instructions}", word(kernel.across), word(kernel.down))
}

fn words_of([x0, y0, x1, y1]: [f32; 4]) -> String {
    format!("{x0:.1},{y0:.1} to {x1:.1},{y1:.1}")
}

fn channels(pass: &PassRow) -> String {
    let row = |channel: &crate::report::ChannelRow| {
        let number = |word: &str, number: f32| format!("{word} {number:.3}");
        let (min, mean, max) = (channel.min, channel.mean, channel.max);
        [format!("  {}", channel.name), number("min", min), number("mean", mean), number("max", max)]
    };
    table(pass.channels.iter().map(row), [Left; 4])
}

/// How a column is aligned.
#[derive(Clone, Copy)]
enum Side {
    Left,
    Right,
}
use Side::{Left, Right};

/// Rows, indented, with columns as wide as what is widest.
fn table<const N: usize>(rows: impl Iterator<Item = [String; N]>, sides: [Side; N]) -> String {
    let rows: Vec<[String; N]> = rows.collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; N] = std::array::from_fn(width);
    let cell = |column: usize, text: &str| match sides[column] {
        Left => format!("{text:<width$}", width = widths[column]),
        Right => format!("{text:>width$}", width = widths[column]),
    };
    let line = |row: &[String; N]| {
        let cells: Vec<String> = row.iter().enumerate().map(|(column, text)| cell(column, text)).collect();
        format!("  {}\n", cells.join("  ").trim_end())
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_what_is_widest_and_lines_end_with_words() {
        let rows = [["a", "1", "x"], ["bcd", "100", ""]].map(|row| row.map(String::from));
        assert_eq!(table(rows.into_iter(), [Left, Right, Left]), "  a      1  x\n  bcd  100\n");
    }
}
