-- The durable spine: jobs, the nodes that run them, and what breakers remember.
-- `{schema}` is the schema the library owns.
-- Times are milliseconds since 1970. Only `job` has claim and fence columns.

create table {schema}.job (                          -- hot: live jobs only
  id           bigint generated always as identity primary key,
  queue        text    not null check (length(queue) between 1 and 127),
  kind         text    not null check (length(kind) between 1 and 127),
  class        smallint not null check (class between 0 and 3),  -- critical, normal, sheddable, bulk
  state        smallint not null default 0 check (state between 0 and 2), -- ready, running, parked
  run_at       bigint not null,
  due_at       bigint not null,               -- run_at when it was last admitted: age counts from it
  expires_at   bigint,
  attempt      smallint not null default 0,
  max_attempts smallint not null check (max_attempts >= 1),
  run          integer not null default 0,     -- the fence: never decremented
  crashes      smallint not null default 0,
  deferrals    smallint not null default 0,
  deferred     boolean not null default false, -- put off by the guard
  cancel       boolean not null default false,
  node         text,
  started_at   bigint,                        -- null while claimed and not begun
  dependency   text,
  unique_key   bytea,
  args         bytea    not null,
  args_format  smallint not null default 0,
  meta         text,
  progress     text,
  created_at   bigint not null,
  check ((state = 1) = (node is not null))
) with (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_cost_delay = 0);
create index job_ready on {schema}.job (queue, class, run_at, id) where state = 0;
create index job_running on {schema}.job (queue, node) where state = 1;
create index job_parked on {schema}.job (queue) where state = 2;
create index job_expiring on {schema}.job (queue, expires_at)
  where state = 0 and expires_at is not null;
create index job_deferred on {schema}.job (queue, run_at, id) where state = 0 and deferred;
create index job_dependency on {schema}.job (dependency, state, run_at, id)
  where dependency is not null;
create unique index job_unique on {schema}.job (kind, unique_key) where unique_key is not null;

create table {schema}.done (
  id          bigint primary key,
  queue       text    not null,
  kind        text    not null,
  class       smallint not null,
  attempt     smallint not null,
  run         integer not null,
  queued_ms   bigint not null,
  ran_ms      bigint not null,
  finished_at bigint not null
);
create index done_finished on {schema}.done (finished_at);

create table {schema}.dead (
  id           bigint primary key,
  queue        text    not null,
  kind         text    not null,
  class        smallint not null,
  attempt      smallint not null,
  max_attempts smallint not null,
  run          integer not null,
  crashes      smallint not null,
  deferrals    smallint not null,
  dependency   text,
  unique_key   bytea,
  args         bytea    not null,
  args_format  smallint not null,
  meta         text,
  created_at   bigint not null,
  reason       text    not null,
  message      text,
  died_at      bigint not null
);
create index dead_died on {schema}.dead (died_at);

create table {schema}.error (
  job_id  bigint not null,
  run     integer not null,
  at      bigint not null,
  message text    not null,
  trace   text,
  primary key (job_id, run)
);

create table {schema}.unique_ttl (
  kind       text    not null,
  unique_key bytea    not null,
  job_id     bigint not null,
  until      bigint not null,
  primary key (kind, unique_key)
);
create index unique_ttl_until on {schema}.unique_ttl (until);

create table {schema}.node (
  id         text    primary key,
  name       text    not null,
  presence   text,                             -- the lock that says on this host whether it lives
  started_at bigint not null,
  beats      bigint not null,
  beat_at    bigint not null,
  report     text
);

create table {schema}.queue (
  name       text    primary key,              -- '*' is all queues
  paused     boolean not null,
  changed_at bigint not null
);

create table {schema}.cron (
  name        text    primary key,
  spec        text    not null,
  time_zone   text    not null,
  queue       text    not null,
  kind        text    not null,
  class       smallint not null,
  max_attempts smallint not null,
  args        bytea    not null,
  args_format smallint not null,
  backfill_ms bigint not null,
  next_at     bigint not null,
  last_at     bigint,
  paused      boolean not null default false
);

create table {schema}.leader (
  name       text    primary key,
  node       text    not null,
  term       bigint not null,
  expires_at bigint not null
);

create table {schema}.breaker (
  dependency text    primary key,
  state      text    not null,
  until      bigint,                          -- null: until another command
  openings   smallint not null,
  cause      text    not null,
  changed_at bigint not null
);
