-- The webhook inbox: what was sent, byte for byte, once for each id of its sender.
-- `{schema}` is the schema the library owns.
-- Claims and leases are those of the job. An event that was received and has no live job is dead.

create table {schema}.inbox (
  id          bigint generated always as identity primary key,
  source      text   not null check (length(source) between 1 and 64),
  event_id    text   not null,
  type        text,                             -- null: could not be read
  version     text,
  subject     text,
  line        text,                             -- the subject, where events of one wait for each other
  turn        bigint,                           -- the place in the line; rises among those received
  occurred_at bigint,
  received_at bigint not null,
  settled_at  bigint,
  state       text   not null check (state in ('received', 'done', 'ignored', 'unparsable')),
  reason      text,
  job_id      bigint,                           -- the job that has the say over it
  key         bigint,                           -- which key of its source verified it
  duplicates  bigint not null default 0,
  conflicts   bigint not null default 0,        -- duplicates with another body
  replays     bigint not null default 0,
  headers     text   not null,
  body        bytea  not null,
  body_sha256 bytea  not null check (length(body_sha256) = 32),
  unique (source, event_id)
);
create index inbox_state on {schema}.inbox (state, id);
create index inbox_received on {schema}.inbox (received_at);
create index inbox_line on {schema}.inbox (source, line, turn)
  where state = 'received' and line is not null;
