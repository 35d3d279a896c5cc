//! What a job inherits from whoever enqueued it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::kernel::{RequestContext, RequestId, TraceParent};

/// LIMIT: bytes of a tenant's name.
const TENANT_MAX: usize = 127;

/// What a job inherits from whoever enqueued it, as its row carries it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Meta {
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tenant: Option<String>,
}

impl Meta {
    /// What the code that runs now hands on.
    pub(super) fn capture(tenant: Option<&str>) -> Self {
        let request = RequestContext::current();
        Self {
            request_id: request.as_ref().map(|request| request.id().to_string()),
            trace: request.as_ref().and_then(RequestContext::trace).map(|trace| trace.to_string()),
            tenant: tenant.map(|tenant| super::job::cut(tenant, TENANT_MAX).to_string()),
        }
    }

    /// As the row carries it; `None` when there is nothing to carry.
    pub(super) fn encode(&self) -> Option<Arc<str>> {
        if *self == Self::default() {
            return None;
        }
        serde_json::to_string(self).ok().map(Arc::from)
    }

    /// Reads what a row carries. What cannot be read is nothing: a job must not fail for it.
    pub(super) fn decode(text: Option<&str>) -> Self {
        text.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
    }

    /// The request this work belongs to: the one that enqueued it, or a new one.
    pub(super) fn request(&self) -> RequestContext {
        let id = self.request_id.as_deref().and_then(|id| RequestId::parse(id).ok());
        let request = RequestContext::new(id.unwrap_or_else(RequestId::generate));
        match self.trace.as_deref().and_then(TraceParent::parse) {
            Some(trace) => request.with_trace(trace.child()),
            None => request,
        }
    }

    pub(super) fn request_id(&self) -> Option<&str> {
        self.request_id.as_deref()
    }

    pub(super) fn tenant(&self) -> Option<&str> {
        self.tenant.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_keeps_the_request_that_enqueued_it() {
        let trace = TraceParent::generate();
        let request = RequestContext::new(RequestId::parse("req-1").unwrap()).with_trace(trace);
        let meta = request.sync_scope(|| Meta::capture(Some("acme")));
        let read = Meta::decode(meta.encode().as_deref());
        assert_eq!(read.request().id().as_str(), "req-1");
        assert_eq!(read.request().trace().unwrap().trace_id(), trace.trace_id());
        assert_eq!(read.tenant(), Some("acme"));
    }

    #[test]
    fn what_cannot_be_read_is_a_new_request() {
        for text in [None, Some(""), Some("{"), Some(r#"{"request_id":"\n"}"#)] {
            assert!(!Meta::decode(text).request().id().as_str().is_empty(), "{text:?}");
        }
        assert_eq!(Meta::capture(None).encode(), None);
    }
}
