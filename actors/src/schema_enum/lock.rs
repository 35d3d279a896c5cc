//! A file in the repository that says what the migrations have made of the columns, so that a
//! test fails when an enum changed and no migration followed.

use std::fmt::Write as _;
use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::ddl::guard::Guard;
use super::ddl::{Dialect, Obstacle, Phase, Plan, Refusal, SqliteStrategy};
use super::drift::facts::{Check, CheckKind, ColumnFacts, Facts};
use super::drift::{Finding, Rows};
use super::handle::{BoundColumn, add_to};
use super::{ColumnSpec, Repr, SchemaEnumError, SchemaEnums};

/// What the file says.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Lock {
    columns: Vec<ColumnSpec>,
}

/// A value that nobody lists.
const OTHER: &str = "\u{1}other";

/// Compares the enums with the file at `path`. With `STEADFAST_UPDATE=1` or `UPDATE=1` in the
/// environment, writes the file instead.
///
/// [`assert_enums_migrated!`](crate::assert_enums_migrated) calls it.
///
/// # Errors
///
/// The whole message: what changed, the statements for both databases, and what to do.
pub fn check_lock(path: &Path, enums: &SchemaEnums) -> Result<(), String> {
    let is_set = |name: &str| std::env::var(name).is_ok_and(|value| value == "1");
    if is_set("STEADFAST_UPDATE") || is_set("UPDATE") {
        return update(path, enums);
    }
    let locked = match std::fs::read_to_string(path) {
        Ok(locked) => locked,
        Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
        Err(error) => return Err(format!("{} cannot be read: {error}", path.display())),
    };
    compare(&locked, enums).map_err(|difference| {
        format!(
            "{} does not say what the enums say.\n\n{difference}\nPut the statements for your \
             database into a migration, then run this test with STEADFAST_UPDATE=1 to record it.",
            path.display()
        )
    })
}

/// Writes the file as it should be.
pub(super) fn update(path: &Path, enums: &SchemaEnums) -> Result<(), String> {
    let failed =
        |error: &dyn std::error::Error| format!("{} cannot be written: {error}", path.display());
    let lock = Lock { columns: sorted(enums) };
    let text = serde_json::to_string_pretty(&lock).map_err(|error| failed(&error))?;
    std::fs::write(path, text + "\n").map_err(|error| failed(&error))
}

fn sorted(enums: &SchemaEnums) -> Vec<ColumnSpec> {
    let mut columns = enums.columns().to_vec();
    columns.sort_by(|one, other| (&one.table, &one.column).cmp(&(&other.table, &other.column)));
    columns
}

/// What the file says and the enums do not, with the statements that lead from one to the other.
///
/// # Errors
///
/// There is a difference.
pub(super) fn compare(locked: &str, enums: &SchemaEnums) -> Result<(), String> {
    let lock: Lock = match locked.is_empty() {
        true => Lock::default(),
        false => serde_json::from_str(locked)
            .map_err(|error| format!("it cannot be understood: {error}"))?,
    };
    let columns = sorted(enums);
    if lock.columns == columns {
        return Ok(());
    }
    let strategy = enums.strategy();
    let mut text = String::new();
    for (name, dialect) in
        [("PostgreSQL", Dialect::Postgres), ("SQLite", Dialect::Sqlite(strategy))]
    {
        let script = script(&lock.columns, &columns, dialect).map_err(|error| error.to_string())?;
        let written = write!(text, "=== {name} ===\n\n{script}");
        debug_assert!(written.is_ok(), "a String takes everything");
    }
    Err(text)
}

fn script(
    before: &[ColumnSpec],
    after: &[ColumnSpec],
    dialect: Dialect,
) -> Result<String, SchemaEnumError> {
    let mut plan = Plan::new(dialect, Duration::from_secs(1));
    let of = |columns: &[ColumnSpec], spec: &ColumnSpec| {
        let is_it = |one: &&ColumnSpec| (&one.table, &one.column) == (&spec.table, &spec.column);
        columns.iter().find(is_it).cloned()
    };
    for spec in after {
        let old = of(before, spec);
        if old.as_ref() == Some(spec) {
            continue;
        }
        let column = BoundColumn { target: spec.target()?, spec: spec.clone() };
        let kept_otherwise = old.as_ref().is_some_and(|old| !is_kept_alike(old, spec));
        if kept_otherwise {
            let (table, name) = (spec.table.clone(), spec.column.clone());
            let (phase, obstacle) = (Phase::Expand, Obstacle::OtherRepr);
            plan.add(Vec::new(), vec![Refusal { table, column: name, phase, obstacle }]);
            continue;
        }
        let facts = Facts::Column(facts(old.as_ref(), spec, dialect));
        add_to(&mut plan, &column, &Finding { facts, rows: Rows::Vouched }, dialect);
    }
    let gone = before.iter().filter(|old| of(after, old).is_none());
    let gone: String = gone
        .map(|old| {
            format!(
                "-- {old} is bound to no enum any more: drop {} when \
         no code needs it.\n\n",
                Guard::exact(old).name(old)
            )
        })
        .collect();
    let script = plan.to_string();
    Ok(if script.is_empty() && gone.is_empty() {
        "-- Nothing: only how the values are read has changed.\n\n".to_owned()
    } else {
        script + &gone
    })
}

fn is_kept_alike(one: &ColumnSpec, other: &ColumnSpec) -> bool {
    let is_number = (one.repr.is_number(), other.repr.is_number());
    let is_native = |spec: &ColumnSpec| matches!(spec.repr, Repr::Native(_));
    one.array == other.array
        && is_number.0 == is_number.1
        && (one.repr == other.repr || !(is_native(one) || is_native(other)))
}

/// The column as the migrations have left it, if they were those of the file.
fn facts(before: Option<&ColumnSpec>, spec: &ColumnSpec, dialect: Dialect) -> ColumnFacts {
    let mut facts = ColumnFacts::default();
    facts.sentinels.insert(OTHER.to_owned());
    facts.tried.extend(spec.values.iter().cloned());
    facts.tried.extend(spec.renamed.iter().map(|renamed| renamed.from.clone()));
    let is_native = dialect == Dialect::Postgres && matches!(spec.repr, Repr::Native(_));
    let Some(before) = before else {
        // The type comes with the column.
        facts.labels = is_native.then(|| spec.values.clone());
        return facts;
    };
    facts.tried.extend(before.values.iter().cloned());
    if is_native {
        facts.labels = Some(before.values.clone());
        return facts;
    }
    let is_other = |value: &&String| !before.values.contains(value);
    let is_old = dialect == Dialect::Sqlite(SqliteStrategy::Trigger);
    facts.checks.push(Check {
        name: Some(Guard::exact(before).name(before).as_str().to_owned()),
        kind: if is_old { CheckKind::Trigger } else { CheckKind::Constraint },
        validated: true,
        refused: facts.tried.union(&facts.sentinels).filter(is_other).cloned().collect(),
        refuses_null: !before.nullable,
    });
    facts
}

/// Fails when a schema-backed enum of this program changed and no migration followed: with what
/// changed, and the statements for both databases.
///
/// The path is relative to the package's folder. The first run has no file to compare with, and
/// prints the statements for all columns. Run with `STEADFAST_UPDATE=1` (or `UPDATE=1`) to write the
/// file, and check it in.
///
/// ```no_run
/// # use steadfast_actors as steadfast;
/// #[test]
/// fn enums_are_migrated() {
///     steadfast::assert_enums_migrated!("schema_enums.lock");
/// }
/// ```
#[macro_export]
macro_rules! assert_enums_migrated {
    ($path:expr $(,)?) => {
        $crate::assert_enums_migrated!($path, $crate::schema_enum::SchemaEnums::registered())
    };
    ($path:expr, $enums:expr $(,)?) => {{
        let path = ::std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join($path);
        if let Err(message) = $crate::schema_enum::check_lock(&path, &$enums) {
            panic!("{message}");
        }
    }};
}
