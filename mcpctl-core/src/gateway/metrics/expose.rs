use std::{
    fmt,
    sync::{Arc, atomic::Ordering::Relaxed},
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, text::encode},
    metrics::MetricType,
    registry::Registry as Exposition,
};

use super::{behind::Behind, calls::Calls, process::Process};
use crate::{
    auth::Principal,
    error::{Error, Result},
    gateway::{meters::Meters, transport::Connections},
    rbac::Action,
    registry::Registry,
    resource::{Id, kinds},
};

/// The numbers of the Llms that `who` may view, and of the process.
///
/// # Errors
///
/// Internal, when the text cannot be written.
pub(in crate::gateway) fn expose(
    registry: &Registry,
    meters: &Meters,
    connections: &Arc<Connections>,
    who: &Principal,
) -> Result<String> {
    let snapshot = registry.snapshot();
    let llms = snapshot.shelf(kinds::LLMS);
    let visible = |id: &Id| {
        let view = registry.permission(Action::View, kinds::LLMS, id.as_str());
        llms.get(id).is_some() && who.rights().decide(&view).allowed()
    };
    let calls =
        Calls { llms: meters.select(|id| llms.get(id).is_some(), visible), shed: meters.shed.load(Relaxed) };
    let mut exposition = Exposition::default();
    // Those that every program has, under the names that every program gives them.
    exposition.register_collector(Box::new(Process::read()));
    let own = exposition.sub_registry_with_prefix("mcpctl");
    own.register_collector(Box::new(calls));
    own.register_collector(Box::new(Behind::read(registry, connections)));
    own.register_collector(Box::new(Build));
    let mut text = String::new();
    encode(&mut text, &exposition).map_err(Error::internal)?;
    Ok(text)
}

/// Which program this is.
#[derive(Debug)]
struct Build;

impl Collector for Build {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Which version of mcpctl this is";
        encoder
            .encode_descriptor("build", help, None, MetricType::Info)?
            .encode_info(&[("version", env!("CARGO_PKG_VERSION"))])
    }
}
