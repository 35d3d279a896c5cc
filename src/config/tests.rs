//! Claims about how settings are read and refused.

use std::path::PathBuf;
use std::time::Duration;

use proptest::prelude::*;
use steadfast_actors::kernel::Fault;

use super::{ConfigError, Settings, duration, expected};

const NOTHING: [(&str, &str); 0] = [];

/// A file of its own for each caller, removed when dropped.
struct TomlFile(PathBuf);

impl TomlFile {
    fn new(name: &str, text: &str) -> Self {
        let file = format!("steadfast-config-{}-{name}.toml", std::process::id());
        let path = std::env::temp_dir().join(file);
        std::fs::write(&path, text).unwrap();
        Self(path)
    }
}

impl Drop for TomlFile {
    fn drop(&mut self) {
        let _leftover = std::fs::remove_file(&self.0);
    }
}

#[track_caller]
fn from_env(name: &str, text: &str) -> Result<Settings, ConfigError> {
    Settings::loader().environment([(name, text)]).load()
}

#[test]
fn without_sources_it_is_the_defaults_and_they_are_in_range() {
    let settings = Settings::loader().environment(NOTHING).load().unwrap();
    assert_eq!(settings, Settings::default());
    let drain = &settings.drain;
    assert!(drain.plan().longest() < drain.grace_period, "the defaults fit Kubernetes");
}

#[test]
fn the_environment_wins_over_the_file_and_the_file_over_code() {
    let file = TomlFile::new("layers", "[drain]\ndelay = \"7s\"\nrequests = \"1m30s\"\n");
    let mut base = Settings::default();
    base.drain.delay = Duration::from_secs(1);
    base.drain.requests = Duration::from_secs(1);
    base.drain.actors = Duration::from_secs(1);
    let loader = Settings::loader().base(base).file(&file.0);
    let variables = [("STEADFAST_DRAIN__DELAY", "9s"), ("STEADFAST_ACTORS__THREADS", "3")];
    let settings = loader.environment(variables).load().unwrap();
    assert_eq!(settings.drain.delay, Duration::from_secs(9));
    assert_eq!(settings.drain.requests, Duration::from_secs(90));
    assert_eq!(settings.drain.actors, Duration::from_secs(1));
    assert_eq!(settings.actors.threads, 3);
}

#[track_caller]
fn refused(outcome: Result<Settings, ConfigError>, code: &str, text: &str) {
    let error = outcome.unwrap_err();
    assert_eq!((error.code().as_str(), error.to_string().as_str()), (code, text));
}

#[test]
fn an_unknown_key_is_refused_by_its_full_name() {
    let file = TomlFile::new("unknown", "[drain]\ndealy = \"7s\"\n");
    let place = file.0.display();
    refused(
        Settings::loader().environment(NOTHING).file(&file.0).load(),
        "config.unknown_key",
        &format!("there is no setting `drain.dealy` in {place}; did you mean `drain.delay`?"),
    );
    refused(
        from_env("STEADFAST_NOBODY__KNOWS", "1"),
        "config.unknown_key",
        "there is no setting `nobody` in the environment",
    );
    refused(
        from_env("STEADFAST_DRAIN__PATIENCE", "1s"),
        "config.unknown_key",
        "there is no setting `drain.patience` in the environment",
    );
}

#[test]
fn a_setting_spelt_with_one_underscore_is_refused_and_other_variables_are_not_ours() {
    refused(
        from_env("STEADFAST_DRAIN_DELAY", "1s"),
        "config.unknown_key",
        "there is no setting `STEADFAST_DRAIN_DELAY` in the environment; \
         did you mean `STEADFAST_DRAIN__DELAY`?",
    );
    for name in ["STEADFAST_LISTEN", "STEADFAST_WEBHOOK_GITHUB_SECRET", "PATH", "DRAIN__DELAY"] {
        assert_eq!(from_env(name, "x").unwrap(), Settings::default(), "{name}");
    }
    assert_eq!(from_env("STEADFAST_DRAIN__DELAY", "").unwrap(), Settings::default());
}

#[test]
fn a_wrong_type_names_the_key_what_was_found_and_what_is_expected() {
    let cases = [
        ("[drain]\ndelay = 5\n", "drain.delay", "a duration from 0ms to 5m", "5"),
        ("[drain]\ndelay = \"5\"\n", "drain.delay", "a duration from 0ms to 5m", "\"5\""),
        ("[drain]\ndelay = [1]\n", "drain.delay", "a duration from 0ms to 5m", "a list"),
        ("[drain.delay]\nms = 5\n", "drain.delay", "a duration from 0ms to 5m", "a section"),
        ("drain = \"5s\"\n", "drain", "a section of settings", "\"5s\""),
        (
            "[actors]\nthreads = \"two\"\n",
            "actors.threads",
            "a whole number from 1 to 64",
            "\"two\"",
        ),
        ("[actors]\nthreads = -1\n", "actors.threads", "a whole number from 1 to 64", "-1"),
    ];
    for (n, (text, key, expected, found)) in cases.into_iter().enumerate() {
        let file = TomlFile::new(&format!("type-{n}"), text);
        let place = file.0.display();
        let message = format!("`{key}` must be {expected}, not {found} in {place}");
        let outcome = Settings::loader().environment(NOTHING).file(&file.0).load();
        refused(outcome, "config.invalid", &message);
    }
}

#[test]
fn each_range_holds_at_its_ends_and_not_one_past_them() {
    let cases = [
        ("actors.threads", ["1", "64"], ["0", "65"]),
        ("health.wedged_after", ["100ms", "10m"], ["99ms", "10m1ms"]),
        ("drain.delay", ["0ms", "5m"], ["5m1ms", "1d"]),
        ("edge.tcp_user_timeout", ["0ms", "1h"], ["29s", "1h1ms"]),
        #[cfg(feature = "http2")]
        ("edge.http2.streams", ["1", "1000"], ["0", "1001"]),
        ("edge.head.max_bytes", ["1024", "131072"], ["1023", "131073"]),
        ("edge.connections.age", ["1m", "1d"], ["59s", "1d1ms"]),
        ("admission.limit", ["0", "1000000"], ["1000001", "2000000"]),
        ("admission.queue.interval", ["5ms", "1m"], ["4ms", "1m1ms"]),
        ("panics.percent", ["0", "100"], ["101", "255"]),
        ("panics.requests", ["1", "100000"], ["0", "100001"]),
        ("panics.window", ["1s", "1h"], ["999ms", "1h1ms"]),
        ("panics.rest", ["100ms", "1h"], ["99ms", "1h1ms"]),
        ("drain.requests", ["0ms", "1h"], ["1h1ms", "1d"]),
        ("drain.actors", ["0ms", "5m"], ["5m1ms", "1d"]),
        ("drain.grace_period", ["1s", "2h"], ["999ms", "2h1ms"]),
    ];
    for (key, inside, outside) in cases {
        let name = format!("STEADFAST_{}", key.replace('.', "__").to_uppercase());
        for text in inside {
            assert!(from_env(&name, text).is_ok(), "{key} = {text}");
        }
        for found in outside {
            let range = expected(key);
            let text = format!("`{key}` must be {range}, not {found} in the environment");
            refused(from_env(&name, found), "config.invalid", &text);
        }
    }
}

#[test]
fn every_setting_says_its_range() {
    fn check(section: &str, settings: &serde_json::Value) {
        for (setting, value) in settings.as_object().unwrap() {
            let key = format!("{section}{setting}");
            if value.is_object() {
                check(&format!("{key}."), value);
            } else {
                assert_ne!(expected(&key), "a section of settings", "{key}");
            }
        }
    }
    check("", &serde_json::to_value(Settings::default()).unwrap());
}

#[test]
fn the_limits_of_the_edge_are_read_and_refused_by_name() {
    let network = |text: &str| text.parse().unwrap();
    let text = "[edge.body]\nmin = 500\n[edge.connections]\ntrusted = \"10.0.0.0/8, ::1\"\n";
    let file = TomlFile::new("edge", text);
    let settings = Settings::loader().environment(NOTHING).file(&file.0).load().unwrap();
    assert_eq!(settings.edge.body.min, 500);
    assert_eq!(settings.edge.body.grace, Settings::default().edge.body.grace);
    assert_eq!(settings.edge.connections.trusted, ["10.0.0.0/8", "::1"].map(network));

    let text = "[admission]\nlimit = 4\ntarget_p95 = \"200ms\"\n";
    let file = TomlFile::new("admission", text);
    let outcome = Settings::loader().environment(NOTHING).file(&file.0).load();
    let range = expected("admission.limit");
    let place = file.0.display();
    let message = format!("`admission.limit` must be {range}, not 4 in {place}");
    refused(outcome, "config.invalid", &message);

    let file = TomlFile::new("network", "[edge.connections]\ntrusted = \"10.0.0.0/33\"\n");
    let error = Settings::loader().environment(NOTHING).file(&file.0).load().unwrap_err();
    let text = error.to_string();
    assert!(text.contains("edge.connections.trusted"), "{text}");
    assert!(text.contains("networks separated by commas"), "{text}");
}

#[test]
fn a_file_that_is_not_there_or_not_toml_is_named() {
    let missing = Settings::loader().environment(NOTHING).file("/nowhere/steadfast.toml").load();
    let error = missing.unwrap_err();
    assert_eq!(error.code().as_str(), "config.unreadable");
    assert!(error.to_string().contains("/nowhere/steadfast.toml"), "{error}");
    let file = TomlFile::new("syntax", "[drain\n");
    let error = Settings::loader().environment(NOTHING).file(&file.0).load().unwrap_err();
    assert_eq!(error.code().as_str(), "config.unreadable");
}

#[test]
fn durations_are_whole_numbers_with_units() {
    let read = |text| duration::parse(text).map(|duration| duration.as_millis());
    assert_eq!(read("250ms"), Some(250));
    assert_eq!(read("1m30s"), Some(90_000));
    assert_eq!(read(" 2h "), Some(7_200_000));
    for wrong in ["", " ", "5", "s", "1.5s", "-1s", "5 s", "5y", "5S", "1s1", "99999999999999999d"]
    {
        assert_eq!(read(wrong), None, "`{wrong}`");
    }
}

proptest! {
    #[test]
    fn a_duration_is_read_back_as_it_was_shown(millis in 0_u64..10_000_000_000) {
        let given = Duration::from_millis(millis);
        prop_assert_eq!(duration::parse(&duration::show(given)), Some(given));
    }
}
