//! Which local providers there are, and which of them stands in for which Llm.

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::error::{Error, Result};

/// A local provider, as far as the registry needs to know it.
pub trait Provider: Send + Sync {
    /// Its name: one provider, one name.
    fn name(&self) -> &str;

    /// What it is for, `fast` or `heavy`, when that was said.
    fn tier(&self) -> Option<&str>;
}

/// The local providers of a program. Providers and mappings keep the order in which they came.
///
/// Its lock is held for the look-up alone, never while a provider works.
#[derive(Debug)]
pub struct ProviderRegistry<P>(RwLock<State<P>>);

#[derive(Debug)]
struct State<P> {
    providers: Vec<Arc<P>>,
    active: Option<String>,
    /// Llm, provider.
    failovers: Vec<(String, String)>,
}

impl<P> Default for ProviderRegistry<P> {
    fn default() -> Self {
        Self(RwLock::new(State { providers: Vec::new(), active: None, failovers: Vec::new() }))
    }
}

impl<P: Provider> State<P> {
    fn find(&self, name: &str) -> Option<&Arc<P>> {
        self.providers.iter().find(|provider| provider.name() == name)
    }

    fn require(&self, name: &str) -> Result<&Arc<P>> {
        self.find(name).ok_or_else(|| {
            let known: Vec<&str> = self.providers.iter().map(|provider| provider.name()).collect();
            let known = if known.is_empty() {
                "there are none".to_owned()
            } else {
                format!("there are: {}", known.join(", "))
            };
            Error::not_found(format!("no local provider is called `{name}`; {known}"))
        })
    }
}

impl<P: Provider> ProviderRegistry<P> {
    /// A registry without providers.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a provider. The first one is the active one until another is made so.
    ///
    /// # Errors
    ///
    /// Conflict, when the name is taken.
    pub fn register(&self, provider: P) -> Result<Arc<P>> {
        let mut state = self.write();
        if state.find(provider.name()).is_some() {
            return Err(Error::conflict(format!("a local provider is called `{}` already", provider.name())));
        }
        let provider = Arc::new(provider);
        state.active.get_or_insert_with(|| provider.name().to_owned());
        state.providers.push(provider.clone());
        Ok(provider)
    }

    /// Removes a provider and every mapping to it. When it was the active one, the first of those left is.
    ///
    /// # Errors
    ///
    /// Not found.
    pub fn unregister(&self, name: &str) -> Result<Arc<P>> {
        let mut state = self.write();
        let provider = state.require(name)?.clone();
        state.providers.retain(|known| known.name() != name);
        state.failovers.retain(|(_, to)| to != name);
        if state.active.as_deref() == Some(name) {
            state.active = state.providers.first().map(|first| first.name().to_owned());
        }
        Ok(provider)
    }

    /// The provider of this name.
    pub fn get(&self, name: &str) -> Option<Arc<P>> {
        self.read().find(name).cloned()
    }

    /// All of them, in the order in which they came.
    pub fn list(&self) -> Vec<Arc<P>> {
        self.read().providers.clone()
    }

    /// Those of one tier, in the order in which they came.
    pub fn by_tier(&self, tier: &str) -> Vec<Arc<P>> {
        self.read().providers.iter().filter(|provider| provider.tier() == Some(tier)).cloned().collect()
    }

    /// The active provider; `None` when there are none.
    pub fn active(&self) -> Option<Arc<P>> {
        let state = self.read();
        state.find(state.active.as_deref()?).cloned()
    }

    /// Makes a provider the active one.
    ///
    /// # Errors
    ///
    /// Not found.
    pub fn set_active(&self, name: &str) -> Result<()> {
        let mut state = self.write();
        state.require(name)?;
        state.active = Some(name.to_owned());
        Ok(())
    }

    /// Lets a provider stand in for an Llm of the server. An Llm has one stand-in: a second replaces the first.
    ///
    /// # Errors
    ///
    /// Not found, when no provider has that name.
    pub fn map(&self, llm: &str, provider: &str) -> Result<()> {
        let mut state = self.write();
        state.require(provider)?;
        match state.failovers.iter_mut().find(|(known, _)| known == llm) {
            Some((_, to)) => provider.clone_into(to),
            None => state.failovers.push((llm.to_owned(), provider.to_owned())),
        }
        Ok(())
    }

    /// Ends the mapping of an Llm. Whether there was one.
    pub fn unmap(&self, llm: &str) -> bool {
        let mut state = self.write();
        let before = state.failovers.len();
        state.failovers.retain(|(known, _)| known != llm);
        state.failovers.len() < before
    }

    /// The mappings, Llm and provider, in the order in which they came.
    pub fn mappings(&self) -> Vec<(String, String)> {
        self.read().failovers.clone()
    }

    /// Who stands in for an Llm.
    pub fn stand_in(&self, llm: &str) -> Option<Arc<P>> {
        let state = self.read();
        let (_, provider) = state.failovers.iter().find(|(known, _)| known == llm)?;
        state.find(provider).cloned()
    }

    // Every change is whole before anything can panic, so a poisoned state is a good one.
    fn read(&self) -> RwLockReadGuard<'_, State<P>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State<P>> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}
