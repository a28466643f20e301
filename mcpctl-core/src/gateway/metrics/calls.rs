use std::{
    fmt,
    sync::{Arc, atomic::Ordering::Relaxed},
};

use prometheus_client::{collector::Collector, encoding::DescriptorEncoder};

use super::write::{Family, counter, counters, gauges, histograms};
use crate::{gateway::meters::LlmMeters, meter::Histogram};

/// The numbers of calls, of the Llms that one reader gets to see.
#[derive(Debug)]
pub(super) struct Calls {
    pub(super) llms: Vec<Arc<LlmMeters>>,
    pub(super) shed: u64,
}

impl Collector for Calls {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        self.encode_calls(&mut encoder)?;
        self.encode_lines(&mut encoder)?;
        self.encode_times(&mut encoder)?;
        self.encode_tokens(&mut encoder)?;
        let help = "Calls refused because too many were in flight, of all Llms";
        counter(&mut encoder, Family::new("shed", help), self.shed)
    }
}

impl Calls {
    fn encode_calls(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let by_status = self.llms.iter().flat_map(|llm| {
            llm.by_status().map(|(status, count)| (llm.name.as_str(), status.to_string(), count))
        });
        let by_status: Vec<_> = by_status.collect();
        let requests = by_status
            .iter()
            .map(|(llm, status, count)| ([("llm", *llm), ("status", status.as_str())], *count));
        let family = Family::new("inference_requests", "Calls that have ended, by Llm and status");
        counters(encoder, family, requests)?;
        let running = self.llms.iter().map(|llm| (label(llm), llm.in_flight.load(Relaxed)));
        let help = "Calls that have begun and not ended, those in line included";
        gauges(encoder, Family::new("inference_in_flight", help), running)
    }

    /// Who waits for a place, who had to, and who was refused.
    fn encode_lines(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let waiting = self.llms.iter().map(|llm| (label(llm), llm.waiting.load(Relaxed)));
        gauges(encoder, Family::new("inference_waiting", "Calls in line for a place"), waiting)?;
        let queued = self.llms.iter().flat_map(|llm| {
            llm.by_limit().map(|(limit, count)| ([("llm", llm.name.as_str()), ("limit", limit)], count))
        });
        let help = "Calls that had to wait in line, by Llm and whose limit they met";
        counters(encoder, Family::new("inference_queued", help), queued)?;
        let shed = self.llms.iter().flat_map(|llm| {
            llm.by_shed().map(|([limit, reason], count)| {
                ([("llm", llm.name.as_str()), ("limit", limit), ("reason", reason)], count)
            })
        });
        let help = "Calls refused because too many were in flight, by Llm, whose limit they met, and why";
        counters(encoder, Family::new("inference_shed", help), shed)
    }

    fn encode_times(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let times: [(&str, &str, Of); 3] = [
            ("inference_duration", "From a request's arrival to its answer's end", |llm| &llm.duration),
            ("inference_first_byte", "From a request's arrival to its answer's first byte", |llm| {
                &llm.first_byte
            }),
            (
                "inference_first_token",
                "From a request's arrival to the first token of its answer, where that is streamed",
                |llm| &llm.first_token,
            ),
        ];
        for (name, help, of) in times {
            let by_llm = self.llms.iter().map(|llm| (label(llm), of(llm)));
            histograms(encoder, Family { name, help, ..Family::seconds("", "") }, by_llm)?;
        }
        Ok(())
    }

    fn encode_tokens(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let tokens = self.llms.iter().flat_map(|llm| {
            let sorts = [
                ("prompt", &llm.prompt_tokens),
                ("completion", &llm.completion_tokens),
                ("cached", &llm.cached_tokens),
            ];
            sorts.map(|(sort, count)| ([("llm", llm.name.as_str()), ("sort", sort)], count.load(Relaxed)))
        });
        let family =
            Family::new("inference_tokens", "Tokens, by Llm and sort; cached ones are prompt ones too");
        counters(encoder, family, tokens)?;
        let bytes = self.llms.iter().map(|llm| (label(llm), llm.bytes_out.load(Relaxed)));
        counters(encoder, Family::bytes("inference_answer", "Bytes of answers"), bytes)
    }
}

/// One of the histograms of an Llm.
type Of = fn(&LlmMeters) -> &Histogram;

fn label(llm: &LlmMeters) -> [(&str, &str); 1] {
    [("llm", llm.name.as_str())]
}
