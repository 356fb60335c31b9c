//! Options that set a configuration key, from the declarations of the settings.

use clap::{Arg, ArgAction, ArgMatches, Args, Command, Error, FromArgMatches, value_parser};

use milenas_search::config::Config;
use milenas_search::config::settings::{Range, Setting};

/// Values of all options that set a configuration key.
#[derive(Clone, Debug, Default)]
pub struct SettingOptions {
    /// Settings in the form `KEY=VALUE`, in the order of their declaration.
    pub sets: Vec<String>,
}

/// Values of the options that affect one search step.
#[derive(Clone, Debug, Default)]
pub struct StepOptions {
    /// Settings in the form `KEY=VALUE`, in the order of their declaration.
    pub sets: Vec<String>,
}

/// Keys whose options affect one search step.
const STEP_KEYS: [&str; 4] = ["search.lambda", "search.mixture", "search.partial_channels", "search.compat"];

/// Returns the settings that have options.
fn settings() -> impl Iterator<Item = Setting> {
    Config::default().settings().into_iter().filter(|setting| setting.declared.option.is_some())
}

fn step_settings() -> impl Iterator<Item = Setting> {
    settings().filter(|setting| STEP_KEYS.contains(&setting.key.as_str()))
}

/// Returns the option of a setting.
fn option(setting: Setting) -> Arg {
    let name = setting.declared.option.unwrap_or_default();
    let doc = setting.declared.doc.replace('`', "");
    let mut help = doc.strip_suffix('.').unwrap_or(&doc).to_string();
    let named = if let Range::OneOf(names) = setting.declared.range { Some(names) } else { None };
    if let Some(choices) = &named {
        let list = choices.iter().map(|choice| format!("{}: {}", choice.name, choice.doc));
        help += &format!(". {}", list.collect::<Vec<_>>().join("; "));
    }
    let arg = Arg::new(name).long(name).help(help);
    match setting.value {
        toml::Value::Integer(_) => arg.value_name("N").value_parser(value_parser!(u64)),
        toml::Value::Float(_) => arg.value_name("X").value_parser(value_parser!(f64)),
        toml::Value::Boolean(_) => arg.action(ArgAction::SetTrue),
        _ if named.is_some() => arg.value_name("NAME"),
        _ => arg.value_name("TEXT"),
    }
}

/// Returns the settings that were given as options.
fn given(matches: &ArgMatches, settings: impl Iterator<Item = Setting>) -> Vec<String> {
    // Numbers are formatted again, because TOML lacks forms such as `.5`.
    let text = |name, value: &toml::Value| match value {
        toml::Value::Integer(_) => matches.get_one::<u64>(name).map(u64::to_string),
        toml::Value::Float(_) => matches.get_one::<f64>(name).map(f64::to_string),
        toml::Value::Boolean(_) => matches.get_flag(name).then(|| "true".into()),
        _ => matches.get_one::<String>(name).cloned(),
    };
    let set = |setting: Setting| {
        Some(format!("{}={}", setting.key, text(setting.declared.option?, &setting.value)?))
    };
    settings.filter_map(set).collect()
}

macro_rules! arguments {
    ($type:ty, $settings:path) => {
        impl Args for $type {
            fn augment_args(command: Command) -> Command {
                command.args($settings().map(option))
            }

            fn augment_args_for_update(command: Command) -> Command {
                Self::augment_args(command)
            }
        }

        impl FromArgMatches for $type {
            fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
                Ok(Self { sets: given(matches, $settings()) })
            }

            fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
                *self = Self::from_arg_matches(matches)?;
                Ok(())
            }
        }
    };
}

arguments!(SettingOptions, settings);
arguments!(StepOptions, step_settings);
