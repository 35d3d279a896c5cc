//! The statements, which both databases understand.

/// The statements, with the names of the tables filled in.
#[derive(Debug)]
pub(in crate::inbox) struct Sql {
    pub(super) insert: String,
    pub(super) attach: String,
    pub(super) load: String,
    pub(super) find: String,
    pub(super) ahead: String,
    pub(super) next: String,
    pub(super) list: String,
    pub(super) counts: String,
    pub(super) settle: String,
    pub(super) again: String,
    pub(super) prune: String,
}

/// What is read of an event; `rows` knows the order.
macro_rules! columns {
    () => {
        "e.id, e.source, e.event_id, e.type, e.version, e.subject, e.line, e.turn, e.occurred_at,
         e.received_at, e.settled_at, e.state, e.reason, e.job_id, e.key, e.duplicates,
         e.conflicts, e.replays, e.headers, e.body_sha256, cast(length(e.body) as bigint), j.id"
    };
}

/// An event is live as long as its job is: then `j.id` is there.
macro_rules! events {
    () => {
        "{inbox} e left join {job} j on j.id = e.job_id"
    };
}

/// The place behind all that wait in a line now.
macro_rules! last_turn {
    ($source:literal, $line:literal) => {
        concat!(
            "(select coalesce(max(t.turn), 0) + 1 from {inbox} t
               where t.source = ",
            $source,
            " and t.line = ",
            $line,
            " and t.state = 'received')"
        )
    };
}

impl Sql {
    pub(super) fn sqlite() -> Self {
        Self::fill(|sql| sql.replace("{inbox}", "sf_inbox").replace("{job}", "sf_job"))
    }

    pub(super) fn postgres(schema: &str) -> Self {
        let (inbox, job) = (format!("{schema}.inbox"), format!("{schema}.job"));
        Self::fill(|sql| sql.replace("{inbox}", &inbox).replace("{job}", &job).replace('?', "$"))
    }

    fn fill(fill: impl Fn(&str) -> String) -> Self {
        Self {
            insert: fill(INSERT),
            attach: fill(ATTACH),
            load: fill(LOAD),
            find: fill(FIND),
            ahead: fill(AHEAD),
            next: fill(NEXT),
            list: fill(LIST),
            counts: fill(COUNTS),
            settle: fill(SETTLE),
            again: fill(AGAIN),
            prune: fill(PRUNE),
        }
    }
}

const INSERT: &str = concat!(
    "insert into {inbox} as e (source, event_id, type, version, subject, line, turn,
                    occurred_at, received_at, state, reason, key, headers, body, body_sha256)
                 values (?1, ?2, ?3, ?4, ?5, ?6,
                    case when ?9 = 'received' and cast(?6 as text) is not null then ",
    last_turn!("?1", "?6"),
    " end, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)
                 on conflict (source, event_id) do update
                    set duplicates = e.duplicates + 1,
                        conflicts = e.conflicts
                          + case when e.body_sha256 <> excluded.body_sha256 then 1 else 0 end
                 returning id, duplicates,
                    cast(case when body_sha256 <> ?14 then 1 else 0 end as bigint)"
);

const ATTACH: &str = "update {inbox} set job_id = ?2 where id = ?1";

const LOAD: &str = concat!("select ", columns!(), ", e.body from ", events!(), " where e.id = ?1");

const FIND: &str = "select e.id from {inbox} e where e.source = ?1 and e.event_id = ?2";

const AHEAD: &str = "select count(*) from (
                   select 1 from {inbox} e join {job} j on j.id = e.job_id
                    where e.source = ?1 and e.line = ?2 and e.state = 'received' and e.turn < ?3
                    limit 100) x";

const NEXT: &str = "select e.job_id from {inbox} e join {job} j on j.id = e.job_id
                  where e.source = ?1 and e.line = ?2 and e.state = 'received' and e.turn > ?3
                  order by e.turn limit 1";

const LIST: &str = concat!(
    "select ",
    columns!(),
    " from ",
    events!(),
    " where e.state = ?1 and e.id > ?2
                    and (cast(?3 as text) is null or e.source = ?3)
                    and (cast(?4 as text) is null or e.type = ?4)
                    and e.received_at >= ?5 and e.received_at < ?6
                    and (e.state <> 'received' or (j.id is not null) = (cast(?7 as bigint) = 1))
                  order by e.id limit ?8"
);

const COUNTS: &str = concat!(
    "select e.state, cast(case when j.id is null then 0 else 1 end as bigint) as live,
                    count(*) from ",
    events!(),
    " group by 1, 2"
);

const SETTLE: &str = "update {inbox} set state = ?3, settled_at = ?4
                  where id = ?1 and job_id = ?2 and state = 'received' returning id";

const AGAIN: &str = concat!(
    "update {inbox} set state = 'received', reason = null, settled_at = null,
                    job_id = null, replays = replays + 1, type = ?4, version = ?5, subject = ?6,
                    line = ?7, occurred_at = ?8,
                    turn = case when cast(?7 as text) is not null then ",
    last_turn!("?9", "?7"),
    " end
                  where id = ?1 and state = ?2 and replays = ?3"
);

const PRUNE: &str = concat!(
    "delete from {inbox} where id in (
                   select e.id from ",
    events!(),
    "   where e.received_at < ?1 and j.id is null
                      and (e.state <> 'received' or e.received_at < ?2)
                    order by e.received_at limit ?3)"
);
