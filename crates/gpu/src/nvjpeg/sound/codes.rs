//! Whether a baseline scan's compressed bytes are whole codes of as many blocks as the image has: all that libjpeg-turbo would warn of,
//! found without making pixels. Values are stepped over.

use super::Reason;

/// Bits by which a code is looked up at once. Few are longer.
const LOOK: u32 = 10;
const CODE_MAX: usize = 16;
/// How far the end of a block moves: beyond any place in it.
const END: u16 = 64;

const NO_CODE: Reason = "its compressed data hold what is no code";
const TOO_SHORT: Reason = "its compressed data end too early";
const TOO_LONG: Reason = "its compressed data go on behind their end";

/// What a code says: how many bits it and its value have, and by how many places it moves on.
#[derive(Clone, Copy, Default)]
struct Step {
    /// 0: there is no such code.
    bits: u16,
    places: u16,
}

/// The codes of one table.
#[derive(Clone)]
pub(super) struct Codes {
    /// By the next bits; without bits where the code is longer.
    short: [Step; 1 << LOOK],
    /// By length: the first code behind those of that length, its bits at the left of 16.
    ends: [u32; CODE_MAX + 1],
    /// By length: what to add to a code for its symbol's place.
    places: [i32; CODE_MAX + 1],
    symbols: [Step; 256],
}

impl Codes {
    /// Codes by their counts of each length, and their symbols (T.81, annex C).
    pub(super) fn new(counts: &[u8; CODE_MAX], symbols: &[u8], is_dc: bool) -> Result<Self, Reason> {
        let none = Step::default();
        let mut codes =
            Self { short: [none; 1 << LOOK], ends: [0; CODE_MAX + 1], places: [0; CODE_MAX + 1], symbols: [none; 256] };
        if symbols.len() > 256 || is_dc && symbols.iter().any(|symbol| *symbol > 15) {
            return Err("a table holds what it may not");
        }
        let (mut code, mut place) = (0u32, 0);
        for (length, count) in (1..).zip(counts) {
            codes.places[length] = place as i32 - code as i32;
            for _ in 0..*count {
                if code >= 1 << length {
                    return Err("a table has more codes than there are");
                }
                let step = step(symbols[place], length as u16, is_dc);
                codes.symbols[place] = step;
                if length as u32 <= LOOK {
                    let spare = LOOK - length as u32;
                    codes.short[(code << spare) as usize..((code + 1) << spare) as usize].fill(step);
                }
                (code, place) = (code + 1, place + 1);
            }
            codes.ends[length] = code << (CODE_MAX - length);
            code <<= 1;
        }
        Ok(codes)
    }

    #[inline(always)]
    fn step(&self, next: u64) -> Step {
        let step = self.short[(next >> (64 - LOOK)) as usize];
        if step.bits > 0 { step } else { self.long_step((next >> (64 - CODE_MAX)) as u32) }
    }

    #[cold]
    fn long_step(&self, next: u32) -> Step {
        let length = (LOOK as usize + 1..=CODE_MAX).find(|length| next < self.ends[*length]);
        length.map_or_else(Step::default, |length| {
            let place = (next >> (CODE_MAX - length)) as i32 + self.places[length];
            usize::try_from(place).ok().and_then(|place| self.symbols.get(place)).copied().unwrap_or_default()
        })
    }
}

fn step(symbol: u8, length: u16, is_dc: bool) -> Step {
    let (run, size) = (u16::from(symbol >> 4), u16::from(symbol & 15));
    let places = match (is_dc, run, size) {
        (true, ..) => 1,
        (false, 15, 0) => 16,
        (false, _, 0) => END,
        (false, run, _) => run + 1,
    };
    Step { bits: length + size, places }
}

/// Compressed bytes, bit by bit.
pub(super) struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
    /// The next bits, at the left.
    next: u64,
    /// How many of them there are.
    count: u32,
    /// How many of those were added behind the last byte.
    added: u32,
}

impl<'a> Bits<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0, next: 0, count: 0, added: 0 }
    }

    /// Makes the next bits at least 32.
    #[inline(always)]
    fn fill(&mut self) {
        if self.count >= 32 {
            return;
        }
        if let Some(four) = self.bytes.get(self.at..).and_then(|rest| rest.first_chunk()) {
            let word = u32::from_be_bytes(*four);
            // None of them is FF.
            if (!word).wrapping_sub(0x0101_0101) & word & 0x8080_8080 == 0 {
                self.next |= u64::from(word) << (32 - self.count);
                (self.count, self.at) = (self.count + 32, self.at + 4);
                return;
            }
        }
        self.fill_slowly();
    }

    fn fill_slowly(&mut self) {
        while self.count <= 56 {
            let byte = match self.bytes.get(self.at..) {
                Some([0xff, 0x00, ..]) => {
                    self.at += 2;
                    0xff
                }
                // A marker, or nothing: zeros, which count as missing.
                None | Some([] | [0xff, ..]) => {
                    self.added += 8;
                    0
                }
                Some([byte, ..]) => {
                    self.at += 1;
                    *byte
                }
            };
            self.next |= u64::from(byte) << (56 - self.count);
            self.count += 8;
        }
    }

    /// Steps over one block.
    #[inline(always)]
    pub(super) fn block(&mut self, dc: &Codes, ac: &Codes) -> Result<(), Reason> {
        self.fill();
        self.over(dc.step(self.next))?;
        let mut place = 1;
        while place < END {
            self.fill();
            let step = ac.step(self.next);
            self.over(step)?;
            if step.places == END {
                break;
            }
            place += step.places;
        }
        if place > END { Err("a block has too many numbers") } else { Ok(()) }
    }

    #[inline(always)]
    fn over(&mut self, step: Step) -> Result<(), Reason> {
        let bits = u32::from(step.bits);
        if bits == 0 || bits + self.added > self.count {
            return Err(if bits == 0 { NO_CODE } else { TOO_SHORT });
        }
        (self.next, self.count) = (self.next << bits, self.count - bits);
        Ok(())
    }

    /// Steps to the marker behind the compressed bytes, of which less than a byte may be left, and over it.
    pub(super) fn marker(&mut self) -> Result<u8, Reason> {
        self.fill_slowly();
        if self.count - self.added >= 8 {
            return Err(TOO_LONG);
        }
        let Some([0xff, marker, ..]) = self.bytes.get(self.at..) else { return Err("it has no end marker") };
        *self = Self { at: self.at + 2, ..Self::new(self.bytes) };
        Ok(*marker)
    }
}
