//! Results on standard output: each is written as a whole before the next one is asked for.

use std::io::{self, IsTerminal as _, Write as _};

use clap::Args;
use framepipe_client::FrameResult;

use crate::{json, progress::Progress, table};

/// How results are printed.
#[derive(Args, Clone, Copy, Debug)]
pub struct OutputArgs {
    /// Print a JSON object a line, a result each, instead of a table.
    #[arg(long)]
    json: bool,
    /// Say nothing on standard error but what went wrong: no progress, no summary.
    #[arg(long)]
    quiet: bool,
}

/// Where results go.
pub struct Output {
    json: bool,
    is_terminal: bool,
    has_head: bool,
    /// How far it is.
    pub progress: Progress,
}

impl Output {
    /// Of these options. The number of frames grows as they become known.
    pub fn new(options: OutputArgs) -> Self {
        let is_terminal = io::stdout().is_terminal();
        Self { json: options.json, is_terminal, has_head: false, progress: Progress::new(options.quiet) }
    }

    /// Prints a result.
    pub fn result(&mut self, result: &FrameResult) -> io::Result<()> {
        let text = if self.json { json::result(result) } else { table::result(result) };
        self.write(&text)
    }

    /// Prints that a file has become no frame.
    pub fn refused(&mut self, name: &str, code: &str, message: &str) -> io::Result<()> {
        let text = if self.json { json::refused(name, code, message) } else { table::refused(name, code, message) };
        self.write(&text)
    }

    /// Prints something else.
    pub fn words(&mut self, words: &str) -> io::Result<()> {
        self.has_head = true; // no table
        self.write(words)
    }

    /// True where objects are printed.
    pub fn is_json(&self) -> bool {
        self.json
    }

    fn write(&mut self, text: &str) -> io::Result<()> {
        let head = if self.json || self.has_head { "" } else { table::HEAD };
        self.has_head = true;
        let write = || {
            let mut out = io::stdout().lock();
            out.write_all(head.as_bytes())?;
            out.write_all(text.as_bytes())?;
            out.flush()
        };
        if self.is_terminal { self.progress.aside(write) } else { write() }
    }
}
