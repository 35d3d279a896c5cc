//! What can be wrong with settings.

use std::path::PathBuf;

use steadfast_actors::kernel::{Code, Fault};

/// Why settings were refused. Each names the key to correct; none is worth trying again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// No setting has this name.
    #[error("there is no setting `{key}`{}{}", place(origin.as_ref()), hint(suggestion.as_ref()))]
    UnknownKey {
        /// Its full name, sections included.
        key: String,
        /// The file, or the environment.
        origin: Option<String>,
        /// The setting that was probably meant.
        suggestion: Option<String>,
    },

    /// A value has the wrong type or is out of range.
    #[error("`{key}` must be {expected}, not {found}{}", place(origin.as_ref()))]
    Invalid {
        /// The full name of the setting.
        key: String,
        /// The type and range of the setting, in words.
        expected: &'static str,
        /// What was given.
        found: String,
        /// The file, or the environment; `None` for a value set in code.
        origin: Option<String>,
    },

    /// The file cannot be read, or is not TOML.
    #[error("the settings file `{}` cannot be read: {reason}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the operating system or the parser said.
        reason: String,
    },
}

fn place(origin: Option<&String>) -> String {
    origin.map_or_else(String::new, |origin| format!(" in {origin}"))
}

fn hint(suggestion: Option<&String>) -> String {
    suggestion.map_or_else(String::new, |meant| format!("; did you mean `{meant}`?"))
}

impl Fault for ConfigError {
    fn code(&self) -> Code {
        match self {
            Self::UnknownKey { .. } => Code::new("config.unknown_key"),
            Self::Invalid { .. } => Code::new("config.invalid"),
            Self::Unreadable { .. } => Code::new("config.unreadable"),
        }
    }
}
