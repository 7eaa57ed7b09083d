//! A program's command line, and its description for another program: `framepipe` has verbs that are programs of their own (demo,
//! eval, inspect, model, …), and writes completions and man pages of them all.

use std::{
    error::Error,
    ffi::{OsStr, OsString},
    num::{IntErrorKind, ParseFloatError, ParseIntError},
};

use clap::{
    Arg, ArgAction, Command, Parser, ValueHint,
    builder::{PossibleValue, TypedValueParser},
    error::{ContextKind, ContextValue, ErrorKind},
};
use serde::{Deserialize, Serialize};

/// The one argument that has a program describe its command line (JSON) instead of doing anything. In no help: it is for programs.
pub const DESCRIBE: &str = "--describe-command-line";

/// Reads this program's command line, or describes it and ends, if that is asked for. In place of [`Parser::parse`].
pub fn parse<Cli: Parser>() -> Cli {
    if is_description_wanted() {
        println!("{}", Described::of(&Cli::command()).json());
        std::process::exit(0);
    }
    read()
}

/// Reads this program's command line. Its help is wrapped by the terminal's width alone.
pub fn read<Cli: Parser>() -> Cli {
    read_from(std::env::args_os())
}

/// Reads a command line, the program's name first.
pub fn read_from<Cli: Parser>(arguments: impl IntoIterator<Item = OsString>) -> Cli {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let mut command = flowing(Cli::command());
    let matches = command.try_get_matches_from_mut(&arguments);
    let matches = matches.unwrap_or_else(|error| with_tip(error, &command, &arguments).exit());
    Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.format(&mut flowing(Cli::command())).exit())
}

/// An error of what was typed, with what should have been, where the library does not say it.
fn with_tip(error: clap::Error, command: &Command, arguments: &[OsString]) -> clap::Error {
    let tip = match error.kind() {
        ErrorKind::ValueValidation => error.source().and_then(number_of),
        ErrorKind::UnknownArgument => option_of(&error, meant(command, arguments), arguments),
        _ => None,
    };
    let Some(tip) = tip else { return error };
    // As a new one: that of a number would go on to say what its parser's developers want to know.
    let mut told = clap::Error::new(error.kind()).with_cmd(meant(command, arguments));
    for (kind, value) in error.context() {
        told.insert(kind, value.clone());
    }
    told.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip.into()]));
    told
}

/// How a number looks, where something was none.
fn number_of(why: &(dyn Error + 'static)) -> Option<String> {
    let whole = why.downcast_ref::<ParseIntError>().map(|error| match error.kind() {
        IntErrorKind::PosOverflow | IntErrorKind::NegOverflow => "it is too large a number",
        _ => "give a whole number, such as 3",
    });
    let any = || why.is::<ParseFloatError>().then_some("give a number, such as 0.5");
    whole.or_else(any).map(str::to_owned)
}

/// The option that an argument may be the value of: the one that the command must have, where it has nothing but
/// options, and this one is not given already.
fn option_of(error: &clap::Error, command: &Command, arguments: &[OsString]) -> Option<String> {
    let ContextValue::String(said) = error.get(ContextKind::InvalidArg)? else { return None };
    let required: Vec<_> = command.get_arguments().filter(|argument| argument.is_required_set()).collect();
    let [only] = required[..] else { return None };
    let long = only.get_long().filter(|_| !said.starts_with('-') && command.get_positionals().next().is_none())?;
    let is_this = |word: &str| word.strip_prefix("--").and_then(|word| word.split('=').next()) == Some(long);
    let is_given = arguments.iter().filter_map(|word| word.to_str()).any(is_this);
    (!is_given).then(|| format!("give --{long} {said}"))
}

/// The command, or the one below it, that these arguments are of.
fn meant<'a>(command: &'a Command, arguments: &[OsString]) -> &'a Command {
    arguments.iter().skip(1).fold(command, |command, word| command.find_subcommand(word).unwrap_or(command))
}

/// The command, and those below it, with each paragraph behind their options as one line, which clap wraps.
fn flowing(command: Command) -> Command {
    let words = command.get_after_help().map(ToString::to_string);
    let command = match words {
        Some(words) => command.after_help(joined(&words)),
        None => command,
    };
    command.mut_subcommands(flowing)
}

/// Lines of prose that follow one another, joined. Those that begin with blanks are examples and columns, and stay.
fn joined(words: &str) -> String {
    let mut joined = String::new();
    let mut was_prose = false;
    for line in words.lines() {
        let is_prose = !line.is_empty() && !line.starts_with(' ');
        if !joined.is_empty() {
            joined.push(if was_prose && is_prose { ' ' } else { '\n' });
        }
        joined.push_str(line);
        was_prose = is_prose;
    }
    joined
}

/// Takes what another parser does, of which completions and help name some values: `parse` says what else there may be.
#[derive(Clone)]
pub struct Offering<P> {
    /// What is offered.
    pub names: Vec<&'static str>,
    /// What is taken.
    pub parse: P,
}

impl<P: TypedValueParser> TypedValueParser for Offering<P> {
    type Value = P::Value;

    fn parse_ref(&self, command: &Command, argument: Option<&Arg>, value: &OsStr) -> Result<P::Value, clap::Error> {
        self.parse.parse_ref(command, argument, value)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        Some(Box::new(self.names.iter().map(PossibleValue::new)))
    }
}

/// True where this program is to describe its command line.
pub fn is_description_wanted() -> bool {
    let mut arguments = std::env::args_os().skip(1);
    arguments.len() == 1 && arguments.next().as_deref() == Some(OsStr::new(DESCRIBE))
}

/// What completions and man pages show of a command.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Described {
    name: String,
    version: Option<String>,
    about: Option<String>,
    long_about: Option<String>,
    after_help: Option<String>,
    /// Where it is no list of all arguments.
    usage: Option<String>,
    is_hidden: bool,
    /// Without an option of its own for help: another program has it.
    has_no_help: bool,
    needs_subcommand: bool,
    arguments: Vec<DescribedArgument>,
    subcommands: Vec<Described>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct DescribedArgument {
    id: String,
    long: Option<String>,
    short: Option<char>,
    aliases: Vec<String>,
    help: Option<String>,
    long_help: Option<String>,
    value_names: Vec<String>,
    values: Vec<DescribedValue>,
    defaults: Vec<String>,
    hint: String,
    takes_value: bool,
    is_repeated: bool,
    /// Least and most values of one occurrence.
    count: Option<(usize, usize)>,
    is_required: bool,
    is_global: bool,
    is_hidden: bool,
    /// Those that it does not go together with.
    conflicts: Vec<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct DescribedValue {
    name: String,
    help: Option<String>,
}

impl Described {
    /// Of a command.
    pub fn of(command: &Command) -> Self {
        let words = |words: Option<&clap::builder::StyledStr>| words.map(ToString::to_string);
        Self {
            name: command.get_name().to_owned(),
            version: command.get_version().map(str::to_owned),
            about: words(command.get_about()),
            long_about: words(command.get_long_about()),
            after_help: words(command.get_after_help()),
            usage: words(command.get_overridden_usage()),
            is_hidden: command.is_hide_set(),
            has_no_help: command.is_disable_help_flag_set(),
            needs_subcommand: command.is_subcommand_required_set(),
            arguments: command.get_arguments().map(|argument| DescribedArgument::of(command, argument)).collect(),
            subcommands: command.get_subcommands().map(Self::of).collect(),
        }
    }

    /// For the program that asked.
    pub fn json(&self) -> String {
        serde_json::to_string(self).expect("words and numbers alone")
    }

    /// The subcommand of this name.
    pub fn subcommand(self, name: &str) -> Option<Self> {
        self.subcommands.into_iter().find(|command| command.name == name)
    }

    /// The command, under this name.
    pub fn command(self, name: &str) -> Command {
        let mut command = Command::new(fixed(name.to_owned()))
            .hide(self.is_hidden)
            .disable_help_flag(self.has_no_help)
            .subcommand_required(self.needs_subcommand)
            .args(self.arguments.into_iter().map(DescribedArgument::argument));
        command = command.subcommands(self.subcommands.into_iter().map(|command| {
            let name = command.name.clone();
            command.command(&name)
        }));
        if let Some(version) = self.version {
            command = command.version(fixed(version));
        }
        if let Some(about) = self.about {
            command = command.about(about);
        }
        if let Some(about) = self.long_about {
            command = command.long_about(about);
        }
        if let Some(usage) = self.usage {
            command = command.override_usage(usage);
        }
        match self.after_help {
            Some(words) => command.after_help(words),
            None => command,
        }
    }
}

impl DescribedArgument {
    fn of(command: &Command, argument: &Arg) -> Self {
        let words = |words: Option<&clap::builder::StyledStr>| words.map(ToString::to_string);
        let owned = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        let value =
            |value: PossibleValue| DescribedValue { name: value.get_name().to_owned(), help: words(value.get_help()) };
        let takes_value = argument.get_action().takes_values();
        Self {
            id: argument.get_id().to_string(),
            long: argument.get_long().map(str::to_owned),
            short: argument.get_short(),
            aliases: argument.get_visible_aliases().as_deref().map(owned).unwrap_or_default(),
            help: words(argument.get_help()),
            long_help: words(argument.get_long_help()),
            value_names: argument.get_value_names().unwrap_or_default().iter().map(ToString::to_string).collect(),
            values: argument
                .get_possible_values()
                .into_iter()
                .filter(|value| !value.is_hide_set())
                .map(value)
                .collect(),
            defaults: match takes_value {
                true => {
                    argument.get_default_values().iter().map(|value| value.to_string_lossy().into_owned()).collect()
                }
                false => Vec::new(),
            },
            hint: format!("{:?}", argument.get_value_hint()),
            takes_value,
            is_repeated: matches!(argument.get_action(), ArgAction::Append | ArgAction::Count),
            count: argument.get_num_args().map(|count| (count.min_values(), count.max_values())),
            is_required: argument.is_required_set(),
            is_global: argument.is_global_set(),
            is_hidden: argument.is_hide_set(),
            conflicts: command
                .get_arg_conflicts_with(argument)
                .iter()
                .map(|other| other.get_id().to_string())
                .collect(),
        }
    }

    fn argument(self) -> Arg {
        let action = match (self.takes_value, self.is_repeated) {
            (true, true) => ArgAction::Append,
            (true, false) => ArgAction::Set,
            (false, true) => ArgAction::Count,
            (false, false) => ArgAction::SetTrue,
        };
        let value = |value: DescribedValue| {
            let possible = PossibleValue::new(fixed(value.name));
            match value.help {
                Some(help) => possible.help(help),
                None => possible,
            }
        };
        let mut argument = Arg::new(fixed(self.id))
            .action(action)
            .global(self.is_global)
            .hide(self.is_hidden)
            .required(self.is_required)
            .conflicts_with_all(self.conflicts.into_iter().map(fixed).collect::<Vec<_>>())
            .visible_aliases(self.aliases.into_iter().map(fixed).collect::<Vec<_>>());
        if let Some(long) = self.long {
            argument = argument.long(fixed(long));
        }
        if let Some(short) = self.short {
            argument = argument.short(short);
        }
        if let Some(help) = self.help {
            argument = argument.help(help);
        }
        if let Some(help) = self.long_help {
            argument = argument.long_help(help);
        }
        if !self.takes_value {
            return argument;
        }
        if let Some((least, most)) = self.count {
            argument = argument.num_args(least..=most);
        }
        if !self.values.is_empty() {
            argument = argument.value_parser(self.values.into_iter().map(value).collect::<Vec<_>>());
        }
        argument
            .value_names(self.value_names.into_iter().map(fixed).collect::<Vec<_>>())
            .default_values(self.defaults.into_iter().map(fixed).collect::<Vec<_>>())
            .value_hint(self.hint.to_ascii_lowercase().parse().unwrap_or(ValueHint::Unknown))
    }
}

/// Words for as long as the program runs, as clap wants them: once, by a program that ends when it has used them.
fn fixed(words: String) -> &'static str {
    words.leak()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prose_is_one_line_a_paragraph_and_columns_stay() {
        let words =
            "Examples:\n  x a\n  x b\n\nSome prose that\ngoes on.\n\nIn columns:\n  1. a;\n  2. b.\nAnd on\nit goes.";
        let joined =
            "Examples:\n  x a\n  x b\n\nSome prose that goes on.\n\nIn columns:\n  1. a;\n  2. b.\nAnd on it goes.";
        let below = Command::new("below").after_help(words);
        let command = flowing(Command::new("x").subcommand(below));
        let below = command.find_subcommand("below").expect("it is there");
        assert_eq!(below.get_after_help().map(ToString::to_string).as_deref(), Some(joined));
    }

    #[test]
    fn what_is_typed_wrongly_is_told_with_what_should_have_been() {
        let number = Arg::new("n").long("n").value_parser(clap::value_parser!(u32).range(1..9));
        let share = Arg::new("share").long("share").value_parser(clap::value_parser!(f32));
        let pull = Command::new("pull").arg(Arg::new("stream").long("stream").required(true)).arg(number).arg(share);
        let command = Command::new("x").subcommand(pull);
        let said = |arguments: &[&str]| {
            let arguments: Vec<OsString> = ["x", "pull"].iter().chain(arguments).map(Into::into).collect();
            let mut command = command.clone();
            let error = command.try_get_matches_from_mut(&arguments).expect_err("it is wrong");
            with_tip(error, &command, &arguments).to_string()
        };
        for (arguments, words) in [
            (
                &["--n", "many"] as &[&str],
                "invalid value 'many' for '--n <n>'\n\n  tip: give a whole number, such as 3\n",
            ),
            (&["--n", "99999999999999999999999"], "tip: it is too large a number"),
            (&["--n", "9"], "9 is not in 1..9"),
            (&["--share", "half"], "invalid value 'half' for '--share <share>'\n\n  tip: give a number, such as 0.5\n"),
            (&["door"], "unexpected argument 'door' found\n\n  tip: give --stream door\n\nUsage: x pull"),
            (&["--door"], "unexpected argument '--door' found\n\nUsage"),
            (&["--stream", "door", "extra"], "unexpected argument 'extra' found\n\nUsage"),
            (&["--stream=door", "extra"], "unexpected argument 'extra' found\n\nUsage"),
        ] {
            let said = said(arguments);
            assert!(said.contains(words), "{words:?} is wanted in {said}");
        }
    }

    #[test]
    fn what_is_offered_is_not_all_that_is_taken() {
        let parse = |text: &str| if text.contains('x') { Err("no x") } else { Ok(text.to_owned()) };
        let offering = Offering { names: vec!["a", "b"], parse };
        let command = || Command::new("x").arg(Arg::new("one").value_parser(offering.clone()));
        let one = |text: &str| {
            let matches = command().try_get_matches_from(["x", text]);
            matches.map(|matches| matches.get_one::<String>("one").cloned()).map_err(|error| error.to_string())
        };
        assert_eq!(one("c"), Ok(Some("c".into())));
        assert!(one("x").is_err_and(|said| said.contains("no x")));
        let offered: Vec<_> = command().get_arguments().flat_map(Arg::get_possible_values).collect();
        assert_eq!(offered.iter().map(PossibleValue::get_name).collect::<Vec<_>>(), ["a", "b"]);
    }
}
