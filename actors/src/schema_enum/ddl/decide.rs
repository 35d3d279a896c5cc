//! What is to be done about a column. Pure.
//!
//! | found | expand | backfill | contract |
//! |---|---|---|---|
//! | nothing enforced | allow the code's values, and the aliases that rows have | aliases | the code's values alone |
//! | a value is missing | allow it beside all that is allowed now | | |
//! | an alias is allowed | | give its rows the new label | refuse it |
//! | more is allowed | | | refuse it, unless rows have it |
//! | not validated | validate | | |
//!
//! A phase that would fail for rows that are there, or for something this library may not change,
//! is refused as a whole.

use super::guard::Guard;
use super::{Dialect, Obstacle, Phase, SqliteStrategy};
use crate::schema_enum::drift::facts::{Check, CheckKind, ColumnFacts, Facts};
use crate::schema_enum::drift::{Rows, Sample, more};
use crate::schema_enum::{ColumnSpec, Renamed, Repr};

/// What is to be done.
#[derive(Debug, Clone, Default)]
pub(in crate::schema_enum) struct Decision {
    pub(super) expand: Option<Change>,
    /// Constraints whose rows are still to be checked.
    pub(super) validate: Vec<String>,
    pub(super) backfill: Vec<Renamed>,
    pub(super) contract: Option<Change>,
    pub(in crate::schema_enum) obstacles: Vec<(Phase, Obstacle)>,
}

/// A change of what the database allows.
#[derive(Debug, Clone)]
pub(super) enum Change {
    /// A constraint in the place of others.
    Swap { add: Guard, drop: Vec<Existing> },
    /// The type is made, with the values of the code.
    CreateType,
    /// Values are added to the type, each before the one that follows it in the code.
    AddValues(Vec<(String, Option<String>)>),
    /// The type is replaced by one with the values of the code.
    ReplaceType { default: Option<String> },
}

/// A constraint that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Existing {
    pub(super) name: String,
    pub(super) kind: CheckKind,
}

/// Decides, given what was found, and the rows with values that the code does not write.
pub(in crate::schema_enum) fn decide(
    spec: &ColumnSpec,
    facts: &Facts,
    rows: &Rows,
    dialect: Dialect,
) -> Decision {
    let mut decision = Decision::default();
    match facts {
        Facts::MissingTable => decision.refuse(Phase::Expand, Obstacle::MissingTable),
        Facts::MissingColumn => decision.refuse(Phase::Expand, Obstacle::MissingColumn),
        Facts::Column(facts) => Judge { spec, facts, rows, dialect }.decide(&mut decision),
    }
    decision
}

impl Decision {
    fn refuse(&mut self, phase: Phase, obstacle: Obstacle) {
        self.obstacles.push((phase, obstacle));
    }
}

struct Judge<'a> {
    spec: &'a ColumnSpec,
    facts: &'a ColumnFacts,
    rows: &'a Rows,
    dialect: Dialect,
}

impl Judge<'_> {
    fn decide(&self, decision: &mut Decision) {
        let is_native = matches!(self.spec.repr, Repr::Native(_));
        if is_native && self.facts.labels.is_none() && self.facts.wrong_type.is_some() {
            decision.expand = Some(Change::CreateType);
        }
        if let Some(found) = self.facts.wrong_type.clone() {
            return decision.refuse(Phase::Expand, Obstacle::TypeMismatch { found });
        }
        match self.facts.labels.is_some() {
            true => self.change_type(decision),
            false => self.change_constraint(decision),
        }
    }

    fn change_constraint(&self, decision: &mut Decision) {
        let Self { spec, facts, .. } = *self;
        let missing = self.missing();
        let null_missing = spec.nullable && !facts.allows_null();
        let dropped = self.dropped(&missing, decision);
        let exact = Guard::exact(spec);
        let ours = facts.checks.iter().filter(|check| check.is_ours() && self.can_drop(check));
        let mut standing: Vec<_> = ours.filter_map(existing).collect();
        let mut allowed = more(spec, facts);
        let mut allows_null = facts.allows_null();
        if !facts.is_enforced() {
            allowed = self.held_aliases();
            allows_null = spec.nullable;
            let add = exact.clone().with(allowed.iter().cloned(), false);
            self.refuse_rows(Phase::Expand, self.held(|sample| !add.fits(sample)), decision);
            decision.expand = Some(Change::Swap { add: add.clone(), drop: dropped });
            standing = vec![self.added(&add)];
        } else if !missing.is_empty() || null_missing {
            allows_null |= spec.nullable;
            let add = exact.clone().with(allowed.iter().cloned(), allows_null);
            if facts.unvalidated().next().is_some() {
                self.refuse_rows(Phase::Expand, self.held(|sample| !add.fits(sample)), decision);
            }
            decision.expand = Some(Change::Swap { add: add.clone(), drop: dropped });
            standing = vec![self.added(&add)];
        } else {
            self.validate(decision);
        }
        self.backfill(&allowed, decision);
        let narrows = !allowed.is_empty() || (allows_null && !spec.nullable);
        if narrows && !spec.open {
            self.refuse_contract(&allowed, decision);
            decision.contract = Some(Change::Swap { add: exact, drop: standing });
        }
    }

    fn change_type(&self, decision: &mut Decision) {
        let Self { spec, facts, .. } = *self;
        let labels = facts.labels.as_deref().unwrap_or_default();
        let is_label = |value: &str| labels.iter().any(|label| label == value);
        for check in &facts.checks {
            let is_needed = |value: &&String| is_label(value) && check.refused.contains(*value);
            let values: Vec<_> = spec.values.iter().filter(is_needed).cloned().collect();
            if !values.is_empty() {
                let what = check.shown();
                let remedy = "change it: a column of an enum type needs no other check";
                decision.refuse(Phase::Expand, Obstacle::RefusedBy { what, values, remedy });
            }
        }
        let missing = spec.values.iter().enumerate().filter(|(_, value)| !is_label(value));
        let added: Vec<_> = missing
            .map(|(at, value)| {
                let following = spec.values.iter().skip(at + 1).find(|next| is_label(next));
                (value.clone(), following.cloned())
            })
            .collect();
        if !added.is_empty() {
            decision.expand = Some(Change::AddValues(added));
        }
        let extra = more(spec, facts);
        self.backfill(&extra, decision);
        if !extra.is_empty() && !spec.open {
            self.refuse_contract(&extra, decision);
            decision.contract = Some(Change::ReplaceType { default: facts.default.clone() });
        }
    }

    /// What the code writes and the database refuses.
    fn missing(&self) -> Vec<String> {
        self.spec.values.iter().filter(|value| !self.facts.allows(value)).cloned().collect()
    }

    /// What the new constraint replaces: ours, and lists of others that refuse what is needed.
    fn dropped(&self, missing: &[String], decision: &mut Decision) -> Vec<Existing> {
        let null_missing = self.spec.nullable && !self.facts.allows_null();
        let mut dropped = Vec::new();
        for check in &self.facts.checks {
            let values: Vec<_> =
                missing.iter().filter(|value| check.refused.contains(*value)).cloned().collect();
            let blocks = !values.is_empty() || (null_missing && check.refuses_null);
            let goes_anyway = check.is_ours() && self.can_drop(check);
            if !blocks && !goes_anyway {
                continue;
            }
            match (existing(check), self.obstacle(check)) {
                (Some(existing), None) => dropped.push(existing),
                (_, remedy) => {
                    let remedy = remedy.unwrap_or(NO_NAME);
                    let what = check.shown();
                    decision.refuse(Phase::Expand, Obstacle::RefusedBy { what, values, remedy });
                }
            }
        }
        if null_missing && self.facts.not_null {
            let (what, values) = ("the column's NOT NULL".to_owned(), vec!["NULL".to_owned()]);
            let remedy = "drop it, or the enum's `nullable`";
            decision.refuse(Phase::Expand, Obstacle::RefusedBy { what, values, remedy });
        }
        dropped
    }

    fn can_drop(&self, check: &Check) -> bool {
        let is_old = self.dialect == Dialect::Sqlite(SqliteStrategy::Trigger);
        !(is_old && check.kind == CheckKind::Constraint)
    }

    /// Why a check cannot be dropped by us.
    fn obstacle(&self, check: &Check) -> Option<&'static str> {
        match check.kind {
            CheckKind::Domain => Some("change the domain: other columns may depend on it"),
            CheckKind::Length => Some("make the column wider"),
            CheckKind::Trigger => None,
            CheckKind::Constraint if !self.can_drop(check) => {
                Some("only SQLite 3.53 or newer can drop it: use that, or rebuild the table")
            }
            CheckKind::Constraint if check.is_ours() || self.facts.is_list(check) => None,
            CheckKind::Constraint => {
                Some("it is no list of values, so it is left to you: drop it, or change the enum")
            }
        }
    }

    fn validate(&self, decision: &mut Decision) {
        let open = self.facts.unvalidated();
        decision.validate = open.filter_map(|check| check.name.clone()).collect();
        if !decision.validate.is_empty() {
            let fits = |value: &str| self.facts.tried.contains(value) && self.facts.allows(value);
            let allows_null = self.facts.allows_null();
            let bad = self.held(|sample| !sample.value.as_deref().map_or(allows_null, fits));
            self.refuse_rows(Phase::Expand, bad, decision);
        }
    }

    fn backfill(&self, allowed: &[String], decision: &mut Decision) {
        let is_there = |renamed: &&Renamed| allowed.contains(&renamed.from);
        decision.backfill = self.spec.renamed.iter().filter(is_there).cloned().collect();
    }

    /// What keeps the column from being held to the code's values alone.
    fn refuse_contract(&self, allowed: &[String], decision: &mut Decision) {
        let goes = |sample: &Sample| {
            sample.value.as_ref().map_or(!self.spec.nullable, |value| allowed.contains(value))
        };
        let bad = self.held(|sample| goes(sample) && !is_alias(self.spec, sample));
        self.refuse_rows(Phase::Contract, bad, decision);
        let old = self.held(|sample| goes(sample) && is_alias(self.spec, sample));
        if let Some(old) = old.filter(|old| !old.is_empty()) {
            decision.refuse(Phase::Contract, Obstacle::NotBackfilled(old));
        }
    }

    fn refuse_rows(&self, phase: Phase, bad: Option<Vec<Sample>>, decision: &mut Decision) {
        match bad {
            None => decision.refuse(phase, Obstacle::NotCounted),
            Some(bad) if !bad.is_empty() => decision.refuse(phase, Obstacle::RowsHold(bad)),
            Some(_) => {}
        }
    }

    /// The rows with such a value; `None` if nobody knows.
    fn held(&self, is_such: impl Fn(&Sample) -> bool) -> Option<Vec<Sample>> {
        match self.rows {
            Rows::Vouched => Some(Vec::new()),
            Rows::NotCounted => None,
            Rows::Counted(samples) => {
                Some(samples.iter().filter(|sample| is_such(sample)).cloned().collect())
            }
        }
    }

    fn held_aliases(&self) -> Vec<String> {
        let held = self.held(|sample| is_alias(self.spec, sample)).unwrap_or_default();
        held.into_iter().filter_map(|sample| sample.value).collect()
    }

    fn added(&self, guard: &Guard) -> Existing {
        let is_old = self.dialect == Dialect::Sqlite(SqliteStrategy::Trigger);
        let kind = if is_old { CheckKind::Trigger } else { CheckKind::Constraint };
        Existing { name: guard.name(self.spec).as_str().to_owned(), kind }
    }
}

const NO_NAME: &str = "it has no name to drop it by: give the table a named one, which takes a \
                       rebuild of the table, or write the list of values in the enum";

fn existing(check: &Check) -> Option<Existing> {
    check.name.clone().map(|name| Existing { name, kind: check.kind })
}

fn is_alias(spec: &ColumnSpec, sample: &Sample) -> bool {
    sample.value.as_deref().is_some_and(|value| spec.becomes(value).is_some())
}
