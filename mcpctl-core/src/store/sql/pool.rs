//! Connections that are lent to one piece of work at a time.
//!
//! Work runs on a thread of its own, which the caller's future does not own: when that future is dropped, the
//! work goes on to its end. So no transaction is ever left half-way, and a limit on the caller's time is safe.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use tokio::{
    sync::Semaphore,
    task::spawn_blocking,
    time::{timeout, timeout_at},
};

use super::fault::{Fault, unavailable};
use crate::error::{Error, Result};

/// How long to wait for a connection, for a lock in the database, and for a new connection.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);
/// How long a caller waits at all.
const LIMIT: Duration = Duration::from_secs(10);

/// Makes connections of one sort.
pub(super) trait Connector: Send + Sync + 'static {
    /// A connection. Used from threads that may block.
    type Connection: Send + 'static;

    /// Makes a connection, in bounded time.
    fn connect(&self) -> Result<Self::Connection>;

    /// Whether a connection that lay idle can be used.
    fn is_usable(&self, connection: &mut Self::Connection) -> bool;
}

/// At most so many connections, made when needed and kept.
pub(super) struct Pool<C: Connector>(Arc<Inner<C>>);

struct Inner<C: Connector> {
    connector: Arc<C>,
    idle: Mutex<Vec<C::Connection>>,
    permits: Arc<Semaphore>,
}

impl<C: Connector> Pool<C> {
    pub(super) fn new(connector: Arc<C>, size: usize) -> Self {
        let permits = Arc::new(Semaphore::new(size));
        Self(Arc::new(Inner { connector, idle: Mutex::default(), permits }))
    }

    /// Does `work` on a connection. Once it has begun, it ends, whether or not anybody waits for it.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        operation: &'static str,
        work: impl FnOnce(&mut C::Connection) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T> {
        let deadline = tokio::time::Instant::now() + LIMIT;
        let permit = match timeout(PATIENCE, Arc::clone(&self.0.permits).acquire_owned()).await {
            Ok(permit) => permit.map_err(|closed| Error::internal(closed).during(operation))?,
            Err(_) => return Err(unavailable().caused_by("every connection is in use").during(operation)),
        };
        let inner = Arc::clone(&self.0);
        let task = spawn_blocking(move || {
            let result = inner.work(work);
            drop(permit);
            result
        });
        // Only the waiting ends at the deadline; the work does not.
        let result = match timeout_at(deadline, task).await {
            Ok(Ok(result)) => result,
            Ok(Err(panicked)) => Err(Error::internal(panicked)),
            Err(_) => Err(unavailable().caused_by("no answer in time")),
        };
        result.map_err(|error| error.during(operation))
    }
}

impl<C: Connector> Inner<C> {
    fn work<T>(&self, work: impl FnOnce(&mut C::Connection) -> Result<T, Fault>) -> Result<T> {
        let mut connection = match self.usable() {
            Some(connection) => connection,
            None => self.connector.connect()?,
        };
        let began = Instant::now();
        match work(&mut connection) {
            Ok(result) => {
                self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
                Ok(result)
            }
            // What state a connection is in after a fault is not worth guessing: it is closed.
            Err(fault) => Err(fault.into_error(began.elapsed() >= PATIENCE)),
        }
    }

    fn usable(&self) -> Option<C::Connection> {
        loop {
            let mut connection = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop()?;
            if self.connector.is_usable(&mut connection) {
                return Some(connection);
            }
        }
    }
}
