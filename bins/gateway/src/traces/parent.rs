//! The caller's span, as W3C's Trace Context writes it: `traceparent: 00-TRACE_ID-SPAN_ID-FLAGS`. One that is malformed is ignored, as
//! the standard says: the frames begin traces of their own.

use framepipe_frame::TraceParent;
use tonic::metadata::MetadataMap;

/// The header's name.
const HEADER: &str = "traceparent";
/// Length of all that the first version has.
const LENGTH: usize = 55;

/// The caller's span; zeroed where it names none.
pub fn caller(metadata: &MetadataMap) -> TraceParent {
    let mut values = metadata.get_all(HEADER).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => parse(value.as_encoded_bytes()).unwrap_or_default(),
        _ => TraceParent::default(),
    }
}

fn parse(text: &[u8]) -> Option<TraceParent> {
    let (text, more) = text.split_at_checked(LENGTH)?;
    let [version] = hex(&text[..2])?;
    // A later version may have more behind what is known of it.
    let fits =
        if version == 0 { more.is_empty() } else { version != 0xff && more.first().is_none_or(|byte| *byte == b'-') };
    let parts = fits && [2, 35, 52].iter().all(|place| text[*place] == b'-');
    let parent = TraceParent {
        trace: hex(&text[3..35])?,
        span: hex(&text[36..52])?,
        flags: u64::from(hex::<1>(&text[53..])?[0]),
    };
    (parts && parent.trace != [0; 16] && parent.span != [0; 8]).then_some(parent)
}

/// Lower case, as the standard wants it.
fn hex<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    (text.len() == 2 * N).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use tonic::metadata::MetadataValue;

    use super::*;

    const GOOD: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn a_span_is_read_and_a_malformed_one_is_none() {
        let parent = parse(GOOD.as_bytes()).expect("it is good");
        assert_eq!((parent.trace[0], parent.trace[15], parent.span[7], parent.flags), (0x0a, 0x9c, 0x31, 1));
        assert!(parent.is_sampled());
        assert!(!parse(GOOD.replace("-01", "-00").as_bytes()).expect("it is good").is_sampled());
        let later = ["01-", &GOOD[3..], "-more"].concat();
        assert_eq!(parse(later.as_bytes()), Some(parent), "what is behind is not known");
        for broken in [
            String::new(),
            "x".repeat(55),
            GOOD[..54].into(),
            format!("{GOOD}-"),
            GOOD.to_uppercase(),
            GOOD.replacen("00", "ff", 1),
            GOOD.replacen('-', "_", 1),
            ["01-", &GOOD[3..], "x"].concat(),
            format!("00-{}-b7ad6b7169203331-01", "0".repeat(32)),
            format!("00-0af7651916cd43dd8448eb211c80319c-{}-01", "0".repeat(16)),
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b716920333\u{e9}-01".into(),
        ] {
            assert_eq!(parse(broken.as_bytes()), None, "{broken:?}");
        }
    }

    #[test]
    fn two_of_them_are_none() {
        let mut metadata = MetadataMap::new();
        assert_eq!(caller(&metadata), TraceParent::default());
        metadata.append(HEADER, MetadataValue::from_static(GOOD));
        assert!(caller(&metadata).is_given());
        metadata.append(HEADER, MetadataValue::from_static(GOOD));
        assert!(!caller(&metadata).is_given());
    }
}
