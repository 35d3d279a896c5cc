-- Mail: what trying again needs to know, and looking for what is old without reading everything.

alter table {schema}.mail add column class smallint not null default 1 check (class between 0 and 3);
-- Attempts up to this one cost none of those that the mail has: somebody had it tried again.
alter table {schema}.mail add column attempts_forgiven bigint not null default 0;

create index mail_settled on {schema}.mail (updated_at)
  where state not in ('queued', 'sending', 'retry_wait', 'unknown');
create index mail_suppression_expires on {schema}.mail_suppression (expires_at)
  where expires_at is not null;
