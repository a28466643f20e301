//! Random bytes.

/// `N` bytes from the operating system.
///
/// Without random numbers no token, key or id of this process could be trusted, so failing to get them ends it.
#[expect(clippy::expect_used, reason = "there is no safe way to go on without random numbers")]
pub(crate) fn bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the operating system has no random numbers");
    bytes
}
