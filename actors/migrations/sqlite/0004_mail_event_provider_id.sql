-- What the provider calls the mail stays with its event: one that comes before we know it finds
-- its mail later.

alter table sf_mail_event add column provider_id text;
create index sf_mail_event_unlinked on sf_mail_event (provider, provider_id)
  where mail_id is null and provider_id is not null;
