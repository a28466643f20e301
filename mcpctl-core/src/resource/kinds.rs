//! The table of kinds. A new kind is a file beside this one and a row here.

use super::{Kind, group, llm, mcp_token, project, rbac, secret, secret_backend, user};

/// Where secret values live.
pub const SECRET_BACKENDS: Kind = Kind(&secret_backend::DEF);
/// Named maps of secret values.
pub const SECRETS: Kind = Kind(&secret::DEF);
/// Model endpoints.
pub const LLMS: Kind = Kind(&llm::DEF);
/// People who log in.
pub const USERS: Kind = Kind(&user::DEF);
/// Users who get roles together.
pub const GROUPS: Kind = Kind(&group::DEF);
/// Teams' settings.
pub const PROJECTS: Kind = Kind(&project::DEF);
/// Who may do what.
pub const RBAC: Kind = Kind(&rbac::DEF);
/// Tokens for programs.
pub const MCP_TOKENS: Kind = Kind(&mcp_token::DEF);

/// Every kind.
pub const ALL: &[Kind] = &[SECRET_BACKENDS, SECRETS, LLMS, USERS, GROUPS, PROJECTS, RBAC, MCP_TOKENS];
