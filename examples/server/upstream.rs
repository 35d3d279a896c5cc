//! The way through to the control route of the fault simulator, wherever it runs.

use std::time::Duration;

use reqwest::Client;
use serde_json::Value;
use steadfast::kernel::{Code, Fault};

use crate::options::UpstreamUrl;
use crate::simulator::Switch;

/// LIMIT: a report of 20,000 mails takes a moment.
const WITHIN: Duration = Duration::from_secs(10);

/// Reads and switches a simulator. Clones share their connections.
#[derive(Debug, Clone)]
pub(crate) struct UpstreamControl {
    client: Client,
    url: String,
}

/// Why the simulator could not be asked.
#[derive(Debug, thiserror::Error)]
#[error("the upstream has no control route that answers")]
pub(crate) struct ControlError(#[from] reqwest::Error);

impl Fault for ControlError {
    fn code(&self) -> Code {
        Code::new("upstream.unreachable")
    }
}

impl UpstreamControl {
    /// Asks nothing yet, so the simulator may be away.
    ///
    /// # Errors
    ///
    /// The client could not be built.
    pub(crate) fn new(base: &UpstreamUrl) -> Result<Self, reqwest::Error> {
        let client = Client::builder().timeout(WITHIN).no_proxy().build()?;
        Ok(Self { client, url: format!("{}/control", base.0) })
    }

    /// What has arrived there.
    pub(crate) async fn report(&self) -> Result<Value, ControlError> {
        self.answer(self.client.get(&self.url)).await
    }

    /// Switches its mode; what has arrived there so far.
    pub(crate) async fn switch(&self, order: Switch) -> Result<Value, ControlError> {
        self.answer(self.client.put(&self.url).json(&order)).await
    }

    async fn answer(&self, request: reqwest::RequestBuilder) -> Result<Value, ControlError> {
        Ok(request.send().await?.error_for_status()?.json().await?)
    }
}
