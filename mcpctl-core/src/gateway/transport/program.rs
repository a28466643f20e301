//! A provider that is a program: one run for each request, the prompt on its standard input, the answer on its
//! standard output. When nobody waits for the answer any more, the program and all that it started are killed.

use std::{
    ffi::OsString,
    io,
    path::PathBuf,
    pin::{Pin, pin},
    process::Stdio,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Buf as _, Bytes};
use http::{Request, Response, header::CONTENT_TYPE};
use http_body::{Body, Frame};
use http_body_util::Full;
use memchr::memmem;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    process::{Child, ChildStderr, ChildStdin, ChildStdout, Command},
    runtime::Handle,
    task::spawn_blocking,
    time::{Instant, Sleep, sleep, sleep_until},
};

use super::home::Home;
use crate::{
    adapter::{Adapter, LAST_LINE, Opening, after_exit},
    gateway::admission::Place,
    process::Group,
    secret::SecretValue,
};

/// The `gemini` program, for Llms of type `gemini-cli`.
#[derive(Clone, Debug)]
pub struct GeminiProgram {
    /// Where it is.
    pub path: PathBuf,
    /// How many may run at once; more wait in line as other requests do.
    pub max_processes: usize,
    /// Where the folders of its runs are made. Only this user should be able to write there and above.
    pub folder: PathBuf,
    /// Its environment, besides what a run needs: those of [`ENVIRONMENT`](Self::ENVIRONMENT) that are set.
    pub environment: Vec<(OsString, OsString)>,
}

impl GeminiProgram {
    /// The variables that are of use to the program: where programs are, the language, and the way to the network.
    pub const ENVIRONMENT: &[&str] = &[
        "PATH",
        "LANG",
        "LC_ALL",
        "TZ",
        "HTTP_PROXY",
        "http_proxy",
        "HTTPS_PROXY",
        "https_proxy",
        "NO_PROXY",
        "no_proxy",
        "NODE_EXTRA_CA_CERTS",
        "SSL_CERT_FILE",
        "SSL_CERT_DIR",
    ];

    /// Removes what runs left behind when their server was killed.
    pub(in crate::gateway) fn sweep(&self) {
        Home::sweep(&self.folder);
    }
}

/// What a request to a program says that a request over HTTP says in its path and headers.
#[derive(Clone, Debug)]
pub(in crate::gateway) struct Invocation {
    pub(in crate::gateway) model: String,
    pub(in crate::gateway) key: Option<SecretValue>,
}

/// Why there is no answer.
pub(super) enum Fault {
    /// There is no such program.
    Missing,
    /// It was not done in time.
    Late,
    /// It could not be started, or what it printed is no answer.
    Broken(String),
}

/// The way to a program.
pub(in crate::gateway) struct Runner {
    program: Arc<GeminiProgram>,
    timeout: Duration,
}

/// How long a program may take to end once it has printed its last.
const GOODBYE: Duration = Duration::from_secs(1);
/// How much of what it says on the side is remembered, in bytes.
const ASIDE: usize = 4096;
/// How much is read at once, in bytes.
const READ: usize = 16 * 1024;

impl Runner {
    /// Runs of `program` that last for `timeout` at most.
    pub(super) fn new(program: Arc<GeminiProgram>, timeout: Duration) -> Self {
        Self { program, timeout }
    }

    /// Runs the program, and returns its answer as soon as it has begun, or has failed.
    pub(super) async fn run(&self, mut request: Request<Full<Bytes>>) -> Result<Response<RunBody>, Fault> {
        let deadline = Instant::now() + self.timeout;
        let invocation = request.extensions_mut().remove::<Invocation>();
        let place = request.extensions_mut().remove::<Arc<Place>>();
        let invocation = invocation.ok_or_else(|| Fault::Broken("nothing says what to run".to_owned()))?;
        let prompt = read_prompt(request.into_body());
        let folder = self.program.folder.clone();
        let home = spawn_blocking(move || Home::make(&folder)).await.map_err(io::Error::other);
        let home = home.flatten().map_err(|fault| broken("its folder cannot be made", &fault))?;
        let mut body = self.start(&invocation, home, prompt, deadline)?;
        body.run.place = place;
        let mut opening = Opening::default();
        let head = loop {
            let read = std::future::poll_fn(|cx| body.poll_read(cx)).await;
            let bytes = match read {
                Some(Ok(bytes)) => bytes,
                Some(Err(fault)) if is_late(&fault) => return Err(Fault::Late),
                Some(Err(fault)) => return Err(broken("it broke off", &fault)),
                None => break after_exit(body.run.exit_code().await),
            };
            let decided = opening.push(&bytes).map_err(|error| Fault::Broken(error.message().to_owned()))?;
            if let Some(head) = decided {
                break head;
            }
        };
        let (status, first) = head;
        if status == 200 {
            body.watch(&first);
        } else {
            body.ended = true;
        }
        body.first = Some(first);
        let mut response = Response::new(body);
        *response.status_mut() = status.try_into().unwrap_or(http::StatusCode::BAD_GATEWAY);
        let content_type = http::HeaderValue::from_static(Adapter::Gemini.stream_type());
        response.headers_mut().insert(CONTENT_TYPE, content_type);
        Ok(response)
    }

    fn start(
        &self,
        invocation: &Invocation,
        home: Home,
        prompt: Bytes,
        deadline: Instant,
    ) -> Result<RunBody, Fault> {
        let mut child = self.command(invocation, &home).spawn().map_err(|fault| match fault.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied => Fault::Missing,
            _ => broken("it cannot be started", &fault),
        })?;
        let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let group = Group::of(&child);
        let run = Run { child: Some(child), group, home: Some(home), place: None };
        let (Some(input), Some(output), Some(aside)) = pipes else {
            return Err(Fault::Broken("it has no pipes".to_owned()));
        };
        Ok(RunBody {
            run,
            feed: Some((input, prompt)),
            output,
            aside: Some(aside),
            said: Aside { text: Vec::new(), is_cut: false, key: invocation.key.clone() },
            deadline: Box::pin(sleep_until(deadline)),
            timeout: self.timeout,
            first: None,
            tail: Vec::new(),
            last_line: false,
            ended: false,
        })
    }

    fn command(&self, invocation: &Invocation, home: &Home) -> Command {
        let mut command = Command::new(&self.program.path);
        let mut admin_policy = OsString::from("--admin-policy=");
        admin_policy.push(home.policy());
        command
            .arg("--output-format=stream-json")
            .arg("--approval-mode=default")
            .arg(admin_policy)
            .arg(format!("--model={}", invocation.model))
            .env_clear()
            .envs(self.program.environment.iter().map(|(name, value)| (name, value)))
            .env("HOME", home.root())
            .env("TMPDIR", home.temporary())
            .env("GEMINI_CLI_SYSTEM_SETTINGS_PATH", home.settings())
            .env("GEMINI_SYSTEM_MD", home.system())
            // It would start itself a second time, with more memory.
            .env("GEMINI_CLI_NO_RELAUNCH", "1")
            .env("NO_COLOR", "1")
            .current_dir(home.work())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        if let Some(key) = &invocation.key {
            command.env("GEMINI_API_KEY", key.expose().trim());
        }
        command
    }
}

/// What is sent to a program was made whole.
fn read_prompt(body: Full<Bytes>) -> Bytes {
    let mut body = pin!(body);
    match body.as_mut().poll_frame(&mut Context::from_waker(std::task::Waker::noop())) {
        Poll::Ready(Some(Ok(frame))) => frame.into_data().unwrap_or_default(),
        _ => Bytes::new(),
    }
}

fn broken(doing: &str, fault: &io::Error) -> Fault {
    Fault::Broken(format!("{doing}: {}", crate::net::describe(fault)))
}

/// A program that runs. When this is dropped, it and all that it started are killed, and its folder is removed.
struct Run {
    child: Option<Child>,
    group: Option<Group>,
    home: Option<Home>,
    /// Its place among those that may run, given back when it is gone.
    place: Option<Arc<Place>>,
}

impl Run {
    /// Waits for the end, but not for long. `None` when it has not come, or by a signal.
    async fn exit_code(&self) -> Option<i32> {
        let group = self.group?;
        let until = Instant::now() + GOODBYE;
        while Instant::now() < until {
            match group.ended() {
                Ok(Some(status)) => return status.exit_status(),
                Ok(None) => sleep(Duration::from_millis(5)).await,
                Err(_) => return None,
            }
        }
        None
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        if let Some(group) = self.group {
            group.kill();
        }
        let (child, home, place) = (self.child.take(), self.home.take(), self.place.take());
        if let (Some(mut child), Ok(runtime)) = (child, Handle::try_current()) {
            runtime.spawn(async move {
                if let Err(fault) = child.wait().await {
                    tracing::warn!(%fault, "a program could not be waited for");
                }
                drop(place);
                let _ = spawn_blocking(move || drop(home)).await;
            });
        }
    }
}

/// What a program prints. It is read only as fast as this is, and killed when this is dropped.
pub(in crate::gateway) struct RunBody {
    run: Run,
    /// What is yet to be said to it.
    feed: Option<(ChildStdin, Bytes)>,
    output: ChildStdout,
    aside: Option<ChildStderr>,
    said: Aside,
    deadline: Pin<Box<Sleep>>,
    timeout: Duration,
    /// What was read before the answer began.
    first: Option<Bytes>,
    /// The end of the last read, for what is split over two.
    tail: Vec<u8>,
    /// The last line has begun.
    last_line: bool,
    ended: bool,
}

impl RunBody {
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        if self.deadline.as_mut().poll(cx).is_ready() {
            self.ended = true;
            return Poll::Ready(Some(Err(io::Error::other(Late(self.timeout)))));
        }
        self.poll_feed(cx);
        self.poll_aside(cx);
        let mut space = [0; READ];
        let mut buffer = ReadBuf::new(&mut space);
        match Pin::new(&mut self.output).poll_read(cx, &mut buffer) {
            Poll::Ready(Ok(())) if buffer.filled().is_empty() => {
                self.ended = true;
                Poll::Ready(None)
            }
            Poll::Ready(Ok(())) => Poll::Ready(Some(Ok(Bytes::copy_from_slice(buffer.filled())))),
            Poll::Ready(Err(fault)) => Poll::Ready(Some(Err(fault))),
            Poll::Pending => Poll::Pending,
        }
    }

    /// Says more of the prompt, and closes its input at the end. A program that does not listen has its reasons.
    fn poll_feed(&mut self, cx: &mut Context<'_>) {
        while let Some((input, prompt)) = &mut self.feed {
            if prompt.is_empty() {
                self.feed = None;
                return;
            }
            match Pin::new(input).poll_write(cx, prompt) {
                Poll::Ready(Ok(written)) if written > 0 => prompt.advance(written),
                Poll::Ready(_) => self.feed = None,
                Poll::Pending => return,
            }
        }
    }

    /// Remembers the end of what it says on the side.
    fn poll_aside(&mut self, cx: &mut Context<'_>) {
        while let Some(aside) = &mut self.aside {
            let mut space = [0; ASIDE];
            let mut buffer = ReadBuf::new(&mut space);
            match Pin::new(aside).poll_read(cx, &mut buffer) {
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => self.said.hear(buffer.filled()),
                Poll::Ready(_) => self.aside = None,
                Poll::Pending => return,
            }
        }
    }

    /// Looks for the last line. Whatever holds the output open after it, the answer is over.
    fn watch(&mut self, bytes: &[u8]) {
        let mut from = 0;
        if !self.last_line {
            let at = memmem::find(bytes, LAST_LINE).map(|at| at + LAST_LINE.len());
            // Or over the seam of two reads.
            let seam = || {
                let head = bytes.get(..LAST_LINE.len().min(bytes.len())).unwrap_or_default();
                let joined = [self.tail.as_slice(), head].concat();
                memmem::find(&joined, LAST_LINE)
                    .map(|at| (at + LAST_LINE.len()).saturating_sub(self.tail.len()))
            };
            match at.or_else(seam) {
                Some(end) => (self.last_line, from) = (true, end),
                None => {
                    self.tail.extend_from_slice(
                        bytes.get(bytes.len().saturating_sub(LAST_LINE.len())..).unwrap_or_default(),
                    );
                    let surplus = self.tail.len().saturating_sub(LAST_LINE.len() - 1);
                    self.tail.drain(..surplus);
                    return;
                }
            }
        }
        self.ended = bytes.get(from..).is_some_and(|rest| rest.contains(&b'\n'));
    }
}

impl Body for RunBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let this = self.get_mut();
        if let Some(first) = this.first.take() {
            return Poll::Ready(Some(Ok(Frame::data(first))));
        }
        this.poll_read(cx).map(|read| {
            read.map(|bytes| {
                bytes.map(|bytes| {
                    this.watch(&bytes);
                    Frame::data(bytes)
                })
            })
        })
    }
}

/// The program has run for as long as it may.
#[derive(Debug)]
struct Late(Duration);

impl std::fmt::Display for Late {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "it was not done in {} seconds", self.0.as_secs_f64())
    }
}

impl std::error::Error for Late {}

/// Whether a fault is that the program has run for as long as it may.
pub(super) fn is_late(fault: &io::Error) -> bool {
    fault.get_ref().is_some_and(|inner| inner.is::<Late>())
}

/// What a program says on the side: for the log of those who look, and for no caller.
struct Aside {
    text: Vec<u8>,
    /// Its beginning was forgotten, so what is there begins anywhere: inside the key, for one.
    is_cut: bool,
    key: Option<SecretValue>,
}

impl Aside {
    fn hear(&mut self, bytes: &[u8]) {
        self.text.extend_from_slice(bytes);
        let surplus = self.text.len().saturating_sub(ASIDE);
        self.is_cut |= surplus > 0;
        self.text.drain(..surplus);
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        if !tracing::enabled!(tracing::Level::DEBUG) {
            return;
        }
        let mut text = String::from_utf8_lossy(&self.text).into_owned();
        if let Some(key) = self.key.as_ref().map(|key| key.expose().trim()).filter(|key| !key.is_empty()) {
            text = text.replace(key, "[redacted]");
        }
        let whole = text.lines().skip(usize::from(self.is_cut));
        let Some(line) = whole.filter(|line| !line.trim().is_empty()).last() else { return };
        let line: String = line.chars().filter(|letter| !letter.is_control()).take(200).collect();
        tracing::debug!(line, "the gemini program said on the side");
    }
}
