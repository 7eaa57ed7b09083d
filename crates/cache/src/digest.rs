//! Keys and checksums: the first 128 bits of BLAKE3 keyed with the area's secret, which nobody outside knows, so that no client
//! can make two contents of one key.

/// 128 bits of a keyed hash.
pub type Digest = u128;

/// Hashes with an area's secret.
#[derive(Clone, Copy)]
pub struct Hasher {
    secret: [u8; 32],
}

/// A hash of bytes that come in parts.
pub struct Running(blake3::Hasher);

impl Hasher {
    /// With this secret.
    pub fn new(secret: [u8; 32]) -> Self {
        Self { secret }
    }

    /// Of some bytes.
    pub fn of(&self, bytes: &[u8]) -> Digest {
        first(&blake3::keyed_hash(&self.secret, bytes))
    }

    /// Of bytes that come in parts: equal to [`Self::of`] all of them.
    pub fn begin(&self) -> Running {
        Running(blake3::Hasher::new_keyed(&self.secret))
    }

    /// A key for what is made of something by some means: both are told apart, whatever their lengths.
    pub fn derive(&self, what: &str, of: Digest, by: &[u8]) -> Digest {
        let mut running = self.begin();
        running.add(&(what.len() as u64).to_le_bytes());
        running.add(what.as_bytes());
        running.add(&of.to_le_bytes());
        running.add(by);
        running.end()
    }
}

impl std::fmt::Debug for Hasher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hasher") // the secret is one
    }
}

impl Running {
    /// The next bytes.
    pub fn add(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Of all of them.
    pub fn end(self) -> Digest {
        first(&self.0.finalize())
    }
}

fn first(hash: &blake3::Hash) -> Digest {
    let (first, _) = hash.as_bytes().split_first_chunk::<16>().expect("a hash has 32 bytes");
    u128::from_le_bytes(*first)
}

/// A digest as two words.
pub(crate) fn halves(digest: Digest) -> [u64; 2] {
    [digest as u64, (digest >> 64) as u64]
}

/// And back.
pub(crate) fn whole([low, high]: [u64; 2]) -> Digest {
    u128::from(high) << 64 | u128::from(low)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_hash_as_their_whole_and_secrets_and_purposes_are_told_apart() {
        let hasher = Hasher::new([1; 32]);
        let bytes: Vec<u8> = (0..100_000u32).map(|i| i as u8).collect();
        let mut running = hasher.begin();
        bytes.chunks(999).for_each(|part| running.add(part));
        let digest = hasher.of(&bytes);
        assert_eq!(running.end(), digest);
        assert_eq!(whole(halves(digest)), digest);
        assert_ne!(Hasher::new([2; 32]).of(&bytes), digest);
        let keys =
            [("a", b"bc".as_slice()), ("ab", b"c"), ("a", b"bd")].map(|(what, by)| hasher.derive(what, digest, by));
        assert!(keys[0] != keys[1] && keys[0] != keys[2]);
    }
}
