//! Failover: the core's router and local providers. Calls that are Python's own come with what they raised.

use std::{env, fmt::Display, future::ready, path::PathBuf, sync::Arc, time::Duration};

use mcpctl_core::{
    Error, Result,
    failover::{
        Decision, FailoverClient, FileLeases, LeaseBook, LocalLlm, NotRouted, Provider as _,
        ProviderRegistry, ProviderSettings, Routed, Surroundings, registry_of,
    },
};
use pyo3::{IntoPyObjectExt as _, exceptions::PyException, prelude::*};
use serde_json::{Map, Value, json};
use tokio::task::JoinSet;

use crate::{
    call::{Call, Output},
    client::Client,
    convert::{fields, json},
    down::Failure,
    errors::exception,
    runtime::Process,
    stream::ChunkStream,
};

/// How long closing waits until leases are kept.
const PATIENCE: Duration = Duration::from_secs(5);

/// The fields of a provider of more than one word, as Python and as the configuration file spell them.
const SPELLINGS: &[(&str, &str)] = &[
    ("api_key", "apiKey"),
    ("extra_args", "extraArgs"),
    ("failover_for", "failoverFor"),
    ("gpu_memory_utilization", "gpuMemoryUtilization"),
    ("idle_timeout_minutes", "idleTimeoutMinutes"),
    ("max_model_len", "maxModelLen"),
    ("venv_path", "venvPath"),
];

/// Local providers, and when they stand in.
#[pyclass(frozen, module = "mcpctl._native")]
pub(crate) struct Failover {
    process: Process,
    client: Py<Client>,
    providers: Arc<ProviderRegistry<LocalLlm>>,
    leases: Option<LeaseBook>,
    home: Option<PathBuf>,
}

impl Failover {
    /// With the credential of now.
    fn router(&self) -> FailoverClient {
        let client = self.client.get().current();
        FailoverClient::new(&client, self.providers.clone(), self.leases.clone())
    }

    fn call(&self, work: impl Future<Output = Output> + Send + 'static) -> Call {
        let process = self.process;
        Call::new(async move {
            process.check()?;
            Ok(work.await)
        })
    }
}

#[pymethods]
impl Failover {
    /// `home` is the folder of the command line: what runs is written down where it does so, too.
    #[new]
    fn new(
        py: Python<'_>,
        client: Py<Client>,
        providers: &Bound<'_, PyAny>,
        leases: Option<PathBuf>,
        home: Option<PathBuf>,
    ) -> PyResult<Self> {
        let (server, providers) = (client.get().current(), json(providers)?);
        let made = py.detach(|| {
            let settings = ProviderSettings::list(&spelled(providers)?)?;
            let settings = settings.into_iter().map(|settings| placed(settings, home.as_ref()));
            let providers = registry_of(settings.collect())?;
            let leases = leases.map(|path| LeaseBook::open(&server, Arc::new(FileLeases::at(path))));
            Ok((Arc::new(providers), leases))
        });
        let (providers, leases) = made.map_err(|error: Error| exception(py, &error))?;
        Ok(Self { process: Process::current(), client, providers, leases, home })
    }

    fn infer(&self, name: String, body: &Bound<'_, PyAny>, stream: bool) -> PyResult<Call> {
        let (router, body) = (self.router(), Value::Object(fields(body)?));
        Ok(self.call(async move {
            if stream {
                let outcome = router.infer_stream(&name, &body).await;
                // Reading begins here, in the runtime.
                return routed(outcome, |stream| Output::Stream(ChunkStream::of_client(stream)));
            }
            routed(router.infer(&name, &body).await, Output::Json)
        }))
    }

    /// Who stands in for `llm`, whose call raised `error`: a provider or None, and why. When nobody does, the exception
    /// is told why.
    fn stand_in(&self, llm: String, error: &Bound<'_, PyAny>) -> PyResult<Call> {
        let failure = Failure::of(error).or_else(|fault| Failure::unknown(error.py(), fault))?;
        let refused = failure.status.is_some_and(|status| matches!(status, 401 | 403 | 404));
        let (router, error) = (self.router(), error.clone().unbind());
        Ok(self.call(async move {
            let local = |provider: Arc<LocalLlm>| ready(Ok(provider.name().to_owned()));
            let outcome = router.router().run(&llm, ready(Err(failure)), local).await;
            if let (true, Some(leases)) = (refused, router.leases()) {
                // The server's word, as in the client's own calls.
                leases.forget(&llm);
            }
            Output::With(Box::new(move |py| match outcome {
                Ok(routed) => (routed.value, routed.decision.to_string()).into_py_any(py),
                Err(NotRouted { decision, .. }) => {
                    explain(error.bind(py), &decision)?;
                    (None::<String>, decision.to_string()).into_py_any(py)
                }
            }))
        }))
    }

    /// Tells `error` that the provider `via`, which stood in, raised `fault`.
    #[staticmethod]
    fn stand_in_failed(error: &Bound<'_, PyAny>, via: &str, fault: &Bound<'_, PyAny>) -> PyResult<()> {
        let kind = fault.get_type().name()?;
        let words = fault.str().map(|words| words.to_string()).unwrap_or_default();
        let fault = if words.is_empty() { kind.to_string() } else { words };
        explain(error, &Decision::StandInFailed(format!("{via}: {fault}")))
    }

    fn register(&self, py: Python<'_>, settings: &Bound<'_, PyAny>) -> PyResult<()> {
        let settings = Value::Object(fields(settings)?);
        self.add(settings).map_err(|error| exception(py, &error))
    }

    fn unregister(&self, py: Python<'_>, name: &str) -> PyResult<()> {
        // One that was started ends with it.
        self.providers.unregister(name).map(drop).map_err(|error| exception(py, &error))
    }

    fn map(&self, py: Python<'_>, llm: &str, provider: &str) -> PyResult<()> {
        self.providers.map(llm, provider).map_err(|error| exception(py, &error))
    }

    fn unmap(&self, llm: &str) -> bool {
        self.providers.unmap(llm)
    }

    fn mappings(&self) -> Vec<(String, String)> {
        self.providers.mappings()
    }

    fn providers(&self, py: Python<'_>, tier: Option<&str>) -> PyResult<Py<PyAny>> {
        let providers = match tier {
            Some(tier) => self.providers.by_tier(tier),
            None => self.providers.list(),
        };
        Output::Json(providers.iter().map(|provider| shown(provider)).collect()).into_python(py)
    }

    fn active(&self) -> Option<String> {
        self.providers.active().map(|provider| provider.name().to_owned())
    }

    fn set_active(&self, py: Python<'_>, name: &str) -> PyResult<()> {
        self.providers.set_active(name).map_err(|error| exception(py, &error))
    }

    /// Waits until leases are kept and what was started has ended.
    fn close(&self) -> Call {
        let (providers, leases) = (self.providers.clone(), self.leases.clone());
        self.call(async move {
            let mut stopping = JoinSet::new();
            for provider in providers.list() {
                stopping.spawn(async move {
                    if let Some(process) = provider.managed() {
                        process.stop().await;
                    }
                });
            }
            if let Some(leases) = leases {
                leases.settle(PATIENCE).await;
            }
            stopping.join_all().await;
            Output::Done
        })
    }
}

impl Failover {
    /// Adds a provider with all its mappings, or nothing.
    fn add(&self, settings: Value) -> Result<()> {
        let mut settings = settings;
        spell(&mut settings)?;
        let settings = placed(ProviderSettings::read(&settings)?, self.home.as_ref());
        let (name, llms) = (settings.name.clone(), settings.failover_for.clone());
        for llm in &llms {
            if let Some(known) = self.providers.stand_in(llm) {
                let known = known.name();
                return Err(Error::conflict(format!(
                    "failoverFor: `{known}` stands in for llm `{llm}` already"
                )));
            }
        }
        self.providers.register(LocalLlm::new(settings)?)?;
        llms.iter().try_for_each(|llm| self.providers.map(llm, &name))
    }
}

/// What a provider that is started on demand finds around it.
fn placed(mut settings: ProviderSettings, home: Option<&PathBuf>) -> ProviderSettings {
    let folder = home.map(|home| home.join("vllm"));
    settings.surroundings = Surroundings { environment: env::vars_os().collect(), folder };
    settings
}

/// Python's spelling of the fields of each provider, made the configuration file's.
fn spelled(mut providers: Value) -> Result<Value> {
    for (number, provider) in providers.as_array_mut().into_iter().flatten().enumerate() {
        spell(provider).map_err(|error| error.context(format_args!("providers[{number}]")))?;
    }
    Ok(providers)
}

fn spell(provider: &mut Value) -> Result<()> {
    let Some(fields) = provider.as_object_mut() else { return Ok(()) };
    for (python, file) in SPELLINGS {
        if let Some(value) = fields.remove(*python)
            && fields.insert((*file).to_owned(), value).is_some()
        {
            return Err(Error::invalid(format!("{file}: is given twice, as `{python}` too")));
        }
    }
    Ok(())
}

/// A provider without its key.
fn shown(provider: &LocalLlm) -> Value {
    let settings = provider.settings();
    let fields = [
        ("name", json!(settings.name)),
        ("type", json!(settings.ty.as_str())),
        ("model", json!(settings.model)),
        ("url", json!(settings.url)),
        ("tier", json!(settings.tier)),
    ];
    let given = fields.into_iter().filter(|(_, value)| !value.is_null());
    given.map(|(name, value)| (name.to_owned(), value)).collect::<Map<_, _>>().into()
}

/// The outcome of a call of the router's own.
fn routed<T>(
    outcome: std::result::Result<Routed<T>, NotRouted<Error>>,
    output: impl FnOnce(T) -> Output,
) -> Output {
    match outcome {
        Ok(Routed { value, failover, via, decision }) => {
            let value = output(value);
            Output::With(Box::new(move |py| {
                (value.into_python(py)?, failover, via, decision.to_string()).into_py_any(py)
            }))
        }
        Err(NotRouted { error, decision }) => Output::With(Box::new(move |py| {
            let error = exception(py, &error);
            explain(error.value(py), &decision)?;
            Err(error)
        })),
    }
}

/// Tells an exception why nobody stood in. It stays the same object.
fn explain(error: &Bound<'_, PyAny>, decision: &Decision) -> PyResult<()> {
    let py = error.py();
    let told = decision.to_string();
    // A class may have no room for it; then the exception is as it was.
    let _ = error.setattr("mcpctl_decision", &told);
    match decision {
        Decision::Forbidden | Decision::Unreachable(_) | Decision::StandInFailed(_) => note(error, &told),
        // Nothing that whoever reads a traceback would ask for.
        _ => Ok(()),
    }
    // A class may have methods of these names that do something else. But Ctrl-C is Ctrl-C.
    .or_else(|fault| if fault.is_instance_of::<PyException>(py) { Ok(()) } else { Err(fault) })
}

/// Python 3.10 has no notes.
fn note(error: &Bound<'_, PyAny>, told: &impl Display) -> PyResult<()> {
    let Some(add) = error.getattr_opt("add_note")? else { return Ok(()) };
    let note = format!("mcpctl: {told}");
    // The same exception may come by twice.
    let known = match error.getattr_opt("__notes__")? {
        Some(notes) => notes.contains(&note)?,
        None => false,
    };
    if !known {
        add.call1((note,))?;
    }
    Ok(())
}
