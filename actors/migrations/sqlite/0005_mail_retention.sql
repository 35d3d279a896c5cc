-- Mail: what trying again needs to know, and looking for what is old without reading everything.

alter table sf_mail add column class integer not null default 1 check (class between 0 and 3);
-- Attempts up to this one cost none of those that the mail has: somebody had it tried again.
alter table sf_mail add column attempts_forgiven integer not null default 0;

create index sf_mail_settled on sf_mail (updated_at)
  where state not in ('queued', 'sending', 'retry_wait', 'unknown');
create index sf_mail_suppression_expires on sf_mail_suppression (expires_at)
  where expires_at is not null;
