//! What a managed vLLM is: its model, its arguments, its environment, its patience.

use std::{
    ffi::{OsStr, OsString},
    fmt,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{
    error::{Error, Result},
    secret::SecretValue,
};

/// A vLLM to be started on demand. `Debug` shows neither the environment nor the arguments, which may hold credentials.
#[derive(Clone)]
pub struct ManagedSettings {
    /// The provider's name: one name, one process.
    pub name: String,
    /// The model that it serves: a name of Hugging Face, or a folder.
    pub model: String,
    /// The port on 127.0.0.1; a free one, chosen at each start, when there is none.
    pub port: Option<u16>,
    /// The Python environment that vLLM is installed in: its `bin/vllm` is the program.
    pub venv_path: Option<PathBuf>,
    /// The program, for when there is no such environment. A bare name is looked for in the `PATH` of `environment`.
    pub program: PathBuf,
    /// The part of the GPU's memory that it takes, more than 0 and 1 at most.
    pub gpu_memory_utilization: Option<f64>,
    /// The longest context, in tokens.
    pub max_model_len: Option<u64>,
    /// More arguments of `vllm serve`, as they are.
    pub extra_args: Vec<String>,
    /// For how long it stays when nobody uses it.
    pub idle_timeout: Duration,
    /// How long it may take until it serves. Loading a large model takes minutes.
    pub start_timeout: Duration,
    /// The key that it asks its callers for.
    pub api_key: Option<SecretValue>,
    /// The variables of the program around this, of which vLLM gets those that
    /// [`passes_on`](Self::passes_on) names.
    pub environment: Vec<(OsString, OsString)>,
    /// Where it is written down what runs, so that what a killed program left behind is found by the next. Only this
    /// user should be able to write there. Without one, only the process itself looks after what it started.
    pub folder: Option<PathBuf>,
}

impl fmt::Debug for ManagedSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ManagedSettings")
            .field("name", &self.name)
            .field("model", &self.model)
            .field("port", &self.port)
            .finish_non_exhaustive()
    }
}

/// The environment variables that vLLM gets when they are set.
const VARIABLES: &[&str] = &[
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "LANG",
    "LC_ALL",
    "TZ",
    "TMPDIR",
    "LD_LIBRARY_PATH",
    "LIBRARY_PATH",
    "CPATH",
    "CC",
    "CXX",
    "HTTP_PROXY",
    "http_proxy",
    "HTTPS_PROXY",
    "https_proxy",
    "NO_PROXY",
    "no_proxy",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "REQUESTS_CA_BUNDLE",
];

/// How the names of others begin that vLLM gets.
const PREFIXES: &[&str] = &[
    "CUDA_",
    "NVIDIA_",
    "NCCL_",
    "HIP_",
    "ROCR_",
    "ROCM_",
    "HF_",
    "HUGGINGFACE_",
    "TRANSFORMERS_",
    "VLLM_",
    "TORCH",
    "PYTORCH_",
    "TRITON_",
    "FLASHINFER_",
    "OMP_",
    "MKL_",
    "XDG_",
    "RAY_",
];

/// Arguments that are not for others to give, and why.
const REFUSED: &[(&str, &str)] = &[
    ("host", "it listens on 127.0.0.1 alone"),
    ("port", "`port` says it"),
    ("uds", "it listens on a port of 127.0.0.1"),
    ("headless", "it must serve"),
    ("api-key", "it would be there for everybody to read in the list of processes; `apiKey` says it"),
    ("ssl-keyfile", "on 127.0.0.1 it is spoken to without TLS"),
    ("ssl-certfile", "on 127.0.0.1 it is spoken to without TLS"),
];

impl ManagedSettings {
    /// A vLLM of this name that serves this model, the rest as usual.
    pub fn new(name: impl Into<String>, model: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            model: model.into(),
            port: None,
            venv_path: None,
            program: PathBuf::from("vllm"),
            gpu_memory_utilization: None,
            max_model_len: None,
            extra_args: Vec::new(),
            idle_timeout: Duration::from_secs(15 * 60),
            start_timeout: Duration::from_secs(10 * 60),
            api_key: None,
            environment: Vec::new(),
            folder: None,
        }
    }

    /// Whether vLLM gets the environment variable of this name: what it needs to find the GPU, its models, its caches
    /// and the network, and nothing of ours.
    pub fn passes_on(name: &OsStr) -> bool {
        // Its key is this provider's own, or none.
        name.to_str().is_some_and(|name| {
            name != "VLLM_API_KEY"
                && (VARIABLES.contains(&name) || PREFIXES.iter().any(|prefix| name.starts_with(prefix)))
        })
    }

    /// Looks for faults that no start can mend.
    ///
    /// # Errors
    ///
    /// Invalid, naming the field.
    pub fn check(&self) -> Result<()> {
        let named = |what: String| Err(Error::invalid(format!("{}: {what}", self.name)));
        // The name is part of a file's.
        let fits = |letter: char| letter.is_alphanumeric() || matches!(letter, '-' | '_' | '.');
        if self.name.is_empty() || self.name.starts_with('.') || !self.name.chars().all(fits) {
            return Err(Error::invalid(format!(
                "name: `{}` must be of letters, digits, `-`, `_` and `.`, and not begin with a dot",
                self.name
            )));
        }
        if self.model.is_empty() || self.model.starts_with('-') {
            return named(format!("model: `{}` is no name of a model", self.model));
        }
        if self.port == Some(0) {
            return named("port: 0 is no port; leave it out for a free one".to_owned());
        }
        if self.gpu_memory_utilization.is_some_and(|part| !(part > 0.0 && part <= 1.0)) {
            return named("gpuMemoryUtilization: it must be more than 0 and 1 at most".to_owned());
        }
        if self.max_model_len == Some(0) {
            return named("maxModelLen: it must be 1 at least".to_owned());
        }
        let texts = self.extra_args.iter().chain([&self.model]);
        if texts.clone().any(|text| text.contains('\0')) {
            return named("extraArgs: no argument can have a NUL in it".to_owned());
        }
        match self.extra_args.iter().find_map(|arg| refused(arg)) {
            Some((arg, why)) => named(format!("extraArgs: `{arg}` cannot be given: {why}")),
            None => Ok(()),
        }
    }

    /// The program's path.
    ///
    /// # Errors
    ///
    /// What to do about it: there is none.
    pub(super) fn find_program(&self) -> Result<PathBuf, String> {
        if let Some(venv) = &self.venv_path {
            let program = venv.join("bin/vllm");
            return if program.is_file() {
                Ok(program)
            } else {
                let (path, venv) = (program.display(), venv.display());
                Err(format!(
                    "{path} is missing; `python3 -m venv {venv} && {venv}/bin/pip install vllm` installs it"
                ))
            };
        }
        if self.program.components().count() > 1 {
            let there = self.program.is_file().then(|| self.program.clone());
            return there.ok_or_else(|| format!("{} is missing", self.program.display()));
        }
        let path = self.environment.iter().find(|(name, _)| name == "PATH").map(|(_, path)| path);
        let folders = path.map(|path| path.as_encoded_bytes().split(|byte| *byte == b':'));
        let inside = |folder: &[u8]| {
            Path::new(<OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(folder)).join(&self.program)
        };
        let found = folders.into_iter().flatten().filter(|folder| !folder.is_empty()).map(inside);
        found.into_iter().find(|program| program.is_file()).ok_or_else(|| {
            format!(
                "there is no `{}` on the PATH; `pip install vllm` in a Python environment, and name that as `venvPath`",
                self.program.display()
            )
        })
    }

    /// The arguments of the program.
    pub(super) fn arguments(&self, port: u16) -> Vec<OsString> {
        let mut arguments: Vec<OsString> = ["serve", &self.model].map(OsString::from).to_vec();
        let mut add = |name: &str, value: String| arguments.extend([name.into(), value.into()]);
        add("--host", Ipv4Addr::LOCALHOST.to_string());
        add("--port", port.to_string());
        if let Some(part) = self.gpu_memory_utilization {
            add("--gpu-memory-utilization", part.to_string());
        }
        if let Some(tokens) = self.max_model_len {
            add("--max-model-len", tokens.to_string());
        }
        arguments.extend(self.extra_args.iter().map(OsString::from));
        arguments
    }
}

/// The name of an argument that is not to be given, and why. vLLM takes `_` for `-`, and the beginning of a name for
/// the name.
fn refused(arg: &str) -> Option<(&str, &'static str)> {
    let name = arg.strip_prefix("--")?.split('=').next()?;
    let plain = name.replace('_', "-");
    let found = REFUSED.iter().find(|(refused, _)| !plain.is_empty() && refused.starts_with(&plain));
    found.map(|(_, why)| (arg.split('=').next().unwrap_or(arg), *why))
}

/// How long things take. The usual is for real models; tests are in more of a hurry.
#[doc(hidden)]
#[derive(Clone, Debug)]
pub struct Timing {
    /// Between SIGTERM and SIGKILL. The watchdog knows whole seconds alone.
    pub grace: Duration,
    /// The first wait after a failure; each further one is twice as long.
    pub first_delay: Duration,
    /// The longest such wait.
    pub longest_delay: Duration,
    /// For how long it must have served before a failure counts as the first again.
    pub stable: Duration,
    /// Between two looks at one that starts.
    pub look_every: Duration,
    /// Between two looks at one that is used.
    pub check_every: Duration,
    /// How old a good answer may be that a caller goes by.
    pub fresh: Duration,
    /// How long it may take to say that it is well. It is asked twice.
    pub answer: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            grace: Duration::from_secs(10),
            first_delay: Duration::from_secs(1),
            longest_delay: Duration::from_secs(60),
            stable: Duration::from_secs(60),
            look_every: Duration::from_millis(250),
            check_every: Duration::from_secs(5),
            fresh: Duration::from_secs(1),
            answer: Duration::from_secs(3),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(change: impl FnOnce(&mut ManagedSettings)) -> ManagedSettings {
        let mut settings = ManagedSettings::new("local", "org/model");
        change(&mut settings);
        settings
    }

    #[test]
    fn the_arguments_are_those_of_vllm_serve() {
        let settings = with(|settings| {
            settings.gpu_memory_utilization = Some(0.5);
            settings.max_model_len = Some(4096);
            settings.extra_args = vec!["--dtype".to_owned(), "$(id) `x`".to_owned()];
        });
        settings.check().unwrap();
        let arguments = settings.arguments(8001);
        let arguments: Vec<&str> = arguments.iter().map(|arg| arg.to_str().unwrap()).collect();
        assert_eq!(
            arguments,
            [
                "serve",
                "org/model",
                "--host",
                "127.0.0.1",
                "--port",
                "8001",
                "--gpu-memory-utilization",
                "0.5",
                "--max-model-len",
                "4096",
                "--dtype",
                "$(id) `x`",
            ]
        );
    }

    #[test]
    fn where_it_listens_is_not_for_the_extra_arguments_to_say() {
        for arg in ["--host", "--host=0.0.0.0", "--port", "--por=1", "--uds", "--api_key=x", "--ssl-keyfile"]
        {
            let fault = with(|settings| settings.extra_args = vec![arg.to_owned()]).check().unwrap_err();
            assert!(fault.message().starts_with("local: extraArgs: `--"), "{fault}");
            assert!(!fault.message().contains("0.0.0.0"), "{fault}");
        }
        for arg in ["--dtype", "port", "--trust-remote-code", "-O3", "--hf-overrides"] {
            with(|settings| settings.extra_args = vec![arg.to_owned()]).check().unwrap();
        }
    }

    #[test]
    fn faults_name_the_field() {
        for (field, settings) in [
            ("name", with(|settings| settings.name = "../x".to_owned())),
            ("model", with(|settings| settings.model = "--host".to_owned())),
            ("port", with(|settings| settings.port = Some(0))),
            ("gpuMemoryUtilization", with(|settings| settings.gpu_memory_utilization = Some(f64::NAN))),
            ("maxModelLen", with(|settings| settings.max_model_len = Some(0))),
        ] {
            let fault = settings.check().unwrap_err();
            assert!(fault.message().contains(&format!("{field}: ")), "{fault}");
        }
    }

    #[test]
    fn debug_hides_what_may_be_a_credential() {
        let settings = with(|settings| {
            settings.environment = vec![("HF_TOKEN".into(), "hf-s3cret".into())];
            settings.extra_args = vec!["--hf-token=hf-s3cret".to_owned()];
        });
        assert!(!format!("{settings:?}").contains("s3cret"));
    }

    #[test]
    fn nothing_of_ours_is_passed_on() {
        for name in ["PATH", "CUDA_VISIBLE_DEVICES", "HF_TOKEN", "VLLM_LOGGING_LEVEL", "LD_LIBRARY_PATH"] {
            assert!(ManagedSettings::passes_on(OsStr::new(name)), "{name}");
        }
        for name in ["MCPCTL_TOKEN", "AWS_SECRET_ACCESS_KEY", "OPENAI_API_KEY", "VLLM_API_KEY", "LD_PRELOAD"]
        {
            assert!(!ManagedSettings::passes_on(OsStr::new(name)), "{name}");
        }
    }

    #[test]
    fn a_missing_program_is_told_with_what_to_do() {
        let fault = with(|settings| settings.venv_path = Some("/nowhere".into())).find_program().unwrap_err();
        assert!(
            fault.contains("/nowhere/bin/vllm is missing") && fault.contains("pip install vllm"),
            "{fault}"
        );
        let fault = with(|settings| settings.environment = vec![("PATH".into(), ":/nowhere".into())]);
        assert!(fault.find_program().unwrap_err().contains("venvPath"));
        let found = with(|settings| {
            settings.environment = vec![("PATH".into(), "/nowhere:/bin".into())];
            settings.program = "sh".into();
        });
        assert_eq!(found.find_program().unwrap(), Path::new("/bin/sh"));
    }
}
