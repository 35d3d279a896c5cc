-- The durable spine: jobs, the nodes that run them, and what breakers remember.
-- Times are milliseconds since 1970. Only `sf_job` has claim and fence columns.

create table sf_job (                          -- hot: live jobs only
  id           integer primary key autoincrement,
  queue        text    not null check (length(queue) between 1 and 127),
  kind         text    not null check (length(kind) between 1 and 127),
  class        integer not null check (class between 0 and 3),  -- critical, normal, sheddable, bulk
  state        integer not null default 0 check (state between 0 and 2), -- ready, running, parked
  run_at       integer not null,
  due_at       integer not null,               -- run_at when it was last admitted: age counts from it
  expires_at   integer,
  attempt      integer not null default 0,
  max_attempts integer not null check (max_attempts >= 1),
  run          integer not null default 0,     -- the fence: never decremented
  crashes      integer not null default 0,
  deferrals    integer not null default 0,
  deferred     integer not null default 0 check (deferred in (0, 1)), -- put off by the guard
  cancel       integer not null default 0 check (cancel in (0, 1)),
  node         text,
  started_at   integer,                        -- null while claimed and not begun
  dependency   text,
  unique_key   blob,
  args         blob    not null,
  args_format  integer not null default 0,
  meta         text,
  progress     text,
  created_at   integer not null,
  check ((state = 1) = (node is not null))
) strict;
-- `due_at` only so that the age of a queue is read from the index alone.
create index sf_job_ready on sf_job (queue, class, run_at, id, due_at) where state = 0;
create index sf_job_running on sf_job (queue, node) where state = 1;
create index sf_job_parked on sf_job (queue) where state = 2;
create index sf_job_expiring on sf_job (queue, expires_at)
  where state = 0 and expires_at is not null;
create index sf_job_deferred on sf_job (queue, run_at, id) where state = 0 and deferred = 1;
create index sf_job_dependency on sf_job (dependency, state, run_at, id)
  where dependency is not null;
create unique index sf_job_unique on sf_job (kind, unique_key) where unique_key is not null;

create table sf_done (
  id          integer primary key,
  queue       text    not null,
  kind        text    not null,
  class       integer not null,
  attempt     integer not null,
  run         integer not null,
  queued_ms   integer not null,
  ran_ms      integer not null,
  finished_at integer not null
) strict;
create index sf_done_finished on sf_done (finished_at);

create table sf_dead (
  id           integer primary key,
  queue        text    not null,
  kind         text    not null,
  class        integer not null,
  attempt      integer not null,
  max_attempts integer not null,
  run          integer not null,
  crashes      integer not null,
  deferrals    integer not null,
  dependency   text,
  unique_key   blob,
  args         blob    not null,
  args_format  integer not null,
  meta         text,
  created_at   integer not null,
  reason       text    not null,
  message      text,
  died_at      integer not null
) strict;
create index sf_dead_died on sf_dead (died_at);

create table sf_error (
  job_id  integer not null,
  run     integer not null,
  at      integer not null,
  message text    not null,
  trace   text,
  primary key (job_id, run)
) strict, without rowid;

create table sf_unique_ttl (
  kind       text    not null,
  unique_key blob    not null,
  job_id     integer not null,
  until      integer not null,
  primary key (kind, unique_key)
) strict, without rowid;
create index sf_unique_ttl_until on sf_unique_ttl (until);

create table sf_node (
  id         text    primary key,
  name       text    not null,
  presence   text,                             -- the lock that says on this host whether it lives
  started_at integer not null,
  beats      integer not null,
  beat_at    integer not null,
  report     text
) strict;

create table sf_queue (
  name       text    primary key,              -- '*' is all queues
  paused     integer not null check (paused in (0, 1)),
  changed_at integer not null
) strict;

create table sf_cron (
  name        text    primary key,
  spec        text    not null,
  time_zone   text    not null,
  queue       text    not null,
  kind        text    not null,
  class       integer not null,
  max_attempts integer not null,
  args        blob    not null,
  args_format integer not null,
  backfill_ms integer not null,
  next_at     integer not null,
  last_at     integer,
  paused      integer not null default 0 check (paused in (0, 1))
) strict;

create table sf_leader (
  name       text    primary key,
  node       text    not null,
  term       integer not null,
  expires_at integer not null
) strict;

create table sf_breaker (
  dependency text    primary key,
  state      text    not null,
  until      integer,                          -- null: until another command
  openings   integer not null,
  cause      text    not null,
  changed_at integer not null
) strict;
