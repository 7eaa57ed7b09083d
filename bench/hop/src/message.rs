//! The message: 128 bytes, `sequence | sent_ns | sequence * 14`. Its reader compares all of it, so that no peer is measured
//! without its bytes' way from cache to cache.

use anyhow::{Result, ensure};
use framepipe_shm::monotonic_ns;

/// Words of 64 bits.
const WORDS: usize = 16;

/// Bytes of a message.
pub const MESSAGE_BYTES: usize = WORDS * 8;

/// 128 bytes.
pub type Message = [u64; WORDS];

/// The message of this number, sent now.
pub fn stamped(sequence: u64) -> Message {
    let mut message = [sequence; WORDS];
    message[1] = monotonic_ns();
    message
}

/// Looks at all of a message; nanoseconds from its sending until now.
///
/// # Errors
/// When it is not the one that is due.
pub fn hop_ns(message: &Message, sequence: u64) -> Result<u64> {
    let differs = |words: &[u64]| words.iter().fold(0, |differs, word| differs | (word ^ sequence));
    let is_due = differs(&message[..1]) | differs(&message[2..]) == 0;
    let now_ns = monotonic_ns();
    ensure!(is_due, "message {} came where {sequence} was due", message[0]);
    Ok(now_ns.saturating_sub(message[1]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_that_is_not_due_or_not_whole_is_told() {
        let message = stamped(7);
        assert!(hop_ns(&message, 7).expect("it is due") < 1_000_000_000);
        assert!(hop_ns(&message, 8).is_err());
        for word in (0..WORDS).filter(|word| *word != 1) {
            let mut torn = message;
            torn[word] ^= 1 << 63;
            assert!(hop_ns(&torn, 7).is_err(), "word {word}");
        }
    }
}
