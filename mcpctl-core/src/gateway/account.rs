//! The audit event of a call, which is written however the call ends.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};

use http::StatusCode;

use super::{destination::Destination, meters::LlmMeters};
use crate::{
    adapter::Summary,
    audit::{AuditPermit, Receipt},
    auth::Principal,
    registry::LlmEntry,
    resource::{Actor, AuditEvent, EventDetail, InferenceCall},
};

/// The status that is noted when the caller went away before the end.
const CLIENT_CLOSED: u16 = 499;

/// The account of one call. When it is dropped unfinished, the caller went away.
pub(super) struct Account {
    began: Instant,
    meters: Arc<LlmMeters>,
    /// The place in the audit queue, and the event so far; taken when the event is written.
    open: Option<(AuditPermit, Actor, InferenceCall)>,
}

impl Account {
    pub(super) fn new(
        permit: AuditPermit,
        meters: Arc<LlmMeters>,
        who: &Principal,
        llm: &LlmEntry,
        streaming: bool,
    ) -> Self {
        meters.in_flight.fetch_add(1, Relaxed);
        let call = InferenceCall { streaming, status: CLIENT_CLOSED, ..llm.call.clone() };
        Self { began: Instant::now(), meters, open: Some((permit, who.actor(), call)) }
    }

    /// The model the provider is asked for.
    pub(super) fn model(&mut self, model: &str) {
        if let Some((_, _, call)) = &mut self.open
            && *call.model != *model
        {
            call.model = model.into();
        }
    }

    /// Bytes of the body are on their way to the caller.
    pub(super) fn sent(&mut self, bytes: usize) {
        if let Some((_, _, call)) = &mut self.open {
            call.ttft_ms.get_or_insert_with(|| millis(self.began.elapsed()));
            call.bytes_out = call.bytes_out.saturating_add(bytes as u64);
        }
    }

    /// What the provider has said of its answer so far; its texts without our key.
    pub(super) fn summary(&mut self, summary: &Summary, destination: &Destination) {
        if let Some((_, _, call)) = &mut self.open {
            call.prompt_tokens = summary.prompt_tokens;
            call.completion_tokens = summary.completion_tokens;
            call.cached_tokens = summary.cached_tokens;
            let text = |text: &Option<String>| text.as_deref().map(|text| destination.redact_text(text));
            call.finish_reason = text(&summary.finish_reason);
            call.error = text(&summary.error);
        }
    }

    /// Whether the end of the answer has to wait until the event is kept.
    pub(super) fn is_strict(&self) -> bool {
        self.open.as_ref().is_some_and(|(permit, ..)| permit.is_strict())
    }

    /// The call is over, with this status for the caller.
    pub(super) fn finish(&mut self, status: StatusCode) -> Receipt {
        if let Some((_, _, call)) = &mut self.open {
            call.status = status.as_u16();
        }
        self.write()
    }

    /// The call failed, with this status for the caller.
    pub(super) fn fail(&mut self, status: StatusCode, error: &str) -> Receipt {
        if let Some((_, _, call)) = &mut self.open {
            call.error = Some(error.to_owned());
        }
        self.finish(status)
    }

    fn write(&mut self) -> Receipt {
        let Some((permit, actor, mut call)) = self.open.take() else { return Receipt::default() };
        call.duration_ms = millis(self.began.elapsed());
        self.meters.in_flight.fetch_sub(1, Relaxed);
        self.meters.record(&call);
        permit.send(AuditEvent::new(actor, EventDetail::LlmInferenceCall(call)))
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        // Nobody is there any more to wait for it.
        drop(self.write());
    }
}

fn millis(duration: Duration) -> u64 {
    duration.as_millis().try_into().unwrap_or(u64::MAX)
}
