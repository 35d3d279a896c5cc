//! What a counter counts, as its service declares it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::error::{CounterError, SpecFault};
use super::filter::{self, Filter};
use crate::store::{Identifier, QualifiedName};

/// LIMIT: letters of a counter's name: the names of its triggers must fit an identifier.
const NAME_MAX: usize = 40;
/// LIMIT: levels between a child and its parent.
const HOPS_MAX: usize = 4;
/// LIMIT: columns of a key.
const KEY_MAX: usize = 4;

/// A counter: a column of a parent that says something of the parent's children.
///
/// Tables and columns are named as the database has them, case and all; they need no quotes.
///
/// # Examples
///
/// ```
/// use steadfast_actors::counters::{Agg, CounterSpec, Maintain};
///
/// // products.orders_count is how many orders that are not deleted a product has.
/// let orders = CounterSpec::new("product_orders")
///     .parent("products", "id")
///     .column("orders_count")
///     .child("orders", "product_id")
///     .filter("deleted_at is null");
///
/// // accounts.balance_cents is the sum of its entries; triggers keep it.
/// let balance = CounterSpec::new("account_balance")
///     .parent("accounts", "id")
///     .column("balance_cents")
///     .child("entries", "account_id")
///     .agg(Agg::Sum("cents".into()))
///     .maintain(Maintain::Trigger);
/// ```
#[derive(Debug, Clone)]
#[must_use = "a counter is repaired by the `Counters` it is given to"]
pub struct CounterSpec {
    pub(super) name: Arc<str>,
    pub(super) parent: String,
    pub(super) key: Names,
    pub(super) column: String,
    pub(super) child: String,
    pub(super) foreign_key: Names,
    pub(super) filter: Option<String>,
    pub(super) agg: Agg,
    pub(super) through: Vec<Hop>,
    pub(super) touch: Option<String>,
    pub(super) maintain: Maintain,
    pub(super) strategy: Strategy,
}

/// What is made of a parent's children.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Agg {
    /// How many there are.
    Count,
    /// The sum of a column of whole or exact numbers; nulls count as 0. A sum of floating-point
    /// numbers depends on their order, so it has no drift that could be repaired: it is refused.
    Sum(String),
    /// The largest value of a column; null where there is no child.
    Max(String),
    /// The smallest value of a column; null where there is no child.
    Min(String),
}

impl Agg {
    /// Whether there is a difference between what is and what should be that can be added.
    pub(super) const fn is_additive(&self) -> bool {
        matches!(self, Self::Count | Self::Sum(_))
    }

    pub(super) fn column(&self) -> Option<&str> {
        match self {
            Self::Count => None,
            Self::Sum(column) | Self::Max(column) | Self::Min(column) => Some(column),
        }
    }
}

/// One level between a parent and the children that are counted.
#[derive(Debug, Clone)]
pub struct Hop {
    pub(super) table: String,
    pub(super) key: Names,
    pub(super) foreign_key: Names,
    pub(super) filter: Option<String>,
}

impl Hop {
    /// A level: its table, the key that the level below refers to, and the foreign key that
    /// refers to the level above.
    pub fn new(table: &str, key: impl Into<Names>, foreign_key: impl Into<Names>) -> Self {
        let (key, foreign_key) = (key.into(), foreign_key.into());
        Self { table: table.into(), key, foreign_key, filter: None }
    }

    /// Which of its rows count, as [`CounterSpec::filter`] says it of children.
    #[must_use]
    pub fn filter(mut self, filter: &str) -> Self {
        self.filter = Some(filter.into());
        self
    }
}

/// The columns of a key: mostly one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names(pub(super) Vec<String>);

impl From<&str> for Names {
    fn from(name: &str) -> Self {
        Self(vec![name.to_owned()])
    }
}

impl<const N: usize> From<[&str; N]> for Names {
    fn from(names: [&str; N]) -> Self {
        Self(names.map(str::to_owned).to_vec())
    }
}

/// Who keeps a counter true while rows come and go.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Maintain {
    /// The service's own statements. What repair relies on then is in [the
    /// documentation](super#what-repair-relies-on); reports name these counters.
    #[default]
    App,
    /// Triggers that [`Counters::plan`](super::Counters::plan) shows and
    /// [`Counters::apply`](super::Counters::apply) makes. Each statement that changes children
    /// updates their parents in its own transaction.
    Trigger,
    /// Triggers that write down how much is to be added, and a flusher that adds it within
    /// [`flush_every`](super::CountersBuilder::flush_every): for parents that many transactions
    /// change at once, which then do not wait for each other.
    Deferred,
}

impl Maintain {
    /// The name in reports.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::App => "app",
            Self::Trigger => "trigger",
            Self::Deferred => "deferred",
        }
    }
}

/// How a wrong counter is put right while others write. On SQLite, where only one writes at a
/// time, both are the same.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Strategy {
    /// [`Delta`](Self::Delta) for counts and sums, [`Recount`](Self::Recount) for the rest.
    #[default]
    Auto,
    /// Adds the difference. Locks only what is wrong, and only while it is written.
    Delta,
    /// Locks what looks wrong, and counts again. For services that may set counters to a value
    /// instead of adding to them: whoever reads, waits for the lock and then writes what was read
    /// still writes something wrong, but repair adds nothing to it.
    Recount,
}

/// Whether wrong counters are put right or only told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(clippy::exhaustive_enums, reason = "the tables have exactly these two")]
pub enum Mode {
    /// Tells of them, and writes nothing to the parents.
    Report,
    /// Puts them right.
    Repair,
}

impl Mode {
    /// The name in the tables and in JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Report => "report",
            Self::Repair => "repair",
        }
    }

    pub(super) fn parse(name: &str) -> Option<Self> {
        [Self::Report, Self::Repair].into_iter().find(|mode| mode.as_str() == name)
    }
}

impl CounterSpec {
    /// A counter: its name, 1 to 40 lower-case letters, digits and `_`, no digit first. Reports,
    /// triggers and jobs know it by that name, so it should not change.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            parent: String::new(),
            key: Names(Vec::new()),
            column: String::new(),
            child: String::new(),
            foreign_key: Names(Vec::new()),
            filter: None,
            agg: Agg::Count,
            through: Vec::new(),
            touch: None,
            maintain: Maintain::App,
            strategy: Strategy::Auto,
        }
    }

    /// The table that has the counter, `table` or `schema.table`, and its key: up to 4 columns of
    /// whole numbers, texts, uuids or bytes that are its primary key or have a unique index.
    pub fn parent(mut self, table: &str, key: impl Into<Names>) -> Self {
        (self.parent, self.key) = (table.into(), key.into());
        self
    }

    /// The counter's column in the parent.
    pub fn column(mut self, column: &str) -> Self {
        self.column = column.into();
        self
    }

    /// The table whose rows are counted, and its foreign key, in the order of the key it refers
    /// to. An index must begin with the foreign key: without one, each batch would read the whole
    /// table.
    pub fn child(mut self, table: &str, foreign_key: impl Into<Names>) -> Self {
        (self.child, self.foreign_key) = (table.into(), foreign_key.into());
        self
    }

    /// Which children count, in SQL over the columns of the child alone: a soft delete is
    /// `deleted_at is null`. Up to 1,000 bytes.
    ///
    /// It is **put into statements as it stands**: write it in the program, and never make it of
    /// anything that comes from outside. What cannot be a single condition is refused: `;`,
    /// comments, parameters, backslashes and parentheses or quotes that do not pair.
    pub fn filter(mut self, filter: &str) -> Self {
        self.filter = Some(filter.into());
        self
    }

    /// What is made of the children. Default [`Agg::Count`].
    pub fn agg(mut self, agg: Agg) -> Self {
        self.agg = agg;
        self
    }

    /// The levels between parent and child, the parent's first; up to 4.
    pub fn through(mut self, hops: impl IntoIterator<Item = Hop>) -> Self {
        self.through = hops.into_iter().collect();
        self
    }

    /// A column of the parent that is set to the time whenever repair, triggers or the flusher
    /// change the counter.
    pub fn touch(mut self, column: &str) -> Self {
        self.touch = Some(column.into());
        self
    }

    /// Who keeps the counter true. Default [`Maintain::App`].
    pub const fn maintain(mut self, maintain: Maintain) -> Self {
        self.maintain = maintain;
        self
    }

    /// How it is put right. Default [`Strategy::Auto`].
    pub const fn strategy(mut self, strategy: Strategy) -> Self {
        self.strategy = strategy;
        self
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Whether it is put right by adding the difference.
    pub(super) fn adds(&self) -> bool {
        self.agg.is_additive() && self.strategy != Strategy::Recount
    }

    /// What can be said without asking the database.
    pub(super) fn parse(&self) -> Result<Parsed, CounterError> {
        self.check_name()?;
        let fault = |fault| self.fault(fault);
        let table = |name: &str| {
            let parsed = QualifiedName::parse(name);
            parsed.map_err(|_invalid| fault(SpecFault::NotAName(name.into())))
        };
        let columns = |names: &Names| {
            if !(1..=KEY_MAX).contains(&names.0.len()) {
                return Err(fault(SpecFault::Key));
            }
            names.0.iter().map(|name| self.identifier(name)).collect::<Result<Vec<_>, _>>()
        };
        let parsed = Parsed {
            parent: table(&self.parent)?,
            key: columns(&self.key)?,
            column: self.identifier(&self.column)?,
            touch: self.touch.as_deref().map(|name| self.identifier(name)).transpose()?,
            of: self.agg.column().map(|name| self.identifier(name)).transpose()?,
            levels: self
                .levels()
                .map(|(name, key, foreign_key, filter)| {
                    Ok(ParsedLevel {
                        table: table(name)?,
                        key: key.map(columns).transpose()?,
                        foreign_key: columns(foreign_key)?,
                        filter: filter.map(|text| self.read_filter(text)).transpose()?,
                    })
                })
                .collect::<Result<_, CounterError>>()?,
        };
        self.check_shape(&parsed)?;
        Ok(parsed)
    }

    /// The levels below the parent, the child last.
    fn levels(&self) -> impl Iterator<Item = (&str, Option<&Names>, &Names, Option<&str>)> {
        let hops = self.through.iter().map(|hop| {
            let Hop { table, key, foreign_key, filter } = hop;
            (table.as_str(), Some(key), foreign_key, filter.as_deref())
        });
        let child = (&*self.child, None, &self.foreign_key, self.filter.as_deref());
        hops.chain(std::iter::once(child))
    }

    fn check_name(&self) -> Result<(), CounterError> {
        let is_letter = |byte: u8| byte.is_ascii_lowercase() || byte == b'_';
        let fits = (1..=NAME_MAX).contains(&self.name.len())
            && self.name.bytes().all(|byte| is_letter(byte) || byte.is_ascii_digit())
            && self.name.bytes().next().is_some_and(is_letter);
        if fits { Ok(()) } else { Err(self.fault(SpecFault::Name)) }
    }

    fn check_shape(&self, parsed: &Parsed) -> Result<(), CounterError> {
        let mut above = &parsed.key;
        for level in &parsed.levels {
            if level.foreign_key.len() != above.len() {
                return Err(self.fault(SpecFault::Key));
            }
            above = level.key.as_ref().unwrap_or(above);
        }
        if self.through.len() > HOPS_MAX {
            return Err(self.fault(SpecFault::Levels));
        }
        if !self.agg.is_additive() && self.strategy == Strategy::Delta {
            return Err(self.fault(SpecFault::NoDelta));
        }
        match self.maintain {
            Maintain::App => Ok(()),
            Maintain::Trigger | Maintain::Deferred
                if !self.agg.is_additive() || !self.through.is_empty() =>
            {
                Err(self.fault(SpecFault::NotGenerated))
            }
            Maintain::Deferred if parsed.key.len() > 1 => Err(self.fault(SpecFault::NotDeferred)),
            Maintain::Trigger | Maintain::Deferred => Ok(()),
        }
    }

    fn identifier(&self, name: &str) -> Result<Identifier, CounterError> {
        Identifier::new(name).map_err(|_invalid| self.fault(SpecFault::NotAName(name.into())))
    }

    fn read_filter(&self, text: &str) -> Result<Filter, CounterError> {
        filter::parse(text).map_err(|why| self.fault(SpecFault::Filter(why)))
    }

    pub(super) fn fault(&self, fault: SpecFault) -> CounterError {
        CounterError::InvalidSpec { counter: Arc::clone(&self.name), fault }
    }
}

/// A declaration whose names and texts can be put into statements.
#[derive(Debug, Clone)]
pub(super) struct Parsed {
    pub(super) parent: QualifiedName,
    pub(super) key: Vec<Identifier>,
    pub(super) column: Identifier,
    pub(super) touch: Option<Identifier>,
    /// The column of the child that is added up or compared.
    pub(super) of: Option<Identifier>,
    /// Below the parent, the child last.
    pub(super) levels: Vec<ParsedLevel>,
}

/// A table below the parent.
#[derive(Debug, Clone)]
pub(super) struct ParsedLevel {
    pub(super) table: QualifiedName,
    /// What the level below refers to; the child has none.
    pub(super) key: Option<Vec<Identifier>>,
    /// What refers to the level above.
    pub(super) foreign_key: Vec<Identifier>,
    pub(super) filter: Option<Filter>,
}
