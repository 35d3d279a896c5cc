//! The handle: asks, plans, changes.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::ddl::decide::decide;
use super::ddl::guard::Guard;
use super::ddl::{self, Dialect, Impact, Obstacle, Phase, Plan, Refusal, SqliteStrategy, Step};
use super::drift::{self, DriftReport, Finding, Severity};
use super::spec::Target;
use super::{ColumnSpec, EnumSpec, SchemaEnum, SchemaEnumError, apply, registered};
use crate::health::{CheckCx, CheckError, CheckSpec, Detail};
use crate::store::Store;

/// How often readiness asks the database.
const CHECK_EVERY: Duration = Duration::from_secs(60);

/// LIMIT: how long readiness may count the rows of a column each time. Counting is a scan.
const COUNT_WITHIN: Duration = Duration::from_secs(1);

/// What is asked and done, and how.
#[derive(Debug, Clone, Copy)]
pub(super) struct Settings {
    strict: bool,
    count_within: Duration,
    pub(super) lock_timeout: Duration,
    pub(super) tries: u32,
    allow_rewrites: bool,
    strategy: Option<SqliteStrategy>,
}

/// A column and its names.
#[derive(Debug)]
pub(super) struct BoundColumn {
    pub(super) spec: ColumnSpec,
    pub(super) target: Target,
}

/// The columns that are looked after.
#[derive(Debug)]
pub(super) struct Columns(Vec<BoundColumn>);

impl Columns {
    fn new(specs: impl Iterator<Item = ColumnSpec>) -> Result<Self, SchemaEnumError> {
        let bound = specs.map(|spec| Ok(BoundColumn { target: spec.target()?, spec }));
        Ok(Self(bound.collect::<Result<_, SchemaEnumError>>()?))
    }

    pub(super) fn find(&self, step: &Step) -> Option<&BoundColumn> {
        let is_it = |column: &&BoundColumn| {
            column.spec.table == step.table && column.spec.column == step.column
        };
        self.0.iter().find(is_it)
    }
}

/// Some schema-backed enums and what to do about their columns. Cheap to clone.
///
/// Nothing is written but by [`apply`](Self::apply).
#[derive(Clone)]
pub struct SchemaEnums {
    specs: Arc<[ColumnSpec]>,
    settings: Settings,
    last: Arc<Mutex<Option<Arc<DriftReport>>>>,
}

impl SchemaEnums {
    /// All that are linked into this program; see [`registered`].
    #[must_use]
    pub fn registered() -> Self {
        Self::new(registered())
    }

    /// One enum.
    #[must_use]
    pub fn of<E: SchemaEnum>() -> Self {
        Self::new([E::SPEC])
    }

    /// Some enums.
    #[must_use]
    pub fn new(specs: impl IntoIterator<Item = &'static EnumSpec>) -> Self {
        Self::of_columns(specs.into_iter().flat_map(EnumSpec::columns).collect())
    }

    pub(super) fn of_columns(specs: Arc<[ColumnSpec]>) -> Self {
        let settings = Settings {
            strict: false,
            count_within: Duration::from_secs(5),
            lock_timeout: Duration::from_secs(1),
            tries: 30,
            allow_rewrites: false,
            strategy: None,
        };
        Self { specs, settings, last: Arc::default() }
    }

    /// Where tables and enum types are that name no schema. Default: where the connection's search
    /// path finds them. For PostgreSQL; on SQLite it would be an attached database.
    #[must_use]
    pub fn in_schema(mut self, schema: &str) -> Self {
        let place = |spec: &ColumnSpec| spec.clone().in_schema(schema);
        self.specs = self.specs.iter().map(place).collect();
        self
    }

    /// Whether a database that is weaker than the code makes the service not ready, rather than
    /// degraded. Default `false`. With it, a roll-out that removes a value has a moment in which
    /// nobody is ready.
    #[must_use]
    pub const fn strict(mut self, strict: bool) -> Self {
        self.settings.strict = strict;
        self
    }

    /// How long the rows of a column may be counted, where the database does not vouch for them.
    /// Default 5 s; 10 ms to 1 hour, else the nearest. Too low: bad rows are not told.
    #[must_use]
    pub fn count_within(mut self, within: Duration) -> Self {
        self.settings.count_within =
            within.clamp(Duration::from_millis(10), Duration::from_secs(3600));
        self
    }

    /// How long one try waits for a lock on PostgreSQL. Default 1 s; 10 ms to 1 minute, else the
    /// nearest. While it waits, so does everybody who comes after it. Too low: it never succeeds
    /// on a table that is in use.
    #[must_use]
    pub fn lock_timeout(mut self, timeout: Duration) -> Self {
        self.settings.lock_timeout =
            timeout.clamp(Duration::from_millis(10), Duration::from_secs(60));
        self
    }

    /// How often a lock is tried for, with growing pauses up to 2 s. Default 30; 1 to 1000, else
    /// the nearest.
    #[must_use]
    pub fn tries(mut self, tries: u32) -> Self {
        self.settings.tries = tries.clamp(1, 1000);
        self
    }

    /// Whether [`apply`](Self::apply) may write a whole table anew, which is what it takes to
    /// remove a value of an enum type of PostgreSQL. Default `false`.
    #[must_use]
    pub const fn allow_rewrites(mut self, allow: bool) -> Self {
        self.settings.allow_rewrites = allow;
        self
    }

    /// How SQLite is made to refuse a value, instead of what its library can do.
    #[must_use]
    pub const fn sqlite_strategy(mut self, strategy: SqliteStrategy) -> Self {
        self.settings.strategy = Some(strategy);
        self
    }

    /// The columns, in the order of the enums.
    #[must_use]
    pub fn columns(&self) -> &[ColumnSpec] {
        &self.specs
    }

    /// Asks the database whether it allows what the code writes, and no more. Needs the right to
    /// read the tables.
    ///
    /// # Errors
    ///
    /// [`SchemaEnumError::InvalidName`], and [`SchemaEnumError::Store`] when the database could
    /// not be asked: then nothing is known, which is not drift.
    ///
    /// # Cancel safety
    ///
    /// Safe: nothing is written.
    pub async fn check(&self, store: &Store) -> Result<Arc<DriftReport>, SchemaEnumError> {
        let columns = Columns::new(self.specs.iter().cloned())?;
        let mut reports = Vec::new();
        for column in &columns.0 {
            let finding = self.find(store, column).await?;
            reports.push(drift::report(&column.spec, &finding, self.settings.strict));
        }
        let report = Arc::new(DriftReport { columns: reports });
        let before = self.last.lock().replace(Arc::clone(&report));
        if before.as_deref() != Some(&*report) && report.severity() > Severity::Note {
            tracing::warn!(severity = ?report.severity(), %report, "schema_enum.drift");
        }
        Ok(report)
    }

    /// What the last [`check`](Self::check) of this handle, its clones or readiness found.
    #[must_use]
    pub fn last_report(&self) -> Option<Arc<DriftReport>> {
        self.last.lock().clone()
    }

    /// What is to be done so that the database allows what the code writes, and no more. Shown, it
    /// is a script for a folder of migrations.
    ///
    /// # Errors
    ///
    /// As for [`check`](Self::check). What is in the way of a phase is in the plan.
    ///
    /// # Cancel safety
    ///
    /// Safe: nothing is written.
    pub async fn plan(&self, store: &Store) -> Result<Plan, SchemaEnumError> {
        let columns = Columns::new(self.specs.iter().cloned())?;
        self.plan_for(store, &columns).await
    }

    /// Carries out one phase of the plan, which is made anew for it. What is done already is not
    /// done again. Gives back the steps that were taken.
    ///
    /// # Errors
    ///
    /// [`SchemaEnumError::Refused`] when something is in the way: nothing was written.
    /// [`SchemaEnumError::LockBusy`], [`SchemaEnumError::RowsDoNotFit`] and
    /// [`SchemaEnumError::Store`]: steps that were taken stay; call again.
    ///
    /// # Cancel safety
    ///
    /// Dropped, the steps that were taken stay, and the one under way is done or not. Call again.
    pub async fn apply(&self, store: &Store, phase: Phase) -> Result<Vec<Step>, SchemaEnumError> {
        let columns = Columns::new(self.specs.iter().cloned())?;
        let plan = self.plan_for(store, &columns).await?;
        let mut refusals: Vec<_> = plan.refusals_of(phase).cloned().collect();
        let steps: Vec<_> = plan.steps_of(phase).cloned().collect();
        if !self.settings.allow_rewrites {
            let rewrites = steps.iter().filter(|step| step.impact == Impact::Rewrite);
            refusals.extend(rewrites.map(|step| Refusal {
                table: step.table.clone(),
                column: step.column.clone(),
                phase,
                obstacle: Obstacle::NeedsRewrite,
            }));
        }
        if !refusals.is_empty() {
            return Err(SchemaEnumError::Refused(refusals));
        }
        apply::apply(store, &columns, steps.clone(), &self.settings).await?;
        Ok(steps)
    }

    /// The constraint that holds a column to an enum, as it stands in `create table`; empty for a
    /// column of an enum type, which needs none. One for each column, in the order of
    /// [`columns`](Self::columns).
    ///
    /// # Errors
    ///
    /// [`SchemaEnumError::InvalidName`].
    pub fn constraints(&self, dialect: Dialect) -> Result<Vec<String>, SchemaEnumError> {
        let columns = Columns::new(self.specs.iter().cloned())?;
        let constraint = |column: &BoundColumn| {
            let BoundColumn { spec, target } = column;
            let guard = Guard::exact(spec);
            match dialect {
                Dialect::Postgres if target.type_name.is_some() => String::new(),
                Dialect::Postgres => ddl::postgres::constraint(spec, target, &guard),
                Dialect::Sqlite(_) => ddl::sqlite::constraint(spec, target, &guard),
            }
        };
        Ok(columns.0.iter().map(constraint).collect())
    }

    /// The check `schema_enums` for readiness: not ready while the database refuses what the code
    /// writes, degraded while it is weaker than the code. While the database cannot be asked, the
    /// last finding stands until it is stale. Asks every minute, and counts rows for 1 s at most.
    pub fn health_check(&self, store: &Store) -> CheckSpec {
        let (mut enums, store) = (self.clone(), store.clone());
        enums.settings.count_within = enums.settings.count_within.min(COUNT_WITHIN);
        let check = move |_: CheckCx| {
            let (enums, store) = (enums.clone(), store.clone());
            async move {
                let report = match enums.check(&store).await {
                    Ok(report) => report,
                    Err(error @ SchemaEnumError::Store(_)) => {
                        return Ok(Detail::unknown(error.to_string()));
                    }
                    Err(error) => return Err(CheckError::from(error)),
                };
                match report.severity() {
                    Severity::Clean => Ok(Detail::ok()),
                    Severity::Note => Ok(Detail::note(report.to_string())),
                    Severity::Weaker => Ok(Detail::degraded(report.to_string())),
                    Severity::Broken => Err(CheckError::new(report.to_string())),
                }
            }
        };
        // A report is certain: there is nothing to wait for before it counts.
        let spec = CheckSpec::new("schema_enums", check).fail_after(1).recover_after(1);
        spec.every(CHECK_EVERY).timeout(Duration::from_secs(30))
    }

    async fn plan_for(&self, store: &Store, columns: &Columns) -> Result<Plan, SchemaEnumError> {
        let dialect = self.dialect(store);
        let mut plan = Plan::new(dialect, self.settings.lock_timeout);
        for column in &columns.0 {
            let finding = self.find(store, column).await?;
            add_to(&mut plan, column, &finding, dialect);
        }
        Ok(plan)
    }

    async fn find(&self, store: &Store, column: &BoundColumn) -> Result<Finding, SchemaEnumError> {
        drift::find(store, &column.spec, &column.target, self.settings.count_within).await
    }

    #[cfg(test)]
    pub(super) const fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Carries out steps that were planned before.
    #[cfg(test)]
    pub(super) async fn take_steps(
        &self,
        store: &Store,
        steps: Vec<Step>,
    ) -> Result<(), SchemaEnumError> {
        let columns = Columns::new(self.specs.iter().cloned())?;
        apply::apply(store, &columns, steps, &self.settings).await
    }

    fn dialect(&self, store: &Store) -> Dialect {
        match store {
            Store::Sqlite(_) => Dialect::Sqlite(self.strategy()),
            Store::Postgres(_) => Dialect::Postgres,
        }
    }

    pub(super) fn strategy(&self) -> SqliteStrategy {
        self.settings.strategy.unwrap_or_else(SqliteStrategy::of_library)
    }
}

impl fmt::Debug for SchemaEnums {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns: Vec<_> = self.specs.iter().map(ToString::to_string).collect();
        f.debug_struct("SchemaEnums").field("columns", &columns).finish_non_exhaustive()
    }
}

/// Adds what is to be done about one column.
pub(super) fn add_to(plan: &mut Plan, column: &BoundColumn, finding: &Finding, dialect: Dialect) {
    let BoundColumn { spec, target } = column;
    let refusal = |phase, obstacle| Refusal {
        table: spec.table.clone(),
        column: spec.column.clone(),
        phase,
        obstacle,
    };
    if spec.array && matches!(dialect, Dialect::Sqlite(_)) {
        return plan.add(Vec::new(), vec![refusal(Phase::Expand, Obstacle::NoLists)]);
    }
    let decision = decide(spec, &finding.facts, &finding.rows, dialect);
    let steps = match dialect {
        Dialect::Postgres => ddl::postgres::steps(spec, target, &decision),
        Dialect::Sqlite(strategy) => ddl::sqlite::steps(spec, target, &decision, strategy),
    };
    let refusals = decision.obstacles.into_iter();
    plan.add(steps, refusals.map(|(phase, obstacle)| refusal(phase, obstacle)).collect());
}
