-- Mail: what is to be sent, what went over the wire, each attempt, and what providers said later.
-- When a mail is tried is said by its job alone. Times are milliseconds since 1970.

create table {schema}.mail (
  id              bytea   primary key,
  tenant          text    not null,
  idempotency_key text    not null,
  content_hash    bytea   not null,
  kind            text    not null,
  content         bytea,                         -- null once it was forgotten
  state           text    not null check (state in ('queued', 'sending', 'retry_wait', 'accepted',
                    'unknown', 'dead', 'expired', 'suppressed', 'cancelled')),
  delivery        text    not null default 'none' check (delivery in ('none', 'sent', 'deferred',
                    'delivered', 'bounced', 'complained')),
  on_unknown      text    not null check (on_unknown in ('retry', 'park', 'fail')),
  overrides_suppression bigint  not null check (overrides_suppression in (0, 1)),
  deadline_at     bigint,
  job_id          bigint,
  provider        text,
  provider_id     text,
  last_code       text,
  resend_of       bytea,
  created_at      bigint  not null,
  updated_at      bigint  not null,
  unique (tenant, idempotency_key)
);
create index mail_provider_id on {schema}.mail (provider, provider_id) where provider_id is not null;
create index mail_open on {schema}.mail (job_id) where state in ('queued', 'sending', 'retry_wait');
create index mail_kept on {schema}.mail (updated_at) where content is not null;

create table {schema}.mail_wire (                      -- frozen before the first byte leaves
  mail_id          bytea   not null,
  provider         text    not null,
  request          bytea   not null,
  first_attempt_at bigint  not null,
  primary key (mail_id, provider)
);

create table {schema}.mail_attempt (                   -- committed before the first byte leaves
  mail_id        bytea   not null,
  n              bigint  not null,
  run            bigint  not null,
  provider       text    not null,
  started_at     bigint  not null,
  finished_at    bigint,
  outcome        text,
  http_status    bigint,
  code           text,
  retry_after_ms bigint,
  primary key (mail_id, n)
);

create table {schema}.mail_event (
  provider       text    not null,
  event_id       text    not null,
  mail_id        bytea,
  kind           text    not null,
  recipient_hash bytea,
  happened_at    bigint  not null,
  recorded_at    bigint  not null,
  primary key (provider, event_id)
);
create index mail_event_recorded on {schema}.mail_event (recorded_at);

create table {schema}.mail_suppression (
  tenant       text    not null,                 -- '' is everybody
  address_hash bytea   not null,
  reason       text    not null,
  source       text    not null,
  created_at   bigint  not null,
  expires_at   bigint,
  primary key (tenant, address_hash)
);
