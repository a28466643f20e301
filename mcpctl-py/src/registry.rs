//! The embedded core: the registry and the gateway in this very process.

use std::{
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use http_body_util::BodyExt as _;
use mcpctl_core::{
    Error, ErrorKind, Principal, Result,
    gateway::{Answer, Gateway, GatewaySettings, Target},
    registry::{self, ListQuery},
    resource::{Object, Spec, kinds, view},
    secret::{Keyring, MasterKey},
    store::{MemoryStore, SqlStore, Storage},
};
use pyo3::prelude::*;
use serde_json::{Value, json};
use tokio::{
    task::{AbortHandle, spawn_blocking},
    time::{sleep, timeout},
};

use crate::{
    call::{Call, Output},
    convert::{fields, kind},
    runtime::Process,
    stream::{ChunkStream, message},
};

/// How long closing waits for the last audit events, and then for the database.
const PATIENCE: Duration = Duration::from_secs(10);
const MOMENT: Duration = Duration::from_millis(5);

/// The embedded core.
#[pyclass(frozen, module = "mcpctl._native")]
pub(crate) struct Registry {
    process: Process,
    core: Arc<Mutex<Option<Core>>>,
}

#[derive(Clone)]
struct Core {
    registry: registry::Registry,
    gateway: Gateway,
    who: Principal,
    /// What reads the answers that are still coming; they hold on to the database.
    streams: Arc<Mutex<Vec<AbortHandle>>>,
    /// Whose last owner closing waits to be.
    store: Arc<dyn Storage>,
}

impl Registry {
    fn call<F>(&self, work: impl FnOnce(Core) -> F + Send + 'static) -> Call
    where
        F: Future<Output = Result<Output>> + Send + 'static,
    {
        let (process, core) = (self.process, self.core.clone());
        Call::new(async move {
            process.check()?;
            let core = core.lock().unwrap_or_else(PoisonError::into_inner).clone();
            work(core.ok_or_else(|| Error::invalid("the registry is closed"))?).await
        })
    }
}

#[pymethods]
impl Registry {
    #[staticmethod]
    fn open(url: String, master_key: Option<String>, program: String) -> Call {
        Call::new(async move {
            let key = master_key.map(|text| MasterKey::parse(&text).map(Keyring::new)).transpose()?;
            let core = Core::open(&url, key, &program).await?;
            let core = Arc::new(Mutex::new(Some(core)));
            Ok(Output::Registry(Self { process: Process::current(), core }))
        })
    }

    fn close(&self) -> Call {
        let (process, core) = (self.process, self.core.clone());
        Call::new(async move {
            process.check()?;
            let core = core.lock().unwrap_or_else(PoisonError::into_inner).take();
            match core {
                Some(core) => core.close().await.map(|()| Output::Done),
                None => Ok(Output::Done),
            }
        })
    }

    fn models(&self) -> Call {
        self.call(async |core| {
            let models = core.gateway.models(&core.who);
            let model = |model: &mcpctl_core::gateway::Model| {
                let created = model.created_at.as_second();
                json!({"id": model.name, "object": "model", "created": created, "owned_by": model.owned_by})
            };
            Ok(Output::Json(models.iter().map(model).collect()))
        })
    }

    fn list(&self, plural: &str, filters: Vec<(String, String)>) -> PyResult<Call> {
        let kind = kind(plural)?;
        Ok(self.call(async move |core| {
            let query = ListQuery { fields: filters, ..ListQuery::default() };
            let page = core.registry.list(&core.who, kind, &query).await?;
            Ok(Output::Json(page.items.iter().map(|object| Value::Object(view(object))).collect()))
        }))
    }

    fn get(&self, plural: &str, name: String, show_values: bool) -> PyResult<Call> {
        let kind = kind(plural)?;
        Ok(self.call(async move |core| {
            if !show_values {
                return Ok(shown(&*core.registry.get(&core.who, kind, &name).await?));
            }
            if kind != kinds::SECRETS {
                return Err(Error::invalid(format!("show_values: {kind} have no values to show")));
            }
            let (secret, data) = core.registry.reveal(&core.who, &name).await?;
            let mut body = view(&secret);
            let data: Spec = data.iter().map(|(key, value)| (key.clone(), value.expose().into())).collect();
            body.insert("data".into(), data.into());
            Ok(Output::Json(body.into()))
        }))
    }

    fn create(&self, plural: &str, body: &Bound<'_, PyAny>) -> PyResult<Call> {
        let (kind, body) = (kind(plural)?, fields(body)?);
        Ok(self.call(async move |core| {
            let created = core.registry.create(&core.who, kind, body).await?;
            Ok(Output::Json(created.view().into()))
        }))
    }

    fn update(
        &self,
        plural: &str,
        name: String,
        body: &Bound<'_, PyAny>,
        version: Option<i64>,
    ) -> PyResult<Call> {
        let (kind, body) = (kind(plural)?, fields(body)?);
        Ok(self.call(async move |core| {
            Ok(shown(&core.registry.patch(&core.who, kind, &name, body, version).await?))
        }))
    }

    fn delete(&self, plural: &str, name: String) -> PyResult<Call> {
        let kind = kind(plural)?;
        Ok(self.call(async move |core| {
            core.registry.delete(&core.who, kind, &name, None).await?;
            Ok(Output::Done)
        }))
    }

    fn infer(&self, name: String, body: &Bound<'_, PyAny>, stream: bool) -> PyResult<Call> {
        let mut body = fields(body)?;
        if stream {
            body.insert("stream".into(), true.into());
        }
        let body = Value::Object(body).to_string();
        Ok(self.call(async move |core| {
            let answer = core.gateway.chat(&core.who, Target::Named(&name), body.into()).await?;
            if stream && answer.status.is_success() {
                let stream = ChunkStream::of_gateway(answer.body);
                core.streams().push(stream.reader());
                return Ok(Output::Stream(stream));
            }
            whole(answer).await.map(Output::Json)
        }))
    }
}

impl Core {
    async fn open(url: &str, key: Option<Keyring>, program: &str) -> Result<Self> {
        let (store, key): (Arc<dyn Storage>, _) = if url == "memory://" {
            (Arc::new(MemoryStore::new()), key)
        } else {
            let store = SqlStore::open(url).await?;
            (Arc::new(store), Some(key.map_or_else(|| key_beside(url), Ok)?))
        };
        let builder = registry::Registry::builder(store.clone());
        let registry = key.into_iter().fold(builder, |builder, key| builder.keyring(key)).open().await?;
        let sealed = registry.is_sealed();
        let gateway = Gateway::new(registry.clone(), GatewaySettings::default())?;
        let who = registry.root(program);
        let core = Self { registry, gateway, who, streams: Arc::default(), store };
        if sealed {
            // With another key, it can be opened at once.
            core.close().await?;
            let message = "the master key does not fit the stored values: open the registry with the one that \
                           wrote them";
            return Err(Error::new(ErrorKind::Sealed, message));
        }
        Ok(core)
    }

    /// The readers that have not ended.
    fn streams(&self) -> MutexGuard<'_, Vec<AbortHandle>> {
        let mut streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        streams.retain(|reader| !reader.is_finished());
        streams
    }

    /// Ends what is still running, and lets go of the database, so that it can be opened again.
    async fn close(self) -> Result<()> {
        self.streams().iter().for_each(AbortHandle::abort);
        // Their ends are audited too.
        let ended = async {
            while !self.streams().is_empty() {
                sleep(MOMENT).await;
            }
        };
        let _ = timeout(PATIENCE, ended).await;
        let flushed = self.registry.audit().flush(PATIENCE).await;
        let store = self.store.clone();
        drop(self);
        let alone = async {
            while Arc::strong_count(&store) > 1 {
                sleep(MOMENT).await;
            }
        };
        // A call that another thread waits for keeps it; that is no failure.
        let _ = timeout(PATIENCE, alone).await;
        // Closing a database is work, and has to be over when we are.
        spawn_blocking(|| drop(store)).await.map_err(Error::internal)?;
        flushed
    }
}

/// The keys in the file beside the database, where the server has its own.
fn key_beside(url: &str) -> Result<Keyring> {
    let database = Path::new(url.split_once("://").map_or(url, |(_, path)| path));
    Keyring::load_or_create(&database.with_file_name("master.key"))
}

fn shown(object: &Object) -> Output {
    Output::Json(view(object).into())
}

async fn whole(answer: Answer) -> Result<Value> {
    let body = match answer.body.collect().await {
        Ok(body) => body.to_bytes(),
        Err(never) => match never {},
    };
    let rubbish = |cause: serde_json::Error| {
        Error::new(ErrorKind::Provider, "the provider answered something other than JSON").caused_by(cause)
    };
    let body: Value = serde_json::from_slice(&body).map_err(rubbish)?;
    if answer.status.is_success() {
        return Ok(body);
    }
    let kind = ErrorKind::from_status(answer.status.as_u16());
    Err(Error::new(kind, message(body.get("error").unwrap_or(&body))))
}
