-- Counter repair: how far each run is, and the deltas of counters that are folded later.
-- `{schema}` is the schema the library owns.
-- Claims and leases are those of the job. A run that is not finished and has no live job has stopped.

create table {schema}.counter_runs (
  job_id      bigint primary key,
  counter     text   not null,
  mode        text   not null check (mode in ('report', 'repair')),
  step        bigint not null default 0,        -- rises with every batch: the fence of the cursor
  cursor      text,                             -- the key of the last parent that was looked at
  totals      text   not null,
  started_at  bigint not null,
  updated_at  bigint not null,
  finished_at bigint
);
create index counter_runs_counter on {schema}.counter_runs (counter, job_id);

create table {schema}.counter_deltas (
  id      bigint  generated always as identity primary key,
  counter text    not null,
  key     text    not null,
  delta   numeric not null
);
create index counter_deltas_counter on {schema}.counter_deltas (counter, id);
create index counter_deltas_key on {schema}.counter_deltas (counter, key);
