//! The audit event of a call, which is written however the call ends.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};

use http::StatusCode;

use super::{
    destination::Destination,
    first_token,
    meters::{LlmMeters, Times},
    span::CallSpan,
};
use crate::{
    adapter::{Api, Summary},
    audit::{AuditPermit, Receipt},
    auth::Principal,
    registry::LlmEntry,
    resource::{Actor, AuditEvent, EventDetail, InferenceCall},
};

/// The status that is noted when the caller went away before the end.
const CLIENT_CLOSED: u16 = 499;
/// How far into a stream its first token is looked for, in bytes.
const FIRST_TOKEN_WITHIN: u64 = 64 * 1024;

/// The account of one call. When it is dropped unfinished, the caller went away.
pub(super) struct Account {
    began: Instant,
    meters: Arc<LlmMeters>,
    times: Times,
    /// The span, while somebody traces.
    span: Option<Box<CallSpan>>,
    /// The place in the audit queue, and the event so far; taken when the event is written.
    open: Option<(AuditPermit, Actor, InferenceCall)>,
}

impl Account {
    pub(super) fn new(
        permit: AuditPermit,
        meters: Arc<LlmMeters>,
        who: &Principal,
        llm: &LlmEntry,
        api: Api,
        streaming: bool,
    ) -> Self {
        meters.in_flight.fetch_add(1, Relaxed);
        let call =
            InferenceCall { api: api.name().into(), streaming, status: CLIENT_CLOSED, ..llm.call.clone() };
        let times = Times::default();
        Self { began: Instant::now(), meters, times, span: None, open: Some((permit, who.actor(), call)) }
    }

    /// Ends `span` with the call.
    pub(super) fn trace(&mut self, span: Option<Box<CallSpan>>) {
        self.span = span;
    }

    /// The span, while somebody traces.
    pub(super) fn span(&self) -> Option<&CallSpan> {
        self.span.as_deref()
    }

    /// The model the provider is asked for.
    pub(super) fn model(&mut self, model: &str) {
        if let Some(span) = &mut self.span {
            span.model(model);
        }
        if let Some((_, _, call)) = &mut self.open
            && *call.model != *model
        {
            call.model = model.into();
        }
    }

    /// Bytes of the body are on their way to the caller.
    pub(super) fn sent(&mut self, bytes: usize) {
        if let Some((_, _, call)) = &mut self.open {
            let first_byte = *self.times.first_byte.get_or_insert_with(|| self.began.elapsed());
            call.ttft_ms.get_or_insert(millis(first_byte));
            call.bytes_out = call.bytes_out.saturating_add(bytes as u64);
        }
    }

    /// The same for events of a stream.
    pub(super) fn streamed(&mut self, events: &[u8]) {
        // Looked for at the beginning alone: an answer without a token there is in words of its own.
        if self.times.first_token.is_none()
            && self.open.as_ref().is_some_and(|(_, _, call)| call.bytes_out < FIRST_TOKEN_WITHIN)
            && first_token::is_in(events)
        {
            self.times.first_token = Some(self.began.elapsed());
        }
        self.sent(events.len());
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
        self.times.end = self.began.elapsed();
        call.duration_ms = millis(self.times.end);
        self.meters.in_flight.fetch_sub(1, Relaxed);
        self.meters.record(&call, self.times);
        if let Some(span) = self.span.take() {
            span.end(&call, self.times.first_byte);
        }
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
