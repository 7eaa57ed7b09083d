//! Numbers as they fit into columns.

/// A part of something, in whole per cent.
pub fn per_cent(part: f64) -> String {
    format!("{:.0} %", part * 100.0)
}

/// A number of something a second.
pub fn rate(per_second: f64) -> String {
    if per_second < 100.0 { format!("{per_second:.1}") } else { format!("{per_second:.0}") }
}

/// Bytes, in the unit that fits.
pub fn bytes(bytes: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let unit = (0..units.len() - 1).find(|unit| bytes >> (10 * (unit + 1)) == 0).unwrap_or(units.len() - 1);
    let number = bytes as f64 / (1u64 << (10 * unit)) as f64;
    match unit {
        0 => format!("{bytes} B"),
        _ if number < 10.0 => format!("{number:.1} {}", units[unit]),
        _ => format!("{number:.0} {}", units[unit]),
    }
}

/// A time, in the unit that fits.
pub fn time(ms: u64) -> String {
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..60_000 => format!("{:.1} s", ms as f64 / 1e3),
        60_000..7_200_000 => format!("{} min", ms / 60_000),
        7_200_000..172_800_000 => format!("{} h", ms / 3_600_000),
        _ => format!("{} d", ms / 86_400_000),
    }
}

/// Seconds, from a fraction of a millisecond on, in the unit that fits.
pub fn seconds(seconds: f64) -> String {
    match seconds * 1e3 {
        ms if ms < 10.0 => format!("{ms:.2} ms"),
        ms if ms < 1_000.0 => format!("{ms:.0} ms"),
        _ => format!("{seconds:.1} s"),
    }
}

/// A count with its thing: "1 frame", "2 frames".
pub fn count(number: u64, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short_and_say_their_unit() {
        let of = [0, 1023, 1024, 10 << 10, 1_572_864, 3 << 30, u64::MAX].map(bytes);
        assert_eq!(of, ["0 B", "1023 B", "1.0 KiB", "10 KiB", "1.5 MiB", "3.0 GiB", "16777216 TiB"]);
        assert_eq!(
            [0.0, 0.000_05, 0.009_99, 0.0101, 0.999, 1.0, 60.0].map(seconds),
            ["0.00 ms", "0.05 ms", "9.99 ms", "10 ms", "999 ms", "1.0 s", "60.0 s"]
        );
        let of = [0, 999, 1_000, 59_999, 60_000, 7_200_000, 200_000_000, u64::MAX].map(time);
        assert_eq!(of, ["0 ms", "999 ms", "1.0 s", "60.0 s", "1 min", "2 h", "2 d", "213503982334 d"]);
        assert_eq!([0.0, 9.96, 99.94, 1234.5].map(rate), ["0.0", "10.0", "99.9", "1234"]);
        assert_eq!(
            (count(1, "frame"), count(0, "frame"), per_cent(0.996)),
            ("1 frame".into(), "0 frames".into(), "100 %".into())
        );
    }
}
