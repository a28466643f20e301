//! Where a local provider listens.

use super::settings::{ProviderSettings, ProviderType};
use crate::error::{Error, ErrorKind, Result};

/// Where a local provider listens, or how to make it listen.
pub(super) enum Endpoint {
    /// It runs already, at this base URL.
    Fixed(String),
    /// It is started when it is needed.
    Managed {
        /// The provider's name.
        name: String,
    },
}

/// A provider that listens, for as long as this is kept.
pub(super) struct Reached {
    /// Its base URL.
    pub(super) url: String,
    /// Keeps a provider that was started from being stopped.
    pub(super) in_use: Option<InUse>,
}

/// What [`Endpoint::Managed`] will hand out.
pub(super) type InUse = std::convert::Infallible;

impl Endpoint {
    pub(super) fn of(settings: &ProviderSettings) -> Self {
        match settings.ty {
            ProviderType::Fixed(_) => Self::Fixed(settings.url.clone().unwrap_or_default()),
            ProviderType::VllmManaged => Self::Managed { name: settings.name.clone() },
        }
    }

    /// Waits until it listens.
    pub(super) async fn reach(&self) -> Result<Reached> {
        match self {
            Self::Fixed(url) => Ok(Reached { url: url.clone(), in_use: None }),
            Self::Managed { name } => {
                let message = format!("local provider `{name}`: type vllm-managed is not built yet");
                Err(Error::new(ErrorKind::NotImplemented, message))
            }
        }
    }
}
