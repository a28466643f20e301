//! Who is there: passwords, sessions, principals.

mod limiter;
mod password;
mod principal;

pub(crate) use limiter::LoginLimiter;
pub(crate) use password::{Passwords, is_hash};
pub(crate) use principal::ApiToken;
pub use principal::{Principal, new_token};
