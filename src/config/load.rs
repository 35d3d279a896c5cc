//! Laying the sources over one another, and saying exactly what is wrong with them.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use config::{Config, Environment, File, FileFormat, Map, Source, Value, ValueKind};

use super::{ConfigError, Settings, expected};

const PREFIX: &str = "STEADFAST_";

/// Collects settings: code, then a file, then the environment. The later wins, key by key.
#[derive(Debug, Clone)]
#[must_use = "nothing is read until `load`"]
pub struct SettingsLoader {
    base: Settings,
    file: Option<PathBuf>,
    environment: Vec<(OsString, OsString)>,
}

impl SettingsLoader {
    /// The defaults, no file, the environment of this process.
    pub(super) fn new() -> Self {
        let base = Settings::default();
        Self { base, file: None, environment: std::env::vars_os().collect() }
    }

    /// Starts from these settings instead of the defaults.
    pub fn base(mut self, base: Settings) -> Self {
        self.base = base;
        self
    }

    /// Lays this TOML file over the settings so far. It must exist.
    pub fn file(mut self, path: impl AsRef<Path>) -> Self {
        self.file = Some(path.as_ref().to_owned());
        self
    }

    /// Takes these variables for the environment; an empty list ignores the real one.
    pub fn environment<Name: Into<OsString>, Text: Into<OsString>>(
        mut self,
        variables: impl IntoIterator<Item = (Name, Text)>,
    ) -> Self {
        let pairs = variables.into_iter().map(|(name, text)| (name.into(), text.into()));
        self.environment = pairs.collect();
        self
    }

    /// Reads everything.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] names the first key that is unknown, of the wrong type or out of range,
    /// and where it was found.
    pub fn load(self) -> Result<Settings, ConfigError> {
        let known = tree(&self.base)?;
        let mut sources = Config::builder().add_source(Layer(known.clone()));
        if let Some(path) = &self.file {
            let table = read(path)?;
            refuse_unknown(&known, &table, "", &path.display().to_string())?;
            sources = sources.add_source(Layer(table));
        }
        let table = variables(&known, self.environment)?;
        refuse_unknown(&known, &table, "", ENVIRONMENT)?;
        sources = sources.add_source(Layer(table));
        let merged = sources.build().map_err(|error| broken(&error))?;
        let settings = merged
            .clone()
            .try_deserialize::<Settings>()
            .map_err(|error| locate(&merged, &error))?;
        settings.check().map_err(|error| with_origin(&merged, error))?;
        Ok(settings)
    }
}

const ENVIRONMENT: &str = "the environment";

/// One source, already read.
#[derive(Debug, Clone)]
struct Layer(Map<String, Value>);

impl Source for Layer {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, config::ConfigError> {
        Ok(self.0.clone())
    }
}

fn tree(settings: &Settings) -> Result<Map<String, Value>, ConfigError> {
    let tree = Config::try_from(settings).and_then(|config| config.collect());
    tree.map_err(|error| broken(&error))
}

fn read(path: &Path) -> Result<Map<String, Value>, ConfigError> {
    let unreadable = |reason: String| ConfigError::Unreadable { path: path.to_owned(), reason };
    let text = std::fs::read_to_string(path).map_err(|error| unreadable(error.to_string()))?;
    let file = File::from_str(&text, FileFormat::Toml);
    let mut table = file.collect().map_err(|error| unreadable(error.to_string()))?;
    let origin = path.display().to_string();
    table.values_mut().for_each(|value| stamp(value, &origin));
    Ok(table)
}

/// A value read from text does not know its file: say it, for error messages.
fn stamp(value: &mut Value, origin: &String) {
    if let ValueKind::Table(table) = &mut value.kind {
        table.values_mut().for_each(|value| stamp(value, origin));
    }
    *value = Value::new(Some(origin), std::mem::replace(&mut value.kind, ValueKind::Nil));
}

/// The variables that are settings, as a tree. Empty ones count as not set.
fn variables(
    known: &Map<String, Value>,
    environment: Vec<(OsString, OsString)>,
) -> Result<Map<String, Value>, ConfigError> {
    let mut ours = BTreeMap::new();
    for (name, text) in environment {
        let Some(name) = name.to_str().and_then(|name| name.strip_prefix(PREFIX)) else { continue };
        if text.is_empty() {
            continue;
        }
        if !name.contains("__") {
            refuse_misspelt(known, name)?;
            continue;
        }
        let key = name.to_lowercase().replace("__", ".");
        let text = text.into_string().map_err(|text| {
            invalid(key, text.to_string_lossy().into_owned(), Some(ENVIRONMENT.to_owned()))
        })?;
        ours.insert(format!("{PREFIX}{name}"), text);
    }
    let source = Environment::with_prefix("STEADFAST").prefix_separator("_").separator("__");
    let layer = Config::builder().add_source(source.source(Some(ours.into_iter().collect())));
    layer.build().and_then(|layer| layer.collect()).map_err(|error| broken(&error))
}

/// `STEADFAST_DRAIN_DELAY` is meant as a setting and would be ignored in silence.
fn refuse_misspelt(known: &Map<String, Value>, name: &str) -> Result<(), ConfigError> {
    for (section, table) in known {
        let ValueKind::Table(table) = &table.kind else { continue };
        for setting in table.keys() {
            if format!("{section}_{setting}").eq_ignore_ascii_case(name) {
                let meant = format!("{PREFIX}{section}__{setting}").to_uppercase();
                return Err(ConfigError::UnknownKey {
                    key: format!("{PREFIX}{name}"),
                    origin: Some(ENVIRONMENT.to_owned()),
                    suggestion: Some(meant),
                });
            }
        }
    }
    Ok(())
}

fn refuse_unknown(
    known: &Map<String, Value>,
    given: &Map<String, Value>,
    section: &str,
    origin: &str,
) -> Result<(), ConfigError> {
    for (name, value) in given {
        let key = format!("{section}{name}");
        let Some(setting) = known.get(name) else {
            let near = known.keys().find(|known| is_near(known, name));
            let suggestion = near.map(|near| format!("{section}{near}"));
            let origin = Some(origin.to_owned());
            return Err(ConfigError::UnknownKey { key, origin, suggestion });
        };
        if let ValueKind::Table(given) = &value.kind {
            let ValueKind::Table(known) = &setting.kind else {
                return Err(invalid(key, found(Some(value)), Some(origin.to_owned())));
            };
            refuse_unknown(known, given, &format!("{key}."), origin)?;
        }
    }
    Ok(())
}

fn invalid(key: String, found: String, origin: Option<String>) -> ConfigError {
    ConfigError::Invalid { expected: expected(&key), key, found, origin }
}

/// Whether one is probably the other misspelt: the same letters but for two.
fn is_near(known: &str, given: &str) -> bool {
    let missing = |from: &str, of: &str| from.chars().filter(|&c| !of.contains(c)).count();
    let lengths = known.len().abs_diff(given.len());
    lengths <= 2 && missing(known, given) + missing(given, known) <= 2
}

/// Turns what serde says about the merged tree into what is wrong with which key.
fn locate(merged: &Config, error: &config::ConfigError) -> ConfigError {
    if let config::ConfigError::Type { key: Some(key), .. }
    | config::ConfigError::At { key: Some(key), .. }
    | config::ConfigError::NotFound(key) = error
    {
        let value = lookup(merged, key);
        return with_origin(merged, invalid(key.clone(), found(value), None));
    }
    broken(error)
}

/// The value under a full key, with the place it came from.
fn lookup<'a>(merged: &'a Config, key: &str) -> Option<&'a Value> {
    key.split('.').try_fold(&merged.cache, |value, name| {
        let ValueKind::Table(table) = &value.kind else { return None };
        table.get(name)
    })
}

fn found(value: Option<&Value>) -> String {
    let Some(kind) = value.map(|value| &value.kind) else { return "nothing".to_owned() };
    if let ValueKind::String(text) = kind {
        format!("\"{text}\"")
    } else if matches!(kind, ValueKind::Table(_)) {
        "a section".to_owned()
    } else if matches!(kind, ValueKind::Array(_)) {
        "a list".to_owned()
    } else {
        kind.to_string()
    }
}

fn with_origin(merged: &Config, mut error: ConfigError) -> ConfigError {
    if let ConfigError::Invalid { key, origin, .. } = &mut error {
        *origin = lookup(merged, key).and_then(Value::origin).map(str::to_owned);
    }
    error
}

/// Our own tree cannot be written or read: no key to blame, but nothing is hidden either.
fn broken(error: &config::ConfigError) -> ConfigError {
    ConfigError::Unreadable { path: PathBuf::from("settings"), reason: error.to_string() }
}
