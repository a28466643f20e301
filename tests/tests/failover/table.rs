//! Every way in which a call can go, against the rule that says how it must go.

use std::{collections::HashMap, sync::Arc, time::Duration};

use mcpctl_core::{
    ErrorKind,
    client::{Client, Token},
    failover::{
        Decision, FailoverClient, Kept, LeaseBook, LeaseStore as _, LocalLlm, MemoryLeases, ProviderRegistry,
        ServerPermission, registry_of,
    },
    lease::{Claims, SigningKey, token_fingerprint},
};
use serde_json::Value;
use tests::{Provider, provider::answer::text, wait::within};
use tokio::{
    sync::Semaphore,
    task::JoinSet,
    time::{Instant, timeout},
};

use super::{
    question, stand_in,
    stub::{Conduct, StubServer},
};

const TOKEN: &str = "token-that-stays-home";
/// A deadline that is meant to pass, and one that is not.
const SHORT: Duration = Duration::from_millis(100);
const LONG: Duration = Duration::from_secs(30);

const PRIMARIES: [Conduct; 7] = [
    Conduct::Good,
    Conduct::Status(422),
    Conduct::Status(502),
    Conduct::Refuses,
    Conduct::Silent,
    Conduct::CutBefore,
    Conduct::CutAfter,
];

const PROBES: [Conduct; 8] = [
    Conduct::Status(200),
    Conduct::Status(204),
    Conduct::Status(401),
    Conduct::Status(403),
    Conduct::Status(404),
    Conduct::Status(500),
    Conduct::Refuses,
    Conduct::Silent,
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lease {
    None,
    Valid,
    Expired,
    Forged,
    OtherUser,
    OtherLlm,
    ClockSetBack,
}

const LEASES: [Lease; 7] = [
    Lease::None,
    Lease::Valid,
    Lease::Expired,
    Lease::Forged,
    Lease::OtherUser,
    Lease::OtherLlm,
    Lease::ClockSetBack,
];

#[derive(Clone, Copy, Debug)]
struct Case {
    number: usize,
    primary: Conduct,
    mapped: bool,
    probe: Conduct,
    lease: Lease,
    streamed: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Outcome {
    /// The text of the primary.
    Primary(String),
    /// The beginning of the primary's text, then its own error.
    BrokenOff(String, ErrorKind, String),
    /// The text of the local provider.
    Local(String),
    /// The primary's own error.
    Failed(ErrorKind, String),
    /// It waits for the primary.
    Waiting,
}

/// What must come of a case: told again from the promise, not from the code.
fn expected(case: Case, own_error: &Option<(ErrorKind, String)>) -> Outcome {
    let own = |outcome: fn(ErrorKind, String) -> Outcome| {
        let (kind, message) = own_error.clone().expect("this primary fails");
        outcome(kind, message)
    };
    let down = match case.primary {
        Conduct::Good => return Outcome::Primary("primary".to_owned()),
        Conduct::CutAfter if case.streamed => {
            return own(|kind, message| Outcome::BrokenOff("pri".to_owned(), kind, message));
        }
        Conduct::Silent if !case.mapped => return Outcome::Waiting,
        Conduct::Status(status) => status >= 500,
        Conduct::Refuses | Conduct::Silent | Conduct::CutBefore | Conduct::CutAfter => true,
    };
    let allowed = matches!(case.probe, Conduct::Status(200 | 204));
    let no_word = matches!(case.probe, Conduct::Status(500) | Conduct::Refuses | Conduct::Silent);
    let leased = no_word && case.lease == Lease::Valid;
    if down && case.mapped && (allowed || leased) {
        return Outcome::Local(text());
    }
    own(Outcome::Failed)
}

/// What all cases share.
struct Stage {
    primaries: HashMap<usize, (StubServer, Client)>,
    probes: HashMap<usize, (StubServer, Client)>,
    mapped: Arc<ProviderRegistry<LocalLlm>>,
    unmapped: Arc<ProviderRegistry<LocalLlm>>,
    key: SigningKey,
    other_key: SigningKey,
    local: Provider,
}

async fn stubs(conducts: &[Conduct]) -> HashMap<usize, (StubServer, Client)> {
    let mut stubs = HashMap::new();
    for (at, conduct) in conducts.iter().enumerate() {
        let stub = StubServer::start(*conduct).await;
        let client = Client::new(&stub.url(), Some(Token::new(TOKEN))).unwrap();
        stubs.insert(at, (stub, client));
    }
    stubs
}

impl Stage {
    async fn set() -> Self {
        let local = Provider::start().await;
        Self {
            primaries: stubs(&PRIMARIES).await,
            probes: stubs(&PROBES).await,
            mapped: stand_in(&local.url()),
            unmapped: Arc::new(registry_of(Vec::new()).unwrap()),
            key: SigningKey::generate().unwrap(),
            other_key: SigningKey::generate().unwrap(),
            local,
        }
    }

    fn primary(&self, conduct: Conduct) -> &Client {
        &self.primaries[&PRIMARIES.iter().position(|known| *known == conduct).unwrap()].1
    }

    fn probe(&self, conduct: Conduct) -> &Client {
        &self.probes[&PROBES.iter().position(|known| *known == conduct).unwrap()].1
    }

    fn leases(&self, lease: Lease, client: &Client) -> LeaseBook {
        let now = jiff::Timestamp::now().as_second();
        let good = Claims {
            sub: "u1".to_owned(),
            llm: "gpt".to_owned(),
            iat: now - 10,
            exp: now + 600,
            cnf: token_fingerprint(TOKEN),
        };
        let text = match lease {
            Lease::None => None,
            Lease::Valid | Lease::ClockSetBack => Some(self.key.sign(&good)),
            Lease::Expired => Some(self.key.sign(&Claims { iat: now - 60, exp: now - 1, ..good })),
            Lease::Forged => Some(self.other_key.sign(&good)),
            Lease::OtherUser => Some(self.key.sign(&Claims { cnf: token_fingerprint("another"), ..good })),
            Lease::OtherLlm => Some(self.key.sign(&Claims { llm: "gpt-4".to_owned(), ..good })),
        };
        let store = MemoryLeases::default();
        let mut fill = |kept: &mut Kept| {
            kept.keys = self.key.public().to_jwks();
            kept.leases.extend(text.clone().map(|text| ("gpt".to_owned(), text)));
            kept.latest = if lease == Lease::ClockSetBack { now + 3600 } else { now };
        };
        store.update(client.base_url(), &mut fill).unwrap();
        LeaseBook::open(client, Arc::new(store))
    }

    /// The error that the primary gives by itself, with no failover anywhere.
    async fn own_error(&self, primary: Conduct, streamed: bool) -> Option<(ErrorKind, String)> {
        let client = self.primary(primary);
        let told = |error: mcpctl_core::Error| (error.kind(), error.message().to_owned());
        if primary == Conduct::Silent {
            // By itself it would wait for ever. A bound makes it the error of any server that is too slow.
            let message = format!(
                "cannot reach mcpctl-server at {}: no answer in time; check that the host is up and no firewall is in \
                 between, or try again",
                client.base_url()
            );
            return Some((ErrorKind::Unavailable, message));
        }
        if !streamed {
            return client.infer("gpt", &question("own")).await.err().map(told);
        }
        let mut stream = match client.infer_stream("gpt", &question("own")).await {
            Ok(stream) => stream,
            Err(error) => return Some(told(error)),
        };
        while let Some(chunk) = stream.next().await {
            if let Err(error) = chunk {
                return Some(told(error));
            }
        }
        None
    }

    async fn run(&self, case: Case) -> Outcome {
        let probe = self.probe(case.probe);
        let leases = self.leases(case.lease, probe);
        let patience = if case.probe == Conduct::Silent { SHORT } else { LONG };
        let permission = ServerPermission::new(probe, Some(leases)).with_deadline(patience);
        let providers = if case.mapped { &self.mapped } else { &self.unmapped };
        let client = self.primary(case.primary);
        let patience = if case.primary == Conduct::Silent { SHORT } else { LONG };
        let client = FailoverClient::with_permission(client, providers.clone(), None, Arc::new(permission))
            .with_patience(patience);
        let call = outcome(&client, case);
        if case.primary == Conduct::Silent && !case.mapped {
            return timeout(SHORT * 2, call).await.unwrap_or(Outcome::Waiting);
        }
        within(LONG * 2, &format!("{case:?}"), call).await
    }
}

async fn outcome(client: &FailoverClient, case: Case) -> Outcome {
    let asked = question(&marker(case.number));
    let failed = |error: mcpctl_core::Error| Outcome::Failed(error.kind(), error.message().to_owned());
    if !case.streamed {
        return match client.infer("gpt", &asked).await {
            Ok(routed) => {
                let text = routed.value["choices"][0]["message"]["content"].as_str().unwrap().to_owned();
                answered(routed.failover, routed.via.as_deref(), &routed.decision, text, case)
            }
            Err(not) => failed(not.error),
        };
    }
    let mut routed = match client.infer_stream("gpt", &asked).await {
        Ok(routed) => routed,
        Err(not) => return failed(not.error),
    };
    let mut text = String::new();
    while let Some(chunk) = routed.value.next().await {
        match chunk {
            Ok(chunk) => text.push_str(chunk["choices"][0]["delta"]["content"].as_str().unwrap_or_default()),
            Err(error) => return Outcome::BrokenOff(text, error.kind(), error.message().to_owned()),
        }
    }
    answered(routed.failover, routed.via.as_deref(), &routed.decision, text, case)
}

fn answered(failover: bool, via: Option<&str>, decision: &Decision, text: String, case: Case) -> Outcome {
    if !failover {
        assert_eq!((via, decision), (None, &Decision::Primary), "{case:?}");
        return Outcome::Primary(text);
    }
    let allowed = matches!(case.probe, Conduct::Status(200 | 204));
    let decided = if allowed { Decision::FailedOver } else { Decision::Leased };
    assert_eq!((via, decision), (Some("local"), &decided), "{case:?}");
    Outcome::Local(text)
}

fn marker(number: usize) -> String {
    format!("case {number}.")
}

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for primary in PRIMARIES {
        for (mapped, streamed) in [(false, false), (false, true), (true, false), (true, true)] {
            for probe in PROBES {
                for lease in LEASES {
                    cases.push(Case { number: cases.len(), primary, mapped, probe, lease, streamed });
                }
            }
        }
    }
    cases
}

#[tokio::test]
async fn every_call_goes_as_the_rule_says() {
    let began = Instant::now();
    let stage = Arc::new(Stage::set().await);
    let mut own_errors = HashMap::new();
    for (at, primary) in PRIMARIES.into_iter().enumerate() {
        for streamed in [false, true] {
            own_errors.insert((at, streamed), stage.own_error(primary, streamed).await);
        }
    }
    let at_once = Arc::new(Semaphore::new(32));
    let mut running = JoinSet::new();
    for case in cases() {
        let (stage, at_once) = (stage.clone(), at_once.clone());
        running.spawn(async move {
            let _place = at_once.acquire_owned().await.unwrap();
            (case, stage.run(case).await)
        });
    }
    let results = running.join_all().await;
    // What the local provider was asked, by case.
    let mut asked: HashMap<String, usize> = HashMap::new();
    for request in stage.local.received() {
        assert!(!request.text().contains(TOKEN), "the token went to the local provider");
        assert_eq!(request.json()["model"], "local-1");
        let marker = request.json()["messages"][0]["content"].as_str().unwrap().to_owned();
        *asked.entry(marker).or_default() += 1;
    }
    let mut faults = Vec::new();
    let mut local = 0;
    for (case, outcome) in &results {
        let at = PRIMARIES.iter().position(|known| *known == case.primary).unwrap();
        let expected = expected(*case, &own_errors[&(at, case.streamed)]);
        if *outcome != expected {
            faults.push(format!("{case:?}: expected {expected:?}, not {outcome:?}"));
        }
        let calls = usize::from(matches!(expected, Outcome::Local(_)));
        local += calls;
        if asked.get(&marker(case.number)).copied().unwrap_or_default() != calls {
            faults.push(format!("{case:?}: the local provider was not asked {calls} times"));
        }
    }
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
    assert_eq!(results.len(), 7 * 2 * 8 * 7 * 2);
    eprintln!("{} cases, {local} of them answered locally, in {:?}", results.len(), began.elapsed());
}

#[tokio::test]
async fn a_stand_in_that_fails_leaves_the_primary_s_own_error() {
    let stage = Stage::set().await;
    stage.local.misbehave(tests::Fault::Status(429));
    let client = stage.primary(Conduct::Status(502));
    let permission = ServerPermission::new(stage.probe(Conduct::Status(200)), None);
    let client = FailoverClient::with_permission(client, stage.mapped.clone(), None, Arc::new(permission));
    let own = stage.own_error(Conduct::Status(502), false).await.unwrap();
    for streamed in [false, true] {
        let not = match streamed {
            true => client.infer_stream("gpt", &question("x")).await.map(|_| Value::Null).map(drop),
            false => client.infer("gpt", &question("x")).await.map(drop),
        }
        .unwrap_err();
        assert_eq!((not.error.kind(), not.error.message()), (own.0, own.1.as_str()));
        let Decision::StandInFailed(why) = not.decision else { panic!("{:?}", not.decision) };
        assert!(why.starts_with("local: local provider `local`: it answered 429: "), "{why}");
    }
}
