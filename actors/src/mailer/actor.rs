//! The shell: a bounded mailbox in front of the mailer, and what is to be done now and then.

use std::fmt;
use std::time::Duration;

use actix::{Actor, AsyncContext, Handler, Message};
use tokio::time::sleep;

use super::Mailer;
use super::core::Swept;
use super::error::MailerError;
use super::events::Recorded;
use super::messages::{CancelMail, FindMail, MailEnqueued, MailStatus, RecordEvent, StoreMail};
use crate::kernel::{Context, Reply};

/// How often mails are looked for whose job is gone, and what is old.
const SWEEP_EVERY: Duration = Duration::from_secs(30);

/// Takes the operations of a mailer. It keeps nothing: everything is in the tables, and mails
/// are sent by their jobs. [`Mailer`] is its handle.
pub struct MailerActor {
    mailer: Mailer,
}

impl MailerActor {
    pub(super) const fn new(mailer: Mailer) -> Self {
        Self { mailer }
    }
}

impl Actor for MailerActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.spawn(actix::fut::wrap_future(sweep(self.mailer.clone())));
    }
}

async fn sweep(mailer: Mailer) {
    loop {
        match mailer.sweep().await {
            Ok(swept) if swept == Swept::default() => {}
            Ok(Swept { buried, forgotten, mails, events, suppressions }) => {
                tracing::info!(buried, forgotten, mails, events, suppressions, "mailer.swept");
            }
            Err(error) => tracing::warn!(%error, "mailer.sweep_failed"),
        }
        sleep(SWEEP_EVERY).await;
    }
}

macro_rules! handlers {
    ($($message:ident($one:ident, $mailer:ident) -> $result:ty { $work:expr })+) => {
        $(impl Handler<$message> for MailerActor {
            type Result = Reply<<$message as Message>::Result>;

            fn handle(&mut self, $one: $message, _: &mut Self::Context) -> Self::Result {
                let $mailer = self.mailer.clone();
                Reply::task(async move {
                    let done: Result<$result, MailerError> = $work;
                    done
                })
            }
        })+
    };
}

handlers! {
    StoreMail(message, mailer) -> MailEnqueued {
        match message.key {
            Some(key) => mailer.enqueue(message.mail).key(key).await,
            None => mailer.enqueue(message.mail).await,
        }
    }
    FindMail(message, mailer) -> Option<MailStatus> { mailer.find(message.id).await }
    CancelMail(message, mailer) -> bool { mailer.cancel(message.id).await }
    RecordEvent(message, mailer) -> Recorded { mailer.record(message.event).await }
}

impl fmt::Debug for MailerActor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MailerActor").field("mailer", &self.mailer).finish()
    }
}
