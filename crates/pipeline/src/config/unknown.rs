//! Keys that there are not: where one stands, and what was meant by it.

use toml::{Table, Value};

use super::{explained::keys, raw::Raw};

/// Most letters of a name that is compared with those that there are.
const NAME_BYTES_MAX: usize = 64;

/// The key that there is not, with all its levels, where that is what is wrong with a table.
pub(super) fn unknown(error: &toml::de::Error, table: &Table) -> Option<String> {
    let name = error.message().strip_prefix("unknown field `")?.split('`').next()?;
    find(table, "", name, &known())
}

/// What to do about it.
pub(super) fn advice(key: &str) -> String {
    let what = match meant(key) {
        Some(known) => format!("did you mean {known}? config/framepipe.toml has every key"),
        None => "take it away, or name a key of config/framepipe.toml".into(),
    };
    format!("{key} is no key: {what}")
}

fn find(table: &Table, prefix: &str, name: &str, known: &[String]) -> Option<String> {
    table.iter().find_map(|(level, value)| {
        let key = if prefix.is_empty() { level.clone() } else { format!("{prefix}.{level}") };
        match value {
            _ if !known.contains(&key) => (level == name).then_some(key),
            Value::Table(below) => find(below, &key, name, known),
            _ => None,
        }
    })
}

/// Every key, and every table.
fn known() -> Vec<String> {
    let keys = keys(&Raw::default()).expect("the defaults are words and numbers");
    let mut known: Vec<String> = keys
        .iter()
        .flat_map(|setting| {
            let ends = setting.key.match_indices('.').map(|(end, _)| end).chain([setting.key.len()]);
            ends.map(|end| setting.key[..end].to_owned()).collect::<Vec<_>>()
        })
        .collect();
    known.sort();
    known.dedup();
    known
}

/// The key that is written most like this one, those of the same table first.
fn meant(key: &str) -> Option<String> {
    let (table, name) = levels(key);
    if name.len() > NAME_BYTES_MAX {
        return None;
    }
    let like = known().into_iter().filter_map(|known| {
        let (other_table, other) = levels(&known);
        let letters = strsim::levenshtein(name, other);
        (letters * 3 <= other.len()).then_some((letters, other_table != table, known))
    });
    like.min().map(|(_, _, known)| known)
}

fn levels(key: &str) -> (&str, &str) {
    key.rsplit_once('.').unwrap_or(("", key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_meant_is_what_is_written_most_like_it() {
        for (key, wanted) in [
            ("stages.detekt", Some("stages.detect")),
            ("stages.detect.process", Some("stages.detect.processes")),
            ("stage", Some("stages")),
            ("detecter", Some("pipeline.detector")),
            ("tcp", Some("server.tcp")),
            ("pipeline.crop_max", Some("pipeline.crops_max")),
            ("paths.model", Some("paths.models")),
            ("foo", None),
            ("", None),
        ] {
            assert_eq!(meant(key).as_deref(), wanted, "{key}");
        }
        assert_eq!(meant(&"k".repeat(1 << 20)), None);
    }
}
