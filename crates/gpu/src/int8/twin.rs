//! A program on the host, operator by operator, as plainly as can be: what the kernels are compared with.

use super::graph::{Conv, Operator, Output, Program, Source, Steps, Tensor, Then, Window};

/// What lies in a tensor.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Content {
    Nothing,
    Steps(Vec<u8>),
    Numbers(Vec<f32>),
}

/// The outputs for one sample, f32 plane by plane.
pub(super) fn run(program: &Program, sample: &[f32]) -> Vec<Vec<f32>> {
    let contents = run_all(program, sample);
    program.outputs.iter().map(|output| numbers(program, output, &contents)).collect()
}

fn run_all(program: &Program, sample: &[f32]) -> Vec<Content> {
    let mut contents = vec![Content::Nothing; program.tensors.len()];
    for operator in &program.operators {
        let made = match operator {
            Operator::Gather { window, output } => {
                Content::Steps(gather(program, window, &program.tensors[*output], sample))
            }
            Operator::Conv(conv) => Content::Steps(convolve(program, conv, &contents)),
            Operator::Pool { input, window, output } => {
                let (from, to) = (&program.tensors[*input], &program.tensors[*output]);
                Content::Steps(pool(from, to, window, steps_of(&contents[*input])))
            }
            Operator::Add { input, other, output } => {
                let (a, b) = (steps_of(&contents[*input]), steps_of(&contents[*other]));
                let [x, y, to] = [input, other, output].map(|tensor| program.tensors[*tensor].steps);
                Content::Steps(a.iter().zip(b).map(|(a, b)| sum(x, *a, y, *b, to)).collect())
            }
            Operator::LookUp { input, table, output, at } => {
                let (from, to) = (&program.tensors[*input], &program.tensors[*output]);
                let mut made = match std::mem::replace(&mut contents[*output], Content::Nothing) {
                    Content::Steps(made) => made,
                    _ => vec![0; to.bytes()],
                };
                let pixels = steps_of(&contents[*input]).chunks_exact(from.pixel());
                for (made, from) in made.chunks_exact_mut(to.pixel()).zip(pixels) {
                    made[*at..][..from.len()]
                        .iter_mut()
                        .zip(from)
                        .for_each(|(made, step)| *made = table[*step as usize]);
                }
                Content::Steps(made)
            }
            Operator::Resize { input, output } => {
                let (from, to) = (&program.tensors[*input], &program.tensors[*output]);
                Content::Steps(resize(from, to, steps_of(&contents[*input])))
            }
            Operator::Mean { input, output } => {
                let (from, to) = (&program.tensors[*input], &program.tensors[*output]);
                let steps = steps_of(&contents[*input]);
                let mean = |channel: usize| {
                    let sum: i32 = steps.iter().skip(channel).step_by(from.pixel()).map(|step| i32::from(*step)).sum();
                    let number = (sum as f32 / from.pixels() as f32 - f32::from(from.steps.zero)) * from.steps.scale;
                    rounded(number * (1.0 / to.steps.scale), to.steps.zero, 0)
                };
                Content::Steps((0..from.pixel()).map(mean).collect())
            }
            Operator::Head { input, weights, bias, .. } => {
                let from = &program.tensors[*input];
                let pixels = steps_of(&contents[*input]).chunks_exact(from.pixel());
                let numbers = pixels.flat_map(|pixel| {
                    let filters = weights.chunks_exact(from.channels).zip(bias);
                    let of = move |(filter, bias): (&[f32], &f32)| {
                        filter.iter().zip(pixel).fold(*bias, |sum, (weight, step)| sum + weight * f32::from(*step))
                    };
                    filters.map(of)
                });
                Content::Numbers(numbers.collect())
            }
        };
        contents[operator.output()] = made;
    }
    contents
}

fn steps_of(content: &Content) -> &[u8] {
    match content {
        Content::Steps(steps) => steps,
        _ => panic!("the tensor holds no steps"),
    }
}

fn rounded(number: f32, zero: u8, low: u8) -> u8 {
    (number.round_ties_even() + f32::from(zero)).clamp(low.into(), 255.0) as u8
}

fn sum(x: Steps, a: u8, y: Steps, b: u8, to: Steps) -> u8 {
    let sum = (f32::from(a) - f32::from(x.zero)) * x.scale + (f32::from(b) - f32::from(y.zero)) * y.scale;
    rounded(sum * (1.0 / to.scale), to.zero, 0)
}

fn gather(program: &Program, window: &Window, to: &Tensor, sample: &[f32]) -> Vec<u8> {
    let steps = to.steps;
    let [channels, height, width] = program.input;
    let mut made = vec![steps.zero; to.bytes()];
    for (pixel, made) in made.chunks_exact_mut(to.pixel()).enumerate() {
        for tap in 0..window.height * window.width {
            let Some((y, x)) = at(window, pixel, to.width, tap, height, width) else { continue };
            for channel in 0..channels {
                let number = sample[(channel * height + y) * width + x];
                made[tap * channels + channel] = rounded(number * (1.0 / steps.scale), steps.zero, 0);
            }
        }
    }
    made
}

/// Where the window's tap lies in a tensor; none: in the padding.
fn at(
    window: &Window,
    pixel: usize,
    out_width: usize,
    tap: usize,
    height: usize,
    width: usize,
) -> Option<(usize, usize)> {
    let y = (pixel / out_width * window.stride[0] + tap / window.width).checked_sub(window.pad[0])?;
    let x = (pixel % out_width * window.stride[1] + tap % window.width).checked_sub(window.pad[1])?;
    (y < height && x < width).then_some((y, x))
}

fn convolve(program: &Program, conv: &Conv, contents: &[Content]) -> Vec<u8> {
    let (from, to) = (&program.tensors[conv.input], &program.tensors[conv.output]);
    let input = steps_of(&contents[conv.input]);
    let taps = conv.window.height * conv.window.width;
    let padding = vec![from.steps.zero; from.pixel()];
    let mut made = vec![0; to.bytes()];
    for (pixel, made) in made.chunks_exact_mut(to.pixel()).enumerate() {
        let windows: Vec<&[u8]> = (0..taps)
            .map(|tap| match at(&conv.window, pixel, to.width, tap, from.height, from.width) {
                Some((y, x)) => &input[(y * from.width + x) * from.pixel()..][..from.pixel()],
                None => &padding[..],
            })
            .collect();
        for (filter, weights) in conv.weights.chunks_exact(taps * from.pixel()).enumerate() {
            let products = weights.chunks_exact(from.pixel()).zip(&windows);
            let dot = |(weights, steps): (&[i8], &&[u8])| -> i32 {
                weights.iter().zip(*steps).map(|(weight, step)| i32::from(*weight) * i32::from(*step)).sum()
            };
            let total = products.map(dot).sum::<i32>() + conv.bias[filter];
            let step = rounded(total as f32 * conv.scales[filter], conv.steps.zero, conv.low);
            made[filter] = match conv.then {
                Then::Nothing => step,
                Then::LeakyRelu(slope) => {
                    let number = conv.steps.number(step);
                    to.steps.step(if number < 0.0 { number * slope } else { number })
                }
                Then::Add(residual) => {
                    let added = &program.tensors[residual];
                    let other = steps_of(&contents[residual])[pixel * added.pixel() + filter];
                    sum(conv.steps, step, added.steps, other, to.steps)
                }
            };
        }
    }
    made
}

fn pool(from: &Tensor, to: &Tensor, window: &Window, input: &[u8]) -> Vec<u8> {
    let mut made = vec![0u8; to.bytes()];
    for (pixel, made) in made.chunks_exact_mut(to.pixel()).enumerate() {
        for tap in 0..window.height * window.width {
            let Some((y, x)) = at(window, pixel, to.width, tap, from.height, from.width) else { continue };
            let here = &input[(y * from.width + x) * from.pixel()..][..from.pixel()];
            made.iter_mut().zip(here).for_each(|(most, step)| *most = (*most).max(*step));
        }
    }
    made
}

fn resize(from: &Tensor, to: &Tensor, input: &[u8]) -> Vec<u8> {
    let place = |index: usize, count: usize, side: usize| {
        let at = ((index as f32 + 0.5) * side as f32 / count as f32 - 0.5).clamp(0.0, (side - 1) as f32);
        let first = at as usize;
        (first, (first + 1).min(side - 1), at - first as f32)
    };
    let mut made = vec![0u8; to.bytes()];
    for (pixel, made) in made.chunks_exact_mut(to.pixel()).enumerate() {
        let (top, bottom, down) = place(pixel / to.width, to.height, from.height);
        let (left, right, across) = place(pixel % to.width, to.width, from.width);
        let step = |y: usize, x: usize, channel: usize| f32::from(input[(y * from.width + x) * from.pixel() + channel]);
        for (channel, made) in made.iter_mut().enumerate() {
            let above = (1.0 - across) * step(top, left, channel) + across * step(top, right, channel);
            let below = (1.0 - across) * step(bottom, left, channel) + across * step(bottom, right, channel);
            *made = ((1.0 - down) * above + down * below).round_ties_even() as u8;
        }
    }
    made
}

fn numbers(program: &Program, output: &Output, contents: &[Content]) -> Vec<f32> {
    let (Source::Tensor(from) | Source::Numbers(from)) = output.source;
    let tensor = &program.tensors[from];
    let number = |pixel: usize, channel: usize| match &contents[from] {
        Content::Steps(steps) => tensor.steps.number(steps[pixel * tensor.pixel() + channel]),
        Content::Numbers(numbers) => numbers[pixel * tensor.channels + channel],
        Content::Nothing => panic!("an output was not computed"),
    };
    let channels = output.first..output.first + output.count;
    let made: Vec<f32> = if output.is_planar {
        channels
            .flat_map(|channel| (0..tensor.pixels()).map(move |pixel| (pixel, channel)))
            .map(|(pixel, channel)| number(pixel, channel))
            .collect()
    } else {
        (0..tensor.pixels())
            .flat_map(|pixel| channels.clone().map(move |channel| (pixel, channel)))
            .map(|(pixel, channel)| number(pixel, channel))
            .collect()
    };
    if output.is_sigmoid { made.into_iter().map(|number| 1.0 / (1.0 + (-number).exp())).collect() } else { made }
}
