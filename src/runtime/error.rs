//! Why a runtime did not start.

use std::io;

use steadfast_actors::health::HealthError;
use steadfast_actors::kernel::{Code, Fault};

use crate::config::ConfigError;

/// Why a runtime did not start. Nothing of it is left running.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// A setting is out of range: correct it.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A check or a start-up task is wrong: correct the program.
    #[error(transparent)]
    Health(#[from] HealthError),
    /// The settings came after the first actor, whose threads they describe.
    #[error("the settings must be given before the first actor")]
    SettingsTooLate,
    /// The operating system gave no thread.
    #[error("the operating system gave no thread")]
    Threads(#[source] io::Error),
}

impl Fault for StartError {
    fn code(&self) -> Code {
        match self {
            Self::Config(error) => error.code(),
            Self::Health(error) => error.code(),
            Self::SettingsTooLate => Code::new("runtime.settings_too_late"),
            Self::Threads(_) => Code::new("runtime.threads"),
        }
    }
}
