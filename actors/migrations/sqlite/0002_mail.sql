-- Mail: what is to be sent, what went over the wire, each attempt, and what providers said later.
-- When a mail is tried is said by its job alone. Times are milliseconds since 1970.

create table sf_mail (
  id              blob    primary key,
  tenant          text    not null,
  idempotency_key text    not null,
  content_hash    blob    not null,
  kind            text    not null,
  content         blob,                         -- null once it was forgotten
  state           text    not null check (state in ('queued', 'sending', 'retry_wait', 'accepted',
                    'unknown', 'dead', 'expired', 'suppressed', 'cancelled')),
  delivery        text    not null default 'none' check (delivery in ('none', 'sent', 'deferred',
                    'delivered', 'bounced', 'complained')),
  on_unknown      text    not null check (on_unknown in ('retry', 'park', 'fail')),
  overrides_suppression integer not null check (overrides_suppression in (0, 1)),
  deadline_at     integer,
  job_id          integer,
  provider        text,
  provider_id     text,
  last_code       text,
  resend_of       blob,
  created_at      integer not null,
  updated_at      integer not null,
  unique (tenant, idempotency_key)
) strict;
create index sf_mail_provider_id on sf_mail (provider, provider_id) where provider_id is not null;
create index sf_mail_open on sf_mail (job_id) where state in ('queued', 'sending', 'retry_wait');
create index sf_mail_kept on sf_mail (updated_at) where content is not null;

create table sf_mail_wire (                      -- frozen before the first byte leaves
  mail_id          blob    not null,
  provider         text    not null,
  request          blob    not null,
  first_attempt_at integer not null,
  primary key (mail_id, provider)
) strict, without rowid;

create table sf_mail_attempt (                   -- committed before the first byte leaves
  mail_id        blob    not null,
  n              integer not null,
  run            integer not null,
  provider       text    not null,
  started_at     integer not null,
  finished_at    integer,
  outcome        text,
  http_status    integer,
  code           text,
  retry_after_ms integer,
  primary key (mail_id, n)
) strict, without rowid;

create table sf_mail_event (
  provider       text    not null,
  event_id       text    not null,
  mail_id        blob,
  kind           text    not null,
  recipient_hash blob,
  happened_at    integer not null,
  recorded_at    integer not null,
  primary key (provider, event_id)
) strict, without rowid;
create index sf_mail_event_recorded on sf_mail_event (recorded_at);

create table sf_mail_suppression (
  tenant       text    not null,                 -- '' is everybody
  address_hash blob    not null,
  reason       text    not null,
  source       text    not null,
  created_at   integer not null,
  expires_at   integer,
  primary key (tenant, address_hash)
) strict, without rowid;
