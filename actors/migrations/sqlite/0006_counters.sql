-- Counter repair: how far each run is, and the deltas of counters that are folded later.
-- Claims and leases are those of the job. A run that is not finished and has no live job has stopped.

create table sf_counter_runs (
  job_id      integer primary key,
  counter     text    not null,
  mode        text    not null check (mode in ('report', 'repair')),
  step        integer not null default 0,       -- rises with every batch: the fence of the cursor
  cursor      text,                             -- the key of the last parent that was looked at
  totals      text    not null,
  started_at  integer not null,
  updated_at  integer not null,
  finished_at integer
) strict;
create index sf_counter_runs_counter on sf_counter_runs (counter, job_id);

create table sf_counter_deltas (
  id      integer primary key autoincrement,
  counter text    not null,
  key     text    not null,
  delta   integer not null
) strict;
create index sf_counter_deltas_counter on sf_counter_deltas (counter, id);
create index sf_counter_deltas_key on sf_counter_deltas (counter, key);
