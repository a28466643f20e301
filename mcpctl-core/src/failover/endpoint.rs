//! Where a local provider listens.

use std::{path::PathBuf, time::Duration};

use super::{
    managed::{InUse, ManagedSettings, ManagedVllm},
    settings::{ProviderSettings, ProviderType},
};
use crate::error::Result;

/// Where a local provider listens, or how to make it listen.
pub(super) enum Endpoint {
    /// It runs already, at this base URL.
    Fixed(String),
    /// It is started when it is needed.
    Managed(Box<ManagedVllm>),
}

/// A provider that listens, for as long as this is kept.
pub(super) struct Reached {
    /// Its base URL.
    pub(super) url: String,
    /// Keeps a provider that was started from being stopped.
    pub(super) in_use: Option<InUse>,
}

impl Endpoint {
    pub(super) fn of(settings: &ProviderSettings) -> Self {
        match settings.ty {
            ProviderType::Fixed(_) => Self::Fixed(settings.url.clone().unwrap_or_default()),
            ProviderType::VllmManaged => Self::Managed(Box::new(ManagedVllm::new(managed(settings)))),
        }
    }

    /// Waits until it listens.
    pub(super) async fn reach(&self) -> Result<Reached> {
        match self {
            Self::Fixed(url) => Ok(Reached { url: url.clone(), in_use: None }),
            Self::Managed(vllm) => {
                let in_use = vllm.ready().await?;
                Ok(Reached { url: in_use.url().to_string(), in_use: Some(in_use) })
            }
        }
    }

    /// The process, when it is one that is started on demand.
    pub(super) fn managed(&self) -> Option<&ManagedVllm> {
        match self {
            Self::Fixed(_) => None,
            Self::Managed(vllm) => Some(vllm),
        }
    }
}

fn managed(settings: &ProviderSettings) -> ManagedSettings {
    let usual = ManagedSettings::new(&settings.name, &settings.model);
    let minutes = settings.idle_timeout_minutes.map(|minutes| Duration::from_secs_f64(minutes * 60.0));
    ManagedSettings {
        port: settings.port,
        venv_path: settings.venv_path.as_ref().map(PathBuf::from),
        gpu_memory_utilization: settings.gpu_memory_utilization,
        max_model_len: settings.max_model_len,
        extra_args: settings.extra_args.clone(),
        idle_timeout: minutes.unwrap_or(usual.idle_timeout),
        api_key: settings.api_key.clone(),
        environment: settings.surroundings.environment.clone(),
        folder: settings.surroundings.folder.clone(),
        ..usual
    }
}
