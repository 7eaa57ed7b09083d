//! A short string of bounded length inside a plain record.

use bytemuck::{Pod, Zeroable};

/// At most `N` bytes of UTF-8, padded with NULs. All zeroes is the empty text.
#[repr(transparent)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub struct Text<const N: usize>([u8; N]);

impl<const N: usize> Text<N> {
    /// `text` up to its first NUL, cut at the last character that fits.
    pub fn truncated(text: &str) -> Self {
        let text = text.split('\0').next().expect("split yields one part at least");
        let mut end = text.len().min(N);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        let mut bytes = [0; N];
        bytes[..end].copy_from_slice(&text.as_bytes()[..end]);
        Self(bytes)
    }

    /// `text` whole, or `None` when it does not fit or holds a NUL.
    pub fn exact(text: &str) -> Option<Self> {
        (text.len() <= N && !text.contains('\0')).then(|| Self::truncated(text))
    }

    /// The text; bytes that are not UTF-8 (another process's fault) read as `\u{FFFD}`.
    pub fn as_str(&self) -> std::borrow::Cow<'_, str> {
        let end = self.0.iter().position(|byte| *byte == 0).unwrap_or(N);
        String::from_utf8_lossy(&self.0[..end])
    }

    /// True when there is no text.
    pub fn is_empty(&self) -> bool {
        self.0.first().is_none_or(|byte| *byte == 0)
    }
}

impl<const N: usize> std::fmt::Debug for Text<N> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_is_cut_between_characters() {
        let text = Text::<8>::truncated("äöüßé");
        assert_eq!(text.as_str(), "äöüß");
        assert!(Text::<8>::exact("äöüßé").is_none());
        assert_eq!(Text::<8>::exact("12345678").expect("it fits").as_str(), "12345678");
    }

    #[test]
    fn foreign_bytes_read_as_text_or_replacement() {
        assert_eq!(Text([b'a'; 4]).as_str(), "aaaa", "no NUL at all");
        assert_eq!(Text([0xff, b'b', 0, b'c']).as_str(), "\u{FFFD}b");
        assert!(Text::<8>::exact("a\0b").is_none());
    }
}
