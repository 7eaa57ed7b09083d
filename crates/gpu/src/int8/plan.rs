//! Where a program's tensors and constants lie in the device's memory, and what is launched for a batch.

mod gathered;
mod parameters;
mod steps;

pub(super) use parameters::ConvParameters;
use parameters::{GatherParameters, HeadParameters, NumbersParameters, PixelsParameters, Tap};

use super::WINDOW_MAX;
use super::graph::{Conv, Operator, Program, Source, Steps, Tensor, TensorId, Then, Window};
use super::tiles::{self, TAPS_MAX, Tiles};
use crate::{Buffer, Device, Function, GpuError, Module};

const THREADS: u32 = 256;
const GATHER_THREADS: u32 = 128;
/// Needs a column and a row that no window has.
const NO_TAP: Tap = Tap { at: 0, needs: 1 << NO_SIDE | 1 << (16 + NO_SIDE) };
const NO_SIDE: usize = 15;
const _: () = assert!(WINDOW_MAX <= NO_SIDE);
/// Taps of one tile.
const TAPS_PER_TILE: usize = 4;

/// The launch of one operator; how many samples there are comes with the batch.
#[derive(Clone, Debug)]
enum Launch {
    Gather(GatherParameters),
    Conv(ConvParameters),
    Pixels(Kernel, PixelsParameters),
    Mean(PixelsParameters),
    Head(HeadParameters),
}

#[derive(Clone, Copy, Debug)]
enum Kernel {
    MaxPool,
    LookUp,
    Add,
    Resize,
}

#[derive(Debug)]
struct Kernels {
    gather: Function,
    tiles: Tiles,
    max_pool: Function,
    look_up: Function,
    add: Function,
    resize: Function,
    mean: Function,
    to_numbers: Function,
    head: Function,
}

#[derive(Debug)]
pub(super) struct Plan {
    kernels: Kernels,
    launches: Vec<Launch>,
    outputs: Vec<NumbersParameters>,
    /// By output: where its numbers begin, and how many a sample has.
    numbers_of: Vec<(usize, usize)>,
    /// By convolution, for batches up to a size: which kernel.
    tiles: Vec<(usize, Vec<usize>)>,
    /// Everything that the launches name.
    memory: Vec<Buffer>,
    addresses: u64,
    numbers: u64,
    numbers_bytes: usize,
}

impl Plan {
    /// Takes the memory of a program for batches up to `batch_max`, and prepares its launches.
    pub(super) fn make(device: &Device, program: &Program, batch_max: usize) -> Result<Self, GpuError> {
        let module =
            Module::load(device, include_str!("../../ptx/int8_75.ptx"), include_str!("../../ptx/int8_80.ptx"))?;
        let kernels = Kernels {
            gather: module.function("gather_input")?,
            tiles: Tiles::load(device, &module)?,
            max_pool: module.function("max_pool")?,
            look_up: module.function("look_up")?,
            add: module.function("add")?,
            resize: module.function("resize")?,
            mean: module.function("mean")?,
            to_numbers: module.function("to_numbers")?,
            head: module.function("head")?,
        };
        check_sizes(program, batch_max)?;
        for output in &program.outputs {
            let (Source::Tensor(from) | Source::Numbers(from)) = output.source;
            let tensor = &program.tensors[from];
            let is_whole = output.first + output.count <= tensor.channels
                && output.shape.iter().product::<usize>() == output.count * tensor.pixels();
            if !is_whole {
                return Err(GpuError::Argument(format!(
                    "the output {:?} of sizes {:?} cannot be",
                    output.name, output.shape
                )));
            }
        }
        let mut memory = Vec::new();
        let mut keep = |buffer: Buffer| {
            let address = buffer.address();
            memory.push(buffer);
            address
        };
        let places = places(program)?;
        let blocks = places.blocks.iter().map(|bytes| Buffer::new(device, bytes * batch_max).map(&mut keep));
        let blocks = blocks.collect::<Result<Vec<u64>, _>>()?;
        let address = |tensor: TensorId| blocks[places.of[tensor]];
        let addresses = keep(Buffer::new(device, batch_max * size_of::<u64>())?);
        let mut launches = Vec::new();
        for operator in &program.operators {
            let launch = launch_of(device, program, operator, &address, addresses, &mut keep)?;
            launches.push(launch);
        }
        let mut numbers_of = Vec::new();
        let mut count = 0;
        for output in &program.outputs {
            let length = output.shape.iter().product::<usize>();
            numbers_of.push((count, length));
            count += length * batch_max;
        }
        let numbers_bytes = count * size_of::<f32>();
        let numbers = keep(Buffer::new(device, numbers_bytes)?);
        let outputs = program.outputs.iter().zip(&numbers_of).map(|(output, (start, _))| {
            let (Source::Tensor(from) | Source::Numbers(from)) = output.source;
            let is_f32 = matches!(output.source, Source::Numbers(_));
            let tensor = &program.tensors[from];
            NumbersParameters {
                input: address(from),
                output: numbers + (start * size_of::<f32>()) as u64,
                samples: 1,
                pixels: tensor.pixels() as i32,
                in_pixel: if is_f32 { tensor.channels } else { tensor.pixel() } as i32,
                first: output.first as i32,
                count: output.count as i32,
                is_f32: is_f32.into(),
                is_planar: output.is_planar.into(),
                is_sigmoid: output.is_sigmoid.into(),
                scale: tensor.steps.scale,
                zero: tensor.steps.zero.into(),
            }
        });
        let outputs = outputs.collect();
        Ok(Self {
            kernels,
            launches,
            outputs,
            numbers_of,
            tiles: Vec::new(),
            memory,
            addresses,
            numbers,
            numbers_bytes,
        })
    }

    pub(super) fn addresses(&self) -> u64 {
        self.addresses
    }

    pub(super) fn numbers_bytes(&self) -> usize {
        self.numbers_bytes
    }

    /// Address of the outputs' numbers, `at` bytes in.
    pub(super) fn numbers(&self, at: usize) -> u64 {
        self.numbers + at as u64
    }

    pub(super) fn numbers_of(&self, output: usize) -> (usize, usize) {
        self.numbers_of[output]
    }

    pub(super) fn device_bytes(&self) -> usize {
        self.memory.iter().map(Buffer::bytes).sum()
    }

    /// Measures which kernel is fastest at each convolution, for batches of 1, 2, 4 and so on, and the largest.
    pub(super) fn choose_tiles(
        &mut self,
        device: &Device,
        program: &Program,
        batch_max: usize,
    ) -> Result<(), GpuError> {
        let mut batch = 1;
        loop {
            let mut chosen = Vec::new();
            for (operator, launch) in program.operators.iter().zip(&self.launches) {
                if let Launch::Conv(conv) = launch {
                    let conv = at_batch(conv, &program.tensors[operator.output()], batch);
                    // SAFETY: memory for `batch_max` samples was taken.
                    chosen.push(unsafe { self.kernels.tiles.fastest(device, &conv)? });
                }
            }
            self.tiles.push((batch, chosen));
            if batch == batch_max {
                return Ok(());
            }
            batch = (batch * 2).min(batch_max);
        }
    }

    /// Uses this kernel for all convolutions.
    #[cfg(test)]
    pub(super) fn use_tile(&mut self, tile: usize) {
        self.tiles.iter_mut().for_each(|(_, chosen)| chosen.fill(tile));
    }

    /// Asks the device for all that a batch needs, in order.
    pub(super) fn launch(&self, program: &Program, batch: usize) -> Result<(), GpuError> {
        (0..self.steps()).try_for_each(|step| self.launch_step(program, batch, step))
    }

    /// How many launches a batch has: one for each operator, and one for each output.
    fn steps(&self) -> usize {
        self.launches.len() + self.outputs.len()
    }

    /// Milliseconds that each launch of a batch takes by itself, and what it does.
    pub(super) fn profile(
        &self,
        device: &Device,
        program: &Program,
        batch: usize,
    ) -> Result<Vec<(String, f32)>, GpuError> {
        let of = |step: usize| {
            let milliseconds = tiles::milliseconds(device, || self.launch_step(program, batch, step))?;
            let name = match program.operators.get(step) {
                Some(operator) => program.describe(operator),
                None => format!("output {}", program.outputs[step - self.launches.len()].name),
            };
            let tile = self.tile_of(batch, step).map_or_else(String::new, |tile| format!(" by {}", Tiles::name(tile)));
            Ok((name + &tile, milliseconds))
        };
        (0..self.steps()).map(of).collect()
    }

    /// The kernel of a step that is a convolution.
    fn tile_of(&self, batch: usize, step: usize) -> Option<usize> {
        let is_conv = |launch: &&Launch| matches!(launch, Launch::Conv(_));
        self.launches.get(step).filter(is_conv)?;
        let before = self.launches[..step].iter().filter(is_conv).count();
        let chosen = self.tiles.iter().find(|(most, _)| batch <= *most);
        Some(chosen.expect("kernels were chosen for the largest batch").1[before])
    }

    fn launch_step(&self, program: &Program, batch: usize, step: usize) -> Result<(), GpuError> {
        let grid = |threads: usize| [(threads as u32).div_ceil(THREADS), 1, 1];
        let Some(launch) = self.launches.get(step) else {
            let output = &self.outputs[step - self.launches.len()];
            let output = NumbersParameters { samples: batch as i32, ..*output };
            let threads = batch * (output.count * output.pixels) as usize;
            // SAFETY: the parameters name buffers of `self`, with room for `batch_max` samples.
            return unsafe { self.kernels.to_numbers.launch(grid(threads), THREADS, 0, &output) };
        };
        let output = &program.tensors[program.operators[step].output()];
        let pixels = (batch * output.pixels()) as i32;
        // SAFETY: as above.
        unsafe {
            match launch {
                Launch::Gather(gather) => {
                    let blocks = (batch * output.height * output.width.div_ceil(gather.columns as usize)) as u32;
                    let shared = gather.shared_bytes() as u32;
                    self.kernels.gather.launch([blocks, 1, 1], GATHER_THREADS, shared, gather)
                }
                Launch::Conv(conv) => {
                    let tile = self.tile_of(batch, step).expect("the step is a convolution");
                    self.kernels.tiles.launch(tile, &at_batch(conv, output, batch))
                }
                Launch::Mean(parameters) => {
                    let parameters = PixelsParameters { pixels: batch as i32, ..*parameters };
                    let threads = batch * parameters.channels as usize;
                    self.kernels.mean.launch(grid(threads), THREADS, 0, &parameters)
                }
                Launch::Pixels(kernel, parameters) => {
                    let parameters = PixelsParameters { pixels, ..*parameters };
                    let threads = pixels as usize * parameters.channels as usize / 16;
                    let function = match kernel {
                        Kernel::MaxPool => &self.kernels.max_pool,
                        Kernel::LookUp => &self.kernels.look_up,
                        Kernel::Add => &self.kernels.add,
                        Kernel::Resize => &self.kernels.resize,
                    };
                    function.launch(grid(threads), THREADS, 0, &parameters)
                }
                Launch::Head(head) => {
                    let head = HeadParameters { pixels, ..*head };
                    let threads = pixels as usize * head.out_channels as usize;
                    self.kernels.head.launch(grid(threads), THREADS, 0, &head)
                }
            }
        }
    }
}

fn at_batch(conv: &ConvParameters, output: &Tensor, batch: usize) -> ConvParameters {
    ConvParameters { rows: (batch * output.pixels()) as i32, ..*conv }
}

/// The kernels count in i32.
fn check_sizes(program: &Program, batch_max: usize) -> Result<(), GpuError> {
    let input: usize = program.input.iter().product();
    if input > i32::MAX as usize {
        return Err(GpuError::Argument(format!("a sample of {input} numbers is more than the kernels count")));
    }
    let bytes = |operator: &Operator| {
        let tensor = &program.tensors[operator.output()];
        match operator {
            Operator::Head { .. } => tensor.bytes() * size_of::<f32>(),
            // A sum of so many bytes.
            Operator::Mean { input, .. } => tensor.bytes().max(program.tensors[*input].pixels() * 255),
            _ => tensor.bytes(),
        }
    };
    let most = program.operators.iter().map(bytes).max().unwrap_or(0);
    match most.checked_mul(batch_max) {
        Some(bytes) if bytes <= i32::MAX as usize => Ok(()),
        _ => Err(GpuError::Argument(format!(
            "a tensor of {most} bytes a sample in batches of {batch_max} is more than the kernels count: lower batch_max"
        ))),
    }
}

/// Which block of memory each tensor lies in. A block serves one tensor after another.
struct Places {
    of: Vec<usize>,
    /// Bytes of a sample, by block.
    blocks: Vec<usize>,
}

fn places(program: &Program) -> Result<Places, GpuError> {
    let mut last_read = vec![0; program.tensors.len()];
    for (index, operator) in program.operators.iter().enumerate() {
        operator.inputs().for_each(|tensor| last_read[tensor] = index);
    }
    for output in &program.outputs {
        let (Source::Tensor(tensor) | Source::Numbers(tensor)) = output.source;
        last_read[tensor] = usize::MAX;
    }
    let mut places = Places { of: vec![usize::MAX; program.tensors.len()], blocks: Vec::new() };
    let mut free: Vec<usize> = Vec::new();
    for (index, operator) in program.operators.iter().enumerate() {
        let output = operator.output();
        if places.of[output] == usize::MAX {
            let tensor = &program.tensors[output];
            let bytes = match operator {
                Operator::Head { .. } => tensor.pixels() * tensor.channels * size_of::<f32>(),
                _ => tensor.bytes(),
            };
            let fits = free.iter().enumerate().filter(|(_, block)| places.blocks[**block] >= bytes);
            let tightest = fits.min_by_key(|(_, block)| places.blocks[**block]).map(|(place, _)| place);
            places.of[output] = match tightest {
                Some(place) => free.swap_remove(place),
                None => {
                    places.blocks.push(bytes);
                    places.blocks.len() - 1
                }
            };
        }
        if operator.inputs().any(|tensor| places.of[tensor] == usize::MAX) {
            return Err(GpuError::Argument(format!("{} reads what nothing has written", program.describe(operator))));
        }
        let mut read: Vec<TensorId> = operator.inputs().filter(|tensor| last_read[*tensor] == index).collect();
        read.sort_unstable();
        read.dedup();
        free.extend(read.into_iter().map(|tensor| places.of[tensor]));
    }
    Ok(places)
}

fn launch_of(
    device: &Device,
    program: &Program,
    operator: &Operator,
    address: &impl Fn(TensorId) -> u64,
    addresses: u64,
    keep: &mut impl FnMut(Buffer) -> u64,
) -> Result<Launch, GpuError> {
    let tensor = |id: TensorId| &program.tensors[id];
    let pixels = |input: TensorId, output: TensorId| {
        let (from, to) = (tensor(input), tensor(output));
        let Steps { scale, zero } = to.steps;
        PixelsParameters {
            input: address(input),
            output: address(output),
            in_size: size(from),
            out_size: size(to),
            in_pixel: from.pixel() as i32,
            out_pixel: to.pixel() as i32,
            channels: from.pixel() as i32,
            in_scale: from.steps.scale,
            in_zero: from.steps.zero.into(),
            inverse_scale: 1.0 / scale,
            zero: zero.into(),
            ..PixelsParameters::default()
        }
    };
    Ok(match operator {
        Operator::Gather { window, output } => {
            let to = tensor(*output);
            let mut gather = GatherParameters::new(window, program.input, to)?;
            gather.samples = addresses;
            gather.places = keep(Buffer::of(device, &gather.places_of(window, to))?);
            gather.output = address(*output);
            Launch::Gather(gather)
        }
        Operator::Conv(conv) => Launch::Conv(conv_parameters(device, program, conv, address, keep)?),
        Operator::Pool { input, window, output } => {
            let Window { height, width, stride, pad } = *window;
            Launch::Pixels(
                Kernel::MaxPool,
                PixelsParameters {
                    kernel: [height as i32, width as i32],
                    stride: stride.map(|step| step as i32),
                    pad: pad.map(|side| side as i32),
                    ..pixels(*input, *output)
                },
            )
        }
        Operator::Add { input, other, output } => {
            let added = tensor(*other);
            Launch::Pixels(
                Kernel::Add,
                PixelsParameters {
                    other: address(*other),
                    other_pixel: added.pixel() as i32,
                    other_scale: added.steps.scale,
                    other_zero: added.steps.zero.into(),
                    ..pixels(*input, *output)
                },
            )
        }
        Operator::LookUp { input, table, output, at } => {
            let table = keep(Buffer::of(device, table)?);
            let parameters = pixels(*input, *output);
            let output = parameters.output + *at as u64;
            Launch::Pixels(Kernel::LookUp, PixelsParameters { table, output, ..parameters })
        }
        Operator::Resize { input, output } => Launch::Pixels(Kernel::Resize, pixels(*input, *output)),
        Operator::Mean { input, output } => Launch::Mean(pixels(*input, *output)),
        Operator::Head { input, weights, bias, output } => Launch::Head(HeadParameters {
            input: address(*input),
            weights: keep(Buffer::of(device, &transposed(weights, bias.len()))?),
            bias: keep(Buffer::of(device, bias)?),
            output: address(*output),
            pixels: 0,
            in_pixel: tensor(*input).pixel() as i32,
            in_channels: tensor(*input).channels as i32,
            out_channels: tensor(*output).channels as i32,
        }),
    })
}

/// Weights by input channel instead of by output channel, of which there are `rows`.
fn transposed(weights: &[f32], rows: usize) -> Vec<f32> {
    let columns = weights.len() / rows;
    (0..weights.len()).map(|index| weights[index % rows * columns + index / rows]).collect()
}

fn conv_parameters(
    device: &Device,
    program: &Program,
    conv: &Conv,
    address: &impl Fn(TensorId) -> u64,
    keep: &mut impl FnMut(Buffer) -> u64,
) -> Result<ConvParameters, GpuError> {
    let (from, to) = (&program.tensors[conv.input], &program.tensors[conv.output]);
    let taps = taps(&conv.window, from);
    if taps.len() > TAPS_MAX {
        return Err(GpuError::Argument(format!(
            "filters of {} bytes, where {} can be",
            taps.len() * 16,
            TAPS_MAX * 16
        )));
    }
    let residual = match conv.then {
        Then::Add(residual) => Some((address(residual), &program.tensors[residual])),
        _ => None,
    };
    steps::check(conv, to.steps, residual.map(|(_, tensor)| tensor.steps))?;
    let filter = conv.window.height * conv.window.width * from.pixel();
    let mut weights = vec![0i8; to.pixel() * taps.len() * 16];
    for (to, from) in weights.chunks_exact_mut(taps.len() * 16).zip(conv.weights.chunks_exact(filter)) {
        to[..filter].copy_from_slice(from);
    }
    let filled_up = |length: usize| to.pixel() - length;
    let bias = [&conv.bias[..], &vec![0; filled_up(conv.bias.len())]].concat();
    let scales = [&conv.scales[..], &vec![0.0; filled_up(conv.scales.len())]].concat();
    Ok(ConvParameters {
        input: address(conv.input),
        weights: keep(Buffer::of(device, &weights)?),
        bias: keep(Buffer::of(device, &bias)?),
        scale: keep(Buffer::of(device, &scales)?),
        taps: keep(Buffer::of(device, &taps)?),
        residual: residual.map_or(0, |(address, _)| address),
        output: address(conv.output),
        rows: 0,
        out_size: size(to),
        in_size: size(from),
        in_pixel: from.pixel() as i32,
        out_pixel: to.pixel() as i32,
        residual_pixel: residual.map_or(0, |(_, tensor)| tensor.pixel() as i32),
        stride: conv.window.stride.map(|step| step as i32),
        pad: conv.window.pad.map(|side| side as i32),
        tap_count: taps.len() as i32,
        window: [conv.window.height as i32, conv.window.width as i32],
        channels: to.pixel() as i32,
        padding: u32::from_ne_bytes([from.steps.zero; 4]),
        low: conv.low.into(),
        zero: conv.steps.zero.into(),
        residual_zero: residual.map_or(0, |(_, tensor)| tensor.steps.zero.into()),
        then_zero: to.steps.zero.into(),
        is_changed: (conv.then != Then::Nothing).into(),
        conv_scale: conv.steps.scale,
        residual_scale: residual.map_or(0.0, |(_, tensor)| tensor.steps.scale),
        slope: if let Then::LeakyRelu(slope) = conv.then { slope } else { 1.0 },
        then_inverse: 1.0 / to.steps.scale,
    })
}

/// A window's taps, filled up to whole tiles.
fn taps(window: &Window, from: &Tensor) -> Vec<Tap> {
    let mut taps = Vec::new();
    for y in 0..window.height {
        for x in 0..window.width {
            let corner = (y * from.width + x) * from.pixel();
            let needs = 1 << x | 1 << (16 + y);
            taps.extend((0..from.pixel()).step_by(16).map(|at| Tap { at: (corner + at) as i32, needs }));
        }
    }
    taps.resize(taps.len().next_multiple_of(TAPS_PER_TILE), NO_TAP);
    taps
}

fn size(tensor: &Tensor) -> [i32; 2] {
    [tensor.height as i32, tensor.width as i32]
}
