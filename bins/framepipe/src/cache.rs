//! `framepipe cache`: what a running pipeline keeps, read from its area; all but `drop` only look.

use std::{
    path::Path,
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use clap::{
    Args, Subcommand,
    builder::{PossibleValuesParser, TypedValueParser},
};
use framepipe_cache::{
    Area, ArenaKind, Digest, Kind, Use, Value,
    spill::{self, SpillError},
};
use framepipe_pipeline::{CacheStats, Config, Instance, Overrides, cache_folder};
use serde::Serialize;

use crate::print;

/// For the keeper to do what is wanted.
const KEEPER_WAIT: Duration = Duration::from_secs(5);
/// Between two looks whether it has.
const LOOK: Duration = Duration::from_millis(5);

/// The kinds, in the words of who asks.
macro_rules! with_kinds {
    ($($words:literal)*) => {
        concat!(
            $($words,)*
            "\n\nKinds:\n",
            "  metadata  of an image: its format, size and orientation\n",
            "  tensors   an image as the detector takes it in, so that it needs no decoding\n",
            "  results   what was found in an image, so that no model needs to run",
            "\n\nExit status: 0 done; 1 not done, as the message says; 2 wrong usage."
        )
    };
}

/// What to do with the cache.
#[derive(Subcommand)]
pub enum CacheVerb {
    /// Show how full it is, how often it helped, and what became of kept images.
    #[command(after_help = "Examples:
  framepipe cache stats --config config/street.toml
  framepipe cache stats --json | jq .memory_bytes

Exit status: 0 done; 1 not done, as the message says; 2 wrong usage.")]
    Stats {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// List what is remembered of images: metadata, tensors and results. Images that are kept for their frames are not listed.
    #[command(after_help = with_kinds!("Examples:
  framepipe cache list --config config/street.toml
  framepipe cache list results --limit 20 --json"))]
    List {
        /// Of this kind alone.
        #[arg(value_parser = kind())]
        kind: Option<Kind>,
        /// At most so many; the last line says how many more there are.
        #[arg(long, value_name = "N", default_value_t = 100)]
        limit: usize,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Drop what is remembered of images: it is made again when it is asked for. Images that are kept for their frames stay.
    #[command(after_help = with_kinds!("Examples:
  framepipe cache drop tensors --config config/street.toml
  framepipe cache drop --all"), override_usage = "framepipe cache drop [OPTIONS] <KIND|--all>")]
    Drop {
        /// Of this kind.
        #[arg(value_parser = kind(), required_unless_present = "all", conflicts_with = "all")]
        kind: Option<Kind>,
        /// Of every kind.
        #[arg(long)]
        all: bool,
    },
    /// Compare the checksum of everything cached, and of every image on disk.
    #[command(after_help = "Example:
  framepipe cache verify --config config/street.toml

Exit status: 0 nothing is damaged; 1 something is, or could not be looked at, as the message says; 2 wrong usage.")]
    Verify,
}

/// Reads the name of a kind.
fn kind() -> impl TypedValueParser<Value = Kind> {
    let names = PossibleValuesParser::new(Kind::ALL.map(Kind::name));
    names.map(|said| Kind::ALL.into_iter().find(|kind| kind.name() == said).expect("one of the names"))
}

/// What is to be printed.
struct Said {
    /// The words.
    text: String,
    /// False where damage was found.
    is_good: bool,
}

/// Of which pipeline, and what to do.
#[derive(Args)]
#[command(after_help = "Examples:
  framepipe cache stats --config config/street.toml
  framepipe cache list results --limit 20 --json
  framepipe cache drop tensors
  framepipe cache drop --all
  framepipe cache verify

`list` and `drop` are about what is remembered in case an image comes again: its metadata (format, size, orientation), its tensor
(as the detector takes it in) and its results. What is dropped is made again when it is asked for. Images that framepipe keeps for
frames in flight (HOLD_COPY, Upload) are neither listed nor dropped; `stats` counts them, and `verify` looks at those on disk.

Exit status: 0 done, and nothing is damaged; 1 not done, as the message says, or verify found damage; 2 wrong usage.")]
pub struct CacheArgs {
    #[command(flatten)]
    instance: Instance,
    #[command(subcommand)]
    verb: CacheVerb,
}

/// `framepipe cache`.
pub fn run(arguments: &CacheArgs) -> anyhow::Result<ExitCode> {
    let config = arguments.instance.load(Overrides::default())?;
    let said = answer(&config, &arguments.verb)?;
    let printed = print(&said.text)?;
    Ok(if said.is_good { printed } else { ExitCode::FAILURE })
}

/// Does it.
fn answer(config: &Config, verb: &CacheVerb) -> anyhow::Result<Said> {
    let used = Use::NONE.reads(ArenaKind::Tensors).reads(ArenaKind::Results);
    let folder = cache_folder(&config.segment());
    ensure!(folder.is_dir(), "there is no cache at {}: is the pipeline up?", folder.display());
    let area = Area::open(&folder, if let CacheVerb::Verify = verb { used } else { Use::NONE })?;
    let text = match verb {
        CacheVerb::Stats { json } => {
            let stats = CacheStats::of(&area, &config.cache);
            if *json { format!("{}\n", serde_json::to_string_pretty(&stats)?) } else { stats.to_string() }
        }
        CacheVerb::List { kind, limit, json } => {
            let wanted = |value: &Value| kind.is_none_or(|kind| value.kind == kind);
            let mut found = area.all().filter(|(_, value)| wanted(value));
            let entries = found.by_ref().take(*limit).map(|(key, value)| Entry::of(key, &value)).collect();
            let listed = Listed { entries, more: found.count() };
            if *json { format!("{}\n", serde_json::to_string_pretty(&listed)?) } else { listed.table() }
        }
        CacheVerb::Drop { kind, .. } => drop_kinds(&area, kind.map_or(Kind::ALL.to_vec(), |kind| vec![kind]))?,
        CacheVerb::Verify => return verify(&area, &config.spill()),
    };
    Ok(Said { text, is_good: true })
}

/// Entries of the index, and how many there are beside them.
#[derive(Serialize)]
struct Listed {
    entries: Vec<Entry>,
    more: usize,
}

/// An entry of the index.
#[derive(Debug, PartialEq, Serialize)]
struct Entry {
    key: String,
    kind: &'static str,
    bytes: u64,
    image: Option<ImageFacts>,
}

/// What the header of an image said.
#[derive(Debug, PartialEq, Serialize)]
struct ImageFacts {
    width: u32,
    height: u32,
    /// As EXIF numbers them.
    orientation: u32,
    format: Option<&'static str>,
}

impl Entry {
    fn of(key: Digest, value: &Value) -> Self {
        let (high, low) = (|word: u64| (word >> 32) as u32, |word: u64| word as u32);
        let [_, _, size, of_header, ..] = value.inline;
        let format = ["jpeg", "png", "webp", "bmp"].get((low(of_header) as usize).wrapping_sub(1)).copied();
        let (width, height, orientation) = (high(size), low(size), high(of_header));
        let image = (value.kind == Kind::Metadata).then_some(ImageFacts { width, height, orientation, format });
        Self { key: format!("{key:032x}"), kind: value.kind.name(), bytes: value.bytes, image }
    }
}

impl Listed {
    fn table(&self) -> String {
        let mut text = String::new();
        if !self.entries.is_empty() {
            text += &format!(
                "{:<32}  {:<8}  {:>9}  {:<11}  {:>11}  format\n",
                "key", "kind", "bytes", "size", "orientation"
            );
        }
        for Entry { key, kind, bytes, image } in &self.entries {
            let size = image.as_ref().map_or("-".into(), |image| format!("{}x{}", image.width, image.height));
            let orientation = image.as_ref().map_or("-".into(), |image| image.orientation.to_string());
            let format = image.as_ref().and_then(|image| image.format).unwrap_or("-");
            text += &format!("{key}  {kind:<8}  {bytes:>9}  {size:<11}  {orientation:>11}  {format}\n");
        }
        match self.more {
            0 if self.entries.is_empty() => text += "nothing is remembered\n",
            0 => {}
            more => text += &format!("{more} more: --limit says how many are listed\n"),
        }
        text
    }
}

fn drop_kinds(area: &Area, kinds: Vec<Kind>) -> anyhow::Result<String> {
    let wanted: Vec<(Kind, u64)> = kinds.into_iter().map(|kind| (kind, area.want_drop(kind))).collect();
    let deadline = Instant::now() + KEEPER_WAIT;
    while !wanted.iter().all(|(kind, number)| area.is_dropped(*kind, *number)) {
        if Instant::now() >= deadline {
            bail!(
                "no keeper answers in {} s: `framepipe status` shows whether the pipeline runs, and the keeper's restarts",
                KEEPER_WAIT.as_secs()
            );
        }
        thread::sleep(LOOK);
    }
    let names: Vec<&str> = wanted.iter().map(|(kind, _)| kind.name()).collect();
    Ok(format!("dropped: {}\n", names.join(", ")))
}

/// What goes meanwhile is no damage: a chain counts that lived to the end, and a file that was there.
fn verify(area: &Area, spill_folder: &Path) -> anyhow::Result<Said> {
    let (mut text, mut blocks, mut bad, mut images) = (String::new(), 0, 0, 0);
    for kind in Kind::ALL {
        let Some(arena) = kind.arena().map(|arena| area.arena(arena)) else { continue };
        for (first, record) in arena.cached() {
            let mut running = area.hasher().begin();
            let copied = arena.copy(first, record.bytes as usize, |piece| {
                running.add(piece);
                Ok(())
            });
            let lived = copied.with_context(|| format!("cannot read what is cached in {}", area.folder().display()))?;
            if !lived || arena.record(first) != Some(record) {
                continue;
            }
            blocks += 1;
            if running.end() != record.sum {
                bad += 1;
                text += &format!("damaged: {} {:032x} ({} bytes)\n", kind.name(), record.key, record.bytes);
            }
        }
    }
    let files = spill::list(spill_folder).with_context(|| {
        format!("cannot read {}: give --state-dir, where `framepipe up` had it", spill_folder.display())
    })?;
    for file in files.iter().filter(|file| file.is_whole) {
        match spill::verify(spill_folder, file.id, &area.hasher()) {
            Ok(_) => images += 1,
            Err(SpillError::Gone(_)) => {} // its frame has it
            Err(error @ SpillError::Damaged { .. }) => {
                (images, bad) = (images + 1, bad + 1);
                text += &format!("damaged: {error}\n");
            }
            Err(error @ SpillError::Io { .. }) => return Err(error.into()),
        }
    }
    text +=
        &format!("{blocks} cached entries and {images} images on disk compared with their checksums: {bad} damaged\n");
    Ok(Said { text, is_good: bad == 0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_shows_the_facts_of_its_kind() {
        let facts = [0, 0, 640 << 32 | 480, 6 << 32 | 1, 0, 0, 0, 0];
        let of = |kind| Entry::of(0xabc, &Value { kind, block: 0, bytes: 9, inline: facts });
        let metadata = of(Kind::Metadata);
        let image = ImageFacts { width: 640, height: 480, orientation: 6, format: Some("jpeg") };
        assert_eq!((metadata.key.len(), &metadata.key[29..], metadata.image), (32, "abc", Some(image)));
        assert_eq!([Kind::Tensors, Kind::Results].map(|kind| of(kind).image), [None, None]);
    }
}
