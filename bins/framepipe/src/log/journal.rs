//! The journal of systemd: whether it is what hears standard error, and a line in its own protocol, with priority and fields.
//!
//! The crates for it (`tracing-journald`, `systemd-journal-logger`) send events of their own process alone; these lines are of others.

use std::{env, io, os::unix::net::UnixDatagram};

use framepipe_pipeline::log::{Level, Line};
use rustix::fs::fstat;
use serde_json::Value;

/// Where it listens.
const SOCKET: &str = "/run/systemd/journal/socket";
/// What a service manager says of standard error: the device and inode of the journal's stream.
const STREAM_VARIABLE: &str = "JOURNAL_STREAM";
/// Under what its lines are found: `journalctl -t framepipe`.
const IDENTIFIER: &str = "framepipe";

/// The journal.
pub struct Journal(UnixDatagram);

impl Journal {
    /// True where standard error is the journal.
    pub fn hears_stderr() -> bool {
        let said = env::var(STREAM_VARIABLE).unwrap_or_default();
        let number = |text: &str| text.parse::<u64>().ok();
        let said = said.split_once(':').and_then(|(device, inode)| Some((number(device)?, number(inode)?)));
        said.is_some() && said == fstat(io::stderr()).ok().map(|stat| (stat.st_dev, stat.st_ino))
    }

    /// Connects to it.
    pub fn connect() -> io::Result<Self> {
        Self::connect_to(SOCKET)
    }

    fn connect_to(socket: &str) -> io::Result<Self> {
        let journal = UnixDatagram::unbound()?;
        journal.connect(socket)?;
        Ok(Self(journal))
    }

    /// Sends a line: a datagram, which is sent whole or not at all. A line is bounded, and far smaller than one may be.
    pub fn send(&self, line: &Line) -> io::Result<()> {
        self.0.send(&entry(line)).map(drop)
    }
}

/// A line as the journal takes it.
fn entry(line: &Line) -> Vec<u8> {
    let mut entry = Vec::with_capacity(line.message.len() + 256);
    let priority = match line.level {
        Level::Error => "3",
        Level::Warn => "4",
        Level::Info => "6",
        Level::Debug | Level::Trace => "7",
    };
    add(&mut entry, "MESSAGE", &format!("{}: {}", line.process, line.message));
    add(&mut entry, "PRIORITY", priority);
    add(&mut entry, "SYSLOG_IDENTIFIER", IDENTIFIER);
    add(&mut entry, "FRAMEPIPE_PROCESS", &line.process);
    add(&mut entry, "FRAMEPIPE_PID", &line.pid.to_string());
    add(&mut entry, "FRAMEPIPE_TARGET", &line.target);
    for (name, value) in &line.fields {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        if !matches!(value, Value::Null) && name.bytes().all(is_name) {
            add(&mut entry, &format!("FRAMEPIPE_{}", name.to_uppercase()), &text);
        }
    }
    entry
}

/// Adds a field: `NAME\n`, its length in 8 bytes, its bytes, `\n`. So it is taken whatever it holds.
fn add(entry: &mut Vec<u8>, name: &str, value: &str) {
    entry.extend_from_slice(name.as_bytes());
    entry.push(b'\n');
    entry.extend_from_slice(&(value.len() as u64).to_le_bytes());
    entry.extend_from_slice(value.as_bytes());
    entry.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The fields of an entry, read as the protocol says.
    fn fields(mut entry: &[u8]) -> Vec<(String, String)> {
        let mut fields = Vec::new();
        while let Some(end) = entry.iter().position(|byte| *byte == b'\n') {
            let name = String::from_utf8(entry[..end].to_vec()).expect("a name");
            let (length, rest) = entry[end + 1..].split_first_chunk().expect("a length");
            let length = u64::from_le_bytes(*length) as usize;
            fields.push((name, String::from_utf8(rest[..length].to_vec()).expect("text")));
            assert_eq!(rest[length], b'\n');
            entry = &rest[length + 1..];
        }
        fields
    }

    #[test]
    fn the_journal_gets_a_line_with_its_priority_and_fields() {
        let folder = tempfile::tempdir().expect("a folder");
        let socket = folder.path().join("socket");
        let listener = UnixDatagram::bind(&socket).expect("a socket");
        let journal = Journal::connect_to(socket.to_str().expect("UTF-8")).expect("it listens");
        let mut line = Line::now(Level::Error, "two\nrows");
        (line.process, line.pid, line.target) = ("gateway".into(), 9, "framepipe_gateway::hub".into());
        line.fields.insert("stream".into(), "live".into());
        line.fields.insert("frame".into(), 5.into());
        line.fields.insert("no name".into(), 5.into());
        journal.send(&line).expect("it is sent");
        let mut bytes = [0; 4096];
        let length = listener.recv(&mut bytes).expect("it came");
        let got = fields(&bytes[..length]);
        let wanted = [
            ("MESSAGE", "gateway: two\nrows"),
            ("PRIORITY", "3"),
            ("SYSLOG_IDENTIFIER", "framepipe"),
            ("FRAMEPIPE_PROCESS", "gateway"),
            ("FRAMEPIPE_PID", "9"),
            ("FRAMEPIPE_TARGET", "framepipe_gateway::hub"),
            ("FRAMEPIPE_FRAME", "5"),
            ("FRAMEPIPE_STREAM", "live"),
        ];
        assert_eq!(got, wanted.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }
}
