//! What the repository says about itself.

use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every file with this ending below a folder.
fn files(folder: &Path, ending: &str, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder of the repository") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files(&path, ending, found);
        } else if path.extension().is_some_and(|extension| extension == ending) {
            found.push(path);
        }
    }
}

#[test]
fn the_readme_shows_the_quickstart_as_it_is() {
    let readme = read("README.md");
    let program = readme.split("```rust,no_run\n").nth(1).and_then(|rest| rest.split("```").next());
    let quickstart = read("examples/quickstart.rs");
    assert_eq!(program, Some(quickstart.as_str()), "copy examples/quickstart.rs into README.md");
    assert!(quickstart.lines().count() <= 40, "a first program fits on a screen");
}

#[test]
fn actors_name_no_http_server() {
    let mut sources = Vec::new();
    files(&root().join("actors"), "rs", &mut sources);
    assert!(sources.len() > 50, "the sources were found");
    for source in sources {
        let text = std::fs::read_to_string(&source).expect("a source file");
        assert!(!text.contains("actix_web"), "{} names actix-web", source.display());
    }
    assert!(!read("actors/Cargo.toml").contains("actix-web"));
}

#[test]
fn only_the_host_names_actixs_internals() {
    let mut sources = Vec::new();
    files(&root().join("actors/src"), "rs", &mut sources);
    for source in sources {
        // A test may play the code of a user who names them.
        let hosted = source
            .components()
            .any(|part| part.as_os_str() == "host" || part.as_os_str() == "tests");
        let text = std::fs::read_to_string(&source).expect("a source file");
        assert!(hosted || !text.contains("actix::dev"), "{} names actix::dev", source.display());
    }
}

#[test]
fn no_test_file_is_left_out() {
    let main = read("tests/it/main.rs");
    let mut sources = Vec::new();
    files(&root().join("tests/it"), "rs", &mut sources);
    let of_the_top = |path: &PathBuf| path.parent() == Some(&root().join("tests/it"));
    for source in sources.iter().filter(|path| of_the_top(path)) {
        let name = source.file_stem().expect("a name").to_string_lossy();
        let is_there = name == "main" || main.contains(&format!("mod {name};"));
        assert!(is_there, "{} is compiled by nobody", source.display());
    }
}
