//! A configuration with the origin of each of its values: for `framepipe config show`.

use serde::Serialize;

use super::{Config, Origin, origin::Origins, raw::Raw};

/// A configuration, and who said what of it.
pub struct Explained {
    /// The configuration.
    pub config: Config,
    /// Each layer that said anything, in the order in which they override one another.
    pub layers: Vec<Origin>,
    pub(super) raw: Raw,
    pub(super) origins: Origins,
}

/// One key.
#[derive(Clone, Debug, PartialEq)]
pub struct Setting {
    /// Its name, with dots between the levels.
    pub key: String,
    /// Its value; none: nobody has said any, and there is no default.
    pub value: Option<toml::Value>,
    /// Who said it.
    pub origin: Origin,
}

impl Explained {
    /// Every key, in the order of the names; of a table, what is no table itself comes first.
    ///
    /// # Errors
    /// When a path is no UTF-8, which cannot be written down.
    pub fn settings(&self) -> Result<Vec<Setting>, serde_json::Error> {
        let mut settings = keys(&self.raw)?;
        settings.iter_mut().for_each(|setting| setting.origin = self.origins.of(&setting.key));
        Ok(settings)
    }
}

/// Every key of what serde makes of `of`.
pub(super) fn keys(of: &impl Serialize) -> Result<Vec<Setting>, serde_json::Error> {
    let mut keys = Vec::new();
    collect("", serde_json::to_value(of)?, &mut keys);
    Ok(keys)
}

fn collect(key: &str, value: serde_json::Value, keys: &mut Vec<Setting>) {
    let serde_json::Value::Object(table) = value else {
        return keys.push(Setting { key: key.to_owned(), value: of_json(value), origin: Origin::Default });
    };
    let (tables, leaves): (Vec<_>, Vec<_>) = table.into_iter().partition(|(_, value)| value.is_object());
    for (name, value) in leaves.into_iter().chain(tables) {
        let key = if key.is_empty() { name } else { format!("{key}.{name}") };
        collect(&key, value, keys);
    }
}

/// JSON in TOML's words; none of null.
fn of_json(value: serde_json::Value) -> Option<toml::Value> {
    toml::Value::try_from(value).ok()
}
