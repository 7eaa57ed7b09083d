//! Whether a JPEG is sound (ITU-T T.81): baseline, one scan of all components, every table there, no stray bytes, all restart markers
//! in their places, and between them whole codes of as many blocks as the image has (`sound/codes.rs`). What passes has nothing that
//! libjpeg-turbo would warn of, so the CPU's decoder would take it; not all that it takes passes.

mod codes;

use codes::{Bits, Codes};

/// Why the CPU has to look at it.
pub(super) type Reason = &'static str;

const SOF0: u8 = 0xc0;
const SOF1: u8 = 0xc1;
const DHT: u8 = 0xc4;
const RST0: u8 = 0xd0;
const EOI: u8 = 0xd9;
const SOS: u8 = 0xda;
const DQT: u8 = 0xdb;
const DRI: u8 = 0xdd;
const APP0: u8 = 0xe0;
const APP14: u8 = 0xee;
const APP15: u8 = 0xef;
const COM: u8 = 0xfe;

/// A component of the image.
#[derive(Clone, Copy, Default)]
struct Component {
    id: u8,
    across: u32,
    down: u32,
    quantisation: u8,
}

/// A component's share of a group of blocks that are coded together.
struct Coded<'t> {
    blocks: u32,
    dc: &'t Codes,
    ac: &'t Codes,
}

struct Headers {
    width: u32,
    height: u32,
    components: [Component; 3],
    count: usize,
    /// By table: true where it came.
    quantisation: [bool; 4],
    dc: [Option<Codes>; 4],
    ac: [Option<Codes>; 4],
    /// Groups of blocks between restart markers; 0: there are none.
    restart_interval: u32,
}

/// Fails for all but sound files.
pub(super) fn check(jpeg: &[u8]) -> Result<(), Reason> {
    let mut rest = jpeg.strip_prefix(&[0xff, 0xd8]).ok_or("it does not begin as a JPEG")?;
    let mut headers = Headers {
        width: 0,
        height: 0,
        components: [Component::default(); 3],
        count: 0,
        quantisation: [false; 4],
        dc: [const { None }; 4],
        ac: [const { None }; 4],
        restart_interval: 0,
    };
    loop {
        let (marker, payload, behind) = segment(rest)?;
        rest = behind;
        match marker {
            SOF0 | SOF1 => headers.frame(payload)?,
            DHT => headers.huffman(payload)?,
            DQT => headers.quantisation(payload)?,
            DRI => headers.restart_interval = u32::from(u16_at(payload, 0)?),
            // Colours that are not YCbCr.
            APP14 if payload.starts_with(b"Adobe") && payload.get(11) != Some(&1) => return Err("Adobe's colours"),
            APP0 if payload.starts_with(b"JFIF\0") && payload.get(5) != Some(&1) => {
                return Err("JFIF of another revision");
            }
            APP0..=APP15 | COM => {}
            SOS => {
                let tables = headers.scan(payload)?;
                return headers.compressed(rest, &tables);
            }
            _ => return Err("it is not a baseline JPEG"),
        }
    }
}

/// A segment: its marker and payload, and what lies behind it.
fn segment(bytes: &[u8]) -> Result<(u8, &[u8], &[u8]), Reason> {
    let [0xff, marker, ..] = *bytes else { return Err("bytes between its segments") };
    let length = usize::from(u16_at(bytes, 2)?);
    let payload = (length >= 2).then(|| bytes.get(4..2 + length)).flatten().ok_or("a segment is cut off")?;
    Ok((marker, payload, &bytes[2 + length..]))
}

fn u16_at(bytes: &[u8], at: usize) -> Result<u16, Reason> {
    let pair = bytes.get(at..).and_then(|rest| rest.first_chunk()).ok_or("a segment is cut off")?;
    Ok(u16::from_be_bytes(*pair))
}

impl Headers {
    fn frame(&mut self, payload: &[u8]) -> Result<(), Reason> {
        if self.count > 0 {
            return Err("it has two frame headers");
        }
        let [precision, _, _, _, _, count, components @ ..] = payload else {
            return Err("its frame header is cut off");
        };
        (self.height, self.width) = (u16_at(payload, 1)?.into(), u16_at(payload, 3)?.into());
        self.count = usize::from(*count);
        if *precision != 8 || !matches!(self.count, 1 | 3) || components.len() != 3 * self.count {
            return Err("it is not of 8 bits and one or three components");
        }
        for (component, bytes) in self.components.iter_mut().zip(components.chunks_exact(3)) {
            let (across, down) = (u32::from(bytes[1] >> 4), u32::from(bytes[1] & 15));
            if !matches!((across, down), (1 | 2 | 4, 1 | 2 | 4)) || bytes[2] > 3 {
                return Err("its components are sampled in an unusual way");
            }
            *component = Component { id: bytes[0], across, down, quantisation: bytes[2] };
        }
        // Others are RGB, or anybody's guess.
        let ids = self.components.map(|component| component.id);
        if self.width == 0 || self.height == 0 || self.count == 3 && !matches!(ids, [1, 2, 3] | [0, 1, 2]) {
            return Err("its frame header is unusual");
        }
        Ok(())
    }

    fn quantisation(&mut self, mut payload: &[u8]) -> Result<(), Reason> {
        while let [which, ..] = *payload {
            // Of 8 bits a number: the upper half is 0.
            *self.quantisation.get_mut(usize::from(which)).ok_or("a table has no place")? = true;
            payload = payload.get(1 + 64..).ok_or("a table is cut off")?;
        }
        Ok(())
    }

    fn huffman(&mut self, mut payload: &[u8]) -> Result<(), Reason> {
        while let [which, lengths @ ..] = payload {
            let counts: &[u8; 16] = lengths.first_chunk().ok_or("a table is cut off")?;
            let end = 17 + counts.iter().map(|count| usize::from(*count)).sum::<usize>();
            let symbols = payload.get(17..end).ok_or("a table is cut off")?;
            let (is_dc, tables) = match which >> 4 {
                0 => (true, &mut self.dc),
                1 => (false, &mut self.ac),
                _ => return Err("a table has no place"),
            };
            let table = tables.get_mut(usize::from(which & 15)).ok_or("a table has no place")?;
            *table = Some(Codes::new(counts, symbols, is_dc)?);
            payload = &payload[end..];
        }
        Ok(())
    }

    /// The header of the only scan: of all components in their order, with tables that came. Gives their codes.
    fn scan(&self, payload: &[u8]) -> Result<Vec<Coded<'_>>, Reason> {
        let [count, rest @ ..] = payload else { return Err("its scan's header is cut off") };
        if self.count == 0 || usize::from(*count) != self.count || rest.len() != 2 * self.count + 3 {
            return Err("its scan is not of all components");
        }
        if rest[2 * self.count..] != [0, 63, 0] {
            return Err("its scan is of some frequencies");
        }
        fn table(tables: &[Option<Codes>; 4], which: u8) -> Option<&Codes> {
            tables.get(usize::from(which))?.as_ref()
        }
        let coded = self.components.iter().zip(rest[..2 * self.count].chunks_exact(2)).map(|(component, bytes)| {
            let has_name = bytes[0] == component.id && self.quantisation[usize::from(component.quantisation)];
            // Alone, its blocks are one after another.
            let blocks = if self.count == 1 { 1 } else { component.across * component.down };
            match (has_name, table(&self.dc, bytes[1] >> 4), table(&self.ac, bytes[1] & 15)) {
                (true, Some(dc), Some(ac)) => Ok(Coded { blocks, dc, ac }),
                _ => Err("a table is missing"),
            }
        });
        coded.collect()
    }

    /// The compressed data, to the end marker. What lies behind that belongs to nobody.
    fn compressed(&self, bytes: &[u8], components: &[Coded<'_>]) -> Result<(), Reason> {
        let groups = self.groups();
        let mut bits = Bits::new(bytes);
        for group in 0..groups {
            if group > 0 && self.restart_interval > 0 && group.is_multiple_of(self.restart_interval) {
                let number = (group / self.restart_interval - 1) % 8;
                if bits.marker()? != RST0 + number as u8 {
                    return Err("a restart marker is missing");
                }
            }
            for Coded { blocks, dc, ac } in components {
                for _ in 0..*blocks {
                    bits.block(dc, ac)?;
                }
            }
        }
        if bits.marker()? == EOI { Ok(()) } else { Err("it goes on behind its scan") }
    }

    /// Groups of blocks that are coded together; of a single component, blocks.
    fn groups(&self) -> u32 {
        let components = &self.components[..self.count];
        let most = |side: fn(&Component) -> u32| match components {
            [_] => 1,
            _ => components.iter().map(side).max().unwrap_or(1),
        };
        let (across, down) = (8 * most(|component| component.across), 8 * most(|component| component.down));
        self.width.div_ceil(across) * self.height.div_ceil(down)
    }
}

#[cfg(test)]
mod tests;
