-- The webhook inbox: what was sent, byte for byte, once for each id of its sender.
-- Claims and leases are those of the job. An event that was received and has no live job is dead.

create table sf_inbox (
  id          integer primary key autoincrement,
  source      text    not null check (length(source) between 1 and 64),
  event_id    text    not null,
  type        text,                             -- null: could not be read
  version     text,
  subject     text,
  line        text,                             -- the subject, where events of one wait for each other
  turn        integer,                          -- the place in the line; rises among those received
  occurred_at integer,
  received_at integer not null,
  settled_at  integer,
  state       text    not null check (state in ('received', 'done', 'ignored', 'unparsable')),
  reason      text,
  job_id      integer,                          -- the job that has the say over it
  key         integer,                          -- which key of its source verified it
  duplicates  integer not null default 0,
  conflicts   integer not null default 0,       -- duplicates with another body
  replays     integer not null default 0,
  headers     text    not null,
  body        blob    not null,
  body_sha256 blob    not null check (length(body_sha256) = 32),
  unique (source, event_id)
) strict;
create index sf_inbox_state on sf_inbox (state, id);
create index sf_inbox_received on sf_inbox (received_at);
create index sf_inbox_line on sf_inbox (source, line, turn)
  where state = 'received' and line is not null;
