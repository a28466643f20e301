//! Announcements of commits, by stores that make them.

use std::{sync::Arc, time::Duration};

use tokio::{sync::watch, time::timeout};

use super::{Storage, committed, llm, writes};
use crate::{
    resource::Revision,
    store::{Announced, Write},
};

/// How long an announcement may take.
const SOON: Duration = Duration::from_secs(10);

/// Waits until commits are announced, up to this revision at least.
async fn announced(receiver: &mut watch::Receiver<Announced>, least: Revision) {
    let known = |now: &Announced| matches!(now, Announced::UpTo(revision) if *revision >= least);
    let heard = timeout(SOON, receiver.wait_for(known)).await.is_ok_and(|heard| heard.is_ok());
    assert!(heard, "revision {least} is not announced: {:?}", *receiver.borrow());
}

/// A store that announces commits announces every one, to every receiver, and nothing that did not happen.
pub async fn follow_every_commit(store: Arc<dyn Storage>) {
    let (Some(mut one), Some(mut two)) = (store.announcements(), store.announcements()) else { return };
    announced(&mut one, 0).await;
    announced(&mut two, 0).await;
    for number in 0..5 {
        let revision = committed(&*store, writes([Write::Put(llm(&format!("llm-{number}")))])).await;
        announced(&mut one, revision).await;
        announced(&mut two, revision).await;
        assert_eq!(*one.borrow_and_update(), Announced::UpTo(revision));
    }
}

/// Nobody who is gone keeps a commit from happening, or the next one from listening.
pub async fn end_with_their_receiver(store: Arc<dyn Storage>) {
    for number in 0..20 {
        let Some(mut receiver) = store.announcements() else { return };
        if number % 2 == 0 {
            drop(receiver);
            committed(&*store, writes([Write::Put(llm(&format!("llm-{number}")))])).await;
        } else {
            announced(&mut receiver, 0).await;
        }
    }
}
