//! Makes load, and checks every answer.

use std::{
    cell::RefCell,
    net::SocketAddr,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::{Mutex, mpsc},
    task::LocalSet,
    time::timeout,
};

use crate::{
    Result,
    http::{Checker, head_end},
};

/// What to send, where, and what must come back.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The target.
    pub address: SocketAddr,
    /// The whole request.
    pub request: Vec<u8>,
    /// The answer's body.
    pub expected: Vec<u8>,
    /// How many connections, each with one request at a time.
    pub connections: usize,
    /// For how long requests are started; those that run are finished.
    pub duration: Duration,
    /// Requests per second, due at even times whatever the target does; without one, each connection sends its
    /// next request when it has its answer.
    pub rate: Option<f64>,
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Answers that were right.
    pub answers: u64,
    /// Answers that were not, and connections that failed.
    pub failures: u64,
    /// The first failure, in words.
    pub first_failure: Option<String>,
    /// From the request (from when it was due, at a fixed rate) to the end of its answer, in nanoseconds.
    pub latencies: Vec<u64>,
    /// How long it all took.
    pub elapsed: Duration,
}

/// An answer that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(60);

/// Carries out a plan on the current thread.
///
/// # Errors
///
/// When the runtime cannot be had; failures of the target are in the outcome.
pub fn run(plan: &Plan) -> Result<Outcome> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let outcome = Rc::new(RefCell::new(Outcome::default()));
    let began = Instant::now();
    let local = LocalSet::new();
    let plan = Rc::new(plan.clone());
    let due = plan.rate.map(|rate| Rc::new(Mutex::new(pace(rate, began, plan.duration))));
    for _ in 0..plan.connections {
        let (plan, outcome, due) = (plan.clone(), outcome.clone(), due.clone());
        local.spawn_local(async move { work(&plan, began, due.as_deref(), &outcome).await });
    }
    runtime.block_on(local);
    let mut outcome = outcome.take();
    outcome.elapsed = began.elapsed();
    Ok(outcome)
}

/// Says when requests are due. A thread of its own sleeps more exactly than the runtime's timer.
fn pace(rate: f64, began: Instant, duration: Duration) -> mpsc::UnboundedReceiver<Instant> {
    let (sender, receiver) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        for number in 0_u32.. {
            let due = began + Duration::from_secs_f64(f64::from(number) / rate);
            if due >= began + duration {
                return;
            }
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            if sender.send(due).is_err() {
                return;
            }
        }
    });
    receiver
}

/// One connection.
async fn work(
    plan: &Plan,
    began: Instant,
    due: Option<&Mutex<mpsc::UnboundedReceiver<Instant>>>,
    outcome: &RefCell<Outcome>,
) {
    let mut connection = None;
    loop {
        let start = match due {
            Some(due) => match due.lock().await.recv().await {
                Some(start) => start,
                None => return,
            },
            None if began.elapsed() >= plan.duration => return,
            None => Instant::now(),
        };
        let asked = timeout(PATIENCE, ask(plan, &mut connection)).await;
        let asked = asked.unwrap_or_else(|_| Err("no answer in time".into()));
        let mut outcome = outcome.borrow_mut();
        match asked {
            Ok(()) => {
                outcome.answers += 1;
                let nanos = start.elapsed().as_nanos();
                outcome.latencies.push(nanos.try_into().unwrap_or(u64::MAX));
            }
            Err(fault) => {
                outcome.failures += 1;
                outcome.first_failure.get_or_insert_with(|| fault.to_string());
                connection = None;
                if outcome.failures > 1000 {
                    return;
                }
            }
        }
    }
}

/// A connection, and what has been read from it.
struct Connection {
    socket: TcpStream,
    received: Vec<u8>,
}

async fn ask(plan: &Plan, connection: &mut Option<Connection>) -> Result<()> {
    let checker = begin(plan, connection).await?;
    finish(checker, connection).await
}

/// Sends the request, and reads the head of its answer.
async fn begin<'a>(plan: &'a Plan, connection: &mut Option<Connection>) -> Result<Checker<'a>> {
    if connection.is_none() {
        let socket = TcpStream::connect(plan.address).await?;
        socket.set_nodelay(true)?;
        *connection = Some(Connection { socket, received: Vec::with_capacity(64 * 1024) });
    }
    let Some(Connection { socket, received }) = connection else { return Err("no connection".into()) };
    socket.write_all(&plan.request).await?;
    loop {
        if let Some(end) = head_end(received) {
            let checker = Checker::new(&received[..end], &plan.expected)?;
            received.drain(..end);
            return Ok(checker);
        }
        if socket.read_buf(received).await? == 0 {
            return Err("closed before an answer".into());
        }
    }
}

/// Reads the rest of the answer.
async fn finish(mut checker: Checker<'_>, connection: &mut Option<Connection>) -> Result<()> {
    let Some(Connection { socket, received }) = connection else { return Err("no connection".into()) };
    loop {
        let used = checker.take(received)?;
        received.drain(..used);
        if checker.is_done() {
            return Ok(());
        }
        if socket.read_buf(received).await? == 0 {
            return Err("closed in the middle of an answer".into());
        }
    }
}

/// Streams that stay open until they are let go.
pub struct Held {
    let_go: Arc<AtomicBool>,
    /// How many have begun, and how many have failed.
    counts: Arc<[AtomicUsize; 2]>,
    wanted: usize,
    thread: std::thread::JoinHandle<Result<Outcome>>,
}

impl Held {
    /// Opens `plan.connections` streams, whose answers take long, all at once.
    pub fn open(plan: Plan) -> Self {
        let (let_go, counts, wanted) = (Arc::new(AtomicBool::new(false)), Arc::default(), plan.connections);
        let (flag, shared) = (let_go.clone(), Arc::clone(&counts));
        let thread = std::thread::spawn(move || hold(plan, &flag, &shared));
        Self { let_go, counts, wanted, thread }
    }

    /// Waits until every stream has begun, or one has failed, or `patience` is over. Says how many have begun.
    pub fn wait(&self, patience: Duration) -> usize {
        let until = Instant::now() + patience;
        loop {
            let [begun, failed] = [0, 1].map(|at: usize| self.counts[at].load(Ordering::Relaxed));
            if begun >= self.wanted || failed > 0 || Instant::now() > until {
                return begun;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Closes them.
    ///
    /// # Errors
    ///
    /// When their thread failed.
    pub fn close(self) -> Result<Outcome> {
        self.let_go.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| "the load's thread ended early")?
    }
}

fn hold(plan: Plan, let_go: &AtomicBool, counts: &Arc<[AtomicUsize; 2]>) -> Result<Outcome> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let local = LocalSet::new();
    let outcome = Rc::new(RefCell::new(Outcome::default()));
    let plan = Rc::new(plan);
    for _ in 0..plan.connections {
        let (plan, outcome, counts) = (plan.clone(), outcome.clone(), counts.clone());
        local.spawn_local(async move {
            let mut connection = None;
            let held = async {
                let checker = begin(&plan, &mut connection).await?;
                counts[0].fetch_add(1, Ordering::Relaxed);
                finish(checker, &mut connection).await
            };
            if let Err(fault) = held.await {
                counts[1].fetch_add(1, Ordering::Relaxed);
                let mut outcome = outcome.borrow_mut();
                outcome.failures += 1;
                outcome.first_failure.get_or_insert_with(|| fault.to_string());
            }
        });
    }
    runtime.block_on(local.run_until(async {
        while !let_go.load(Ordering::Relaxed) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }));
    drop(local);
    Ok(outcome.take())
}
