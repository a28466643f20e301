use super::*;
use crate::ErrorKind;

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);

/// A limiter and a clock that only goes when it is told to.
struct World {
    limiter: LoginLimiter,
    now: Instant,
}

impl World {
    fn new() -> Self {
        Self { limiter: LoginLimiter::new(), now: Instant::now() }
    }

    fn wait(&mut self, pause: Duration) {
        self.now += pause;
    }

    /// A wrong password; how long to wait, if it is not even looked at.
    fn fail(&self, account: &str, address: &str) -> Option<Duration> {
        self.refusal(self.limiter.begin_at(account, address, self.now))
    }

    /// The right password.
    fn log_in(&self, account: &str, address: &str) -> Option<Duration> {
        let refusal = self.refusal(self.limiter.begin_at(account, address, self.now));
        if refusal.is_none() {
            self.limiter.succeeded_at(account, address, self.now);
        }
        refusal
    }

    fn refusal(&self, result: Result<()>) -> Option<Duration> {
        let error = result.err()?;
        assert_eq!(error.kind(), ErrorKind::RateLimited);
        error.retry_after()
    }

    /// Guesses as often as it may for so long; how often that was.
    fn guess_for(
        &mut self,
        time: Duration,
        account: impl Fn(usize) -> String,
        address: impl Fn(usize) -> String,
    ) -> usize {
        let (end, mut guesses) = (self.now + time, 0);
        while self.now < end {
            match self.fail(&account(guesses), &address(guesses)) {
                None => guesses += 1,
                Some(pause) => self.wait(pause),
            }
        }
        guesses
    }
}

#[test]
fn an_account_is_closed_to_one_address_and_to_no_other() {
    let mut world = World::new();
    for _ in 0..10 {
        assert_eq!(world.fail("a", "1.1.1.1"), None);
    }
    assert_eq!(world.fail("a", "1.1.1.1"), Some(5 * SECOND));
    assert_eq!(
        world.log_in("a", "1.1.1.1"),
        Some(5 * SECOND),
        "nothing tells a right password from a wrong one"
    );
    assert_eq!(world.log_in("a", "2.2.2.2"), None);
    assert_eq!(world.log_in("b", "1.1.1.1"), None);
    world.wait(5 * SECOND);
    assert_eq!(world.log_in("a", "1.1.1.1"), None);
    assert_eq!(world.fail("a", "1.1.1.1"), None, "a login clears it");
}

#[test]
fn every_failure_doubles_the_pause_up_to_a_limit() {
    let mut world = World::new();
    for _ in 0..10 {
        world.fail("a", "1.1.1.1");
    }
    let mut pauses = Vec::new();
    for _ in 0..8 {
        let pause = world.fail("a", "1.1.1.1").unwrap();
        pauses.push(pause.as_secs());
        world.wait(pause - Duration::from_millis(1));
        assert_eq!(world.fail("a", "1.1.1.1"), Some(Duration::from_millis(1)));
        world.wait(Duration::from_millis(1));
        assert_eq!(world.fail("a", "1.1.1.1"), None);
    }
    // What shrinks meanwhile, and is most of one failure in the longest pause, is why one is there twice.
    assert_eq!(pauses, [5, 10, 20, 40, 80, 160, 160, 300]);
}

#[test]
fn guesses_are_slow_whoever_makes_them() {
    let fixed = |text: &'static str| move |_: usize| text.to_owned();
    let address = |n: usize| format!("10.{}.{}.{}", n >> 16, n >> 8 & 255, n & 255);
    let at_one = World::new().guess_for(24 * HOUR, fixed("a"), fixed("1.1.1.1"));
    assert!((250..=320).contains(&at_one), "{at_one} guesses a day from one address");
    let at_many = World::new().guess_for(24 * HOUR, fixed("a"), address);
    assert!((1400..=1700).contains(&at_many), "{at_many} guesses a day from many addresses");
    let sprayed = World::new().guess_for(24 * HOUR, |n| n.to_string(), fixed("1.1.1.1"));
    assert!((8000..=9500).contains(&sprayed), "{sprayed} guesses a day at many accounts");
}

#[test]
fn the_owner_gets_in_where_they_usually_do() {
    let mut world = World::new();
    assert_eq!(world.log_in("a", "1.1.1.1"), None);
    for n in 0..100 {
        assert_eq!(world.fail("a", &format!("9.9.9.{n}")), None);
    }
    assert!(world.fail("a", "8.8.8.8").is_some(), "an address that nobody knows");
    for n in 0..50 {
        // Somebody behind the same address guesses at others.
        world.fail(&n.to_string(), "1.1.1.1");
    }
    assert!(world.fail("b", "1.1.1.1").is_some());
    assert_eq!(world.log_in("a", "1.1.1.1"), None);
    world.wait(31 * 24 * HOUR);
    for n in 0..100 {
        world.fail("a", &format!("9.9.9.{n}"));
    }
    assert!(world.log_in("a", "1.1.1.1").is_some(), "after a month it is an address like any other");
}

#[test]
fn an_account_of_ones_own_does_not_help_to_guess_at_others() {
    let world = World::new();
    let mut guesses = 0;
    for n in 0..500 {
        assert_eq!(world.log_in("own", "1.1.1.1"), None);
        guesses += usize::from(world.fail(&n.to_string(), "1.1.1.1").is_none());
    }
    assert_eq!(guesses, 50);
}

#[test]
fn many_logins_at_once_are_no_failures() {
    let world = World::new();
    // Each begins before the one before has ended.
    world.limiter.begin_at("a", "1.1.1.1", world.now).unwrap();
    for _ in 0..200 {
        world.limiter.begin_at("a", "1.1.1.1", world.now).unwrap();
        world.limiter.succeeded_at("a", "1.1.1.1", world.now);
    }
}

#[test]
fn a_network_of_ipv6_is_one_address() {
    let world = World::new();
    for n in 0..10 {
        assert_eq!(world.fail("a", &format!("2001:db8:0:1::{n:x}")), None);
    }
    assert!(world.fail("a", "2001:db8:0:1:ffff::1").is_some());
    assert_eq!(world.fail("a", "2001:db8:0:2::1"), None);
    for _ in 0..10 {
        world.fail("b", "::ffff:1.1.1.1");
    }
    assert!(world.fail("b", "1.1.1.1").is_some());
    assert_eq!(world.fail("b", "::ffff:1.1.1.2"), None);
}

#[test]
fn memory_is_bounded_and_the_latest_are_remembered() {
    let mut world = World::new();
    for n in 0..MOST + 50 {
        world.fail(&format!("made-up-{n}"), &format!("2001:db8:{:x}:{:x}::", n >> 16, n & 0xffff));
        world.wait(Duration::from_millis(1));
    }
    let state = world.limiter.state();
    for counts in [&state.pairs, &state.addresses, &state.accounts] {
        assert!(counts.counts.len() <= MOST, "{}", counts.counts.len());
    }
    drop(state);
    for _ in 0..10 {
        assert_eq!(world.fail("a", "1.1.1.1"), None);
    }
    assert!(world.fail("a", "1.1.1.1").is_some(), "a flood does not hide a guesser");
    world.wait(HOUR);
    world.fail("one more", "1.1.1.2");
    assert!(world.limiter.state().pairs.counts.len() < MOST, "what is long ago goes first");
}
