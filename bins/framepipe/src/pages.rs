//! `framepipe man` and `framepipe completions`: made of the command lines that there are, so that nothing can be forgotten.

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context as _;
use clap::{
    Args, Command,
    builder::{PossibleValuesParser, TypedValueParser},
};
use clap_complete::{Shell, generate};
use clap_mangen::{
    Man,
    roff::{Roff, roman},
};

use crate::print;

/// How paragraphs begin, behind a command's options, that are sections of its page, and how those are called. All others are notes.
const SECTIONS: [(&str, &str); 3] = [("Example", "EXAMPLES"), ("Exit status:", "EXIT STATUS"), ("", "NOTES")];

/// Of `framepipe completions`.
#[derive(Args)]
#[command(after_help = "Examples:
  framepipe completions bash > /etc/bash_completion.d/framepipe
  framepipe completions zsh > ~/.zfunc/_framepipe
  framepipe completions fish > ~/.config/fish/completions/framepipe.fish

Exit status: 0 done; 1 not done, as the message says; 2 wrong usage.")]
pub struct CompletionsArgs {
    /// The shell.
    #[arg(value_parser = shells())]
    shell: Shell,
}

/// Of `framepipe man`.
#[derive(Args)]
#[command(after_help = "Examples:
  framepipe man /usr/local/share/man/man1
  framepipe man pages && man -l pages/framepipe-up.1

Exit status: 0 done; 1 not done, as the message says; 2 wrong usage.")]
pub struct ManArgs {
    /// The folder, which is made where it is not there.
    #[arg(value_name = "DIR")]
    folder: PathBuf,
}

/// Reads the name of a shell.
fn shells() -> impl TypedValueParser<Value = Shell> {
    const SHELLS: [(&str, Shell); 3] = [("bash", Shell::Bash), ("zsh", Shell::Zsh), ("fish", Shell::Fish)];
    let names = PossibleValuesParser::new(SHELLS.map(|(name, _)| name));
    names.map(|said| SHELLS.into_iter().find(|(name, _)| *name == said).expect("one of the names").1)
}

/// `framepipe completions`, of the whole command line.
pub fn complete(arguments: &CompletionsArgs, whole: Command) -> anyhow::Result<ExitCode> {
    print(&completions(whole, arguments.shell))
}

/// `framepipe man`, of the whole command line.
pub fn man(arguments: &ManArgs, whole: Command) -> anyhow::Result<ExitCode> {
    let folder = &arguments.folder;
    let count = write(whole, folder)?;
    print(&format!("{count} pages in {}\n", folder.display()))
}

/// The completions of a shell.
fn completions(mut whole: Command, shell: Shell) -> String {
    let mut text = Vec::new();
    let name = whole.get_name().to_owned();
    generate(shell, &mut whole, name, &mut text);
    String::from_utf8_lossy(&text).into_owned()
}

/// Writes a page of each command into a folder, which is made; returns how many.
fn write(whole: Command, folder: &Path) -> anyhow::Result<usize> {
    fs::create_dir_all(folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
    let pages = pages(whole)?;
    for (name, page) in &pages {
        let path = folder.join(name);
        fs::write(&path, page).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(pages.len())
}

/// A page of each command: its file's name, and its text.
fn pages(whole: Command) -> anyhow::Result<Vec<(String, Vec<u8>)>> {
    let mut whole = whole.disable_help_subcommand(true);
    whole.build();
    let mut pages = Vec::new();
    collect(&whole, &mut pages)?;
    Ok(pages)
}

fn collect(command: &Command, pages: &mut Vec<(String, Vec<u8>)>) -> anyhow::Result<()> {
    let man = Man::new(command.clone()).manual("framepipe").source(format!("framepipe {}", env!("CARGO_PKG_VERSION")));
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    synopsis(command).to_writer(&mut page)?;
    man.render_description_section(&mut page)?;
    if command.get_arguments().any(|argument| !argument.is_hide_set()) {
        man.render_options_section(&mut page)?;
    }
    if command.get_subcommands().any(|command| !command.is_hide_set()) {
        man.render_subcommands_section(&mut page)?;
    }
    if let Some(words) = command.get_after_help() {
        sections(&words.to_string()).to_writer(&mut page)?;
    }
    pages.push((man.get_filename(), page));
    command.get_subcommands().filter(|command| !command.is_hide_set()).try_for_each(|command| collect(command, pages))
}

/// How a command is typed, as its help says it: what `clap_mangen` makes of the options has no names of values.
fn synopsis(command: &Command) -> Roff {
    let usage = command.clone().render_usage().to_string();
    let mut roff = Roff::new();
    roff.control("SH", ["SYNOPSIS"]);
    for line in usage.trim_start_matches("Usage:").lines() {
        roff.text([roman(line.trim())]).control("br", []);
    }
    roff
}

/// What stands behind a command's options, in sections.
fn sections(words: &str) -> Roff {
    let section_of = |paragraph: &str| SECTIONS.iter().position(|(start, _)| paragraph.starts_with(start));
    let mut roff = Roff::new();
    for (number, (start, heading)) in SECTIONS.iter().enumerate() {
        let paragraphs: Vec<&str> = words
            .split("\n\n")
            .filter(|paragraph| section_of(paragraph) == Some(number) && !paragraph.is_empty())
            .collect();
        if paragraphs.is_empty() {
            continue;
        }
        roff.control("SH", [*heading]);
        for paragraph in paragraphs {
            // As it is typed: examples, and what stands in columns.
            let has_columns = paragraph.lines().any(|line| line.starts_with("  "));
            let text = paragraph.strip_prefix(start).unwrap_or(paragraph);
            let text =
                if number == 0 { text.split_once(":\n").map_or(text, |(_, text)| text) } else { text.trim_start() };
            roff.control("PP", []);
            if has_columns {
                roff.control("nf", []);
            }
            for line in text.lines() {
                roff.text([roman(line)]);
            }
            if has_columns {
                roff.control("fi", []);
            }
        }
    }
    roff
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;
    use framepipe_pipeline::command_line::Described;

    use super::*;
    use crate::Cli;

    /// What a program says of its command line loses nothing that a page or a completion shows.
    #[test]
    fn a_described_command_line_has_the_pages_and_completions_of_the_real_one() {
        let described: Described =
            serde_json::from_str(&Described::of(&Cli::command()).json()).expect("it is read again");
        let described = described.command("framepipe");
        let page = |(name, page): (String, Vec<u8>)| format!("{name}\n{}", String::from_utf8_lossy(&page));
        let text = |command| pages(command).expect("they can be written").into_iter().map(page).collect::<Vec<_>>();
        for (described, real) in text(described.clone()).iter().zip(&text(Cli::command())) {
            assert_eq!(described, real);
        }
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            assert_eq!(completions(described.clone(), shell), completions(Cli::command(), shell));
        }
    }

    #[test]
    fn a_synopsis_names_what_is_typed_behind_the_command() {
        let mut whole = Cli::command();
        whole.build();
        let said = |name: &str| synopsis(whole.find_subcommand(name).expect("it is a command")).to_roff();
        assert!(said("scale").contains("framepipe scale [OPTIONS] <STAGE=N>..."), "{}", said("scale"));
        assert!(said("restart").contains("framepipe restart [OPTIONS] [STAGE|PROCESS|PID]"), "{}", said("restart"));
    }

    #[test]
    fn what_stands_behind_the_options_is_put_into_sections() {
        let words = "Examples:\n  framepipe x -y\n\nAs it is.\n\nExit status: 0 done; 1 not.";
        let page = sections(words).to_roff();
        let at = |words: &str| page.find(words).unwrap_or_else(|| panic!("{words} is wanted in {page}"));
        assert!(at(".SH EXAMPLES") < at("framepipe x \\-y") && at("framepipe x") < at(".SH \"EXIT STATUS\""));
        assert!(
            at("EXIT STATUS") < at("0 done; 1 not.") && at("0 done") < at(".SH NOTES") && at("NOTES") < at("As it is.")
        );
        assert!(!page.contains("Exit status:") && !page.contains("Examples:"));
    }
}
