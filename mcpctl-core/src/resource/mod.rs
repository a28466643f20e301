//! What exists: the kinds, their fields and rules, and the objects. Plain data, no I/O.
//!
//! A kind is one file here (its [`KindDef`]: names, fields, table columns) and one row in [`kinds`]. Storage,
//! validation, HTTP routes, permissions and the CLI's output all follow from that definition.

mod body;
mod event;
mod faults;
mod field;
mod group;
mod id;
mod kind;
pub mod kinds;
mod llm;
mod mcp_token;
mod object;
mod openbao;
mod project;
mod rbac;
mod read;
mod secret;
mod secret_backend;
mod sequence;
mod session;
mod tidy;
mod user;
mod view;

pub use body::parse_body;
pub(crate) use event::first_id_at;
pub use event::{
    Actor, AuditEvent, Backup, Change, Denial, EventDetail, Impersonation, InferenceCall, Login, Migration,
    Rekey, Reveal,
};
pub use faults::Faults;
pub use field::{Field, FieldType, Mention, OnDelete};
pub use group::{GroupSpec, Member};
pub use id::{Id, NameRule};
pub use kind::{Behaviour, Column, ColumnValue, Kind, KindDef};
pub(crate) use llm::is_metadata_address;
pub use llm::{ApiKeyRef, LlmSpec, LlmType};
pub use mcp_token::McpTokenSpec;
pub use object::{Object, Revision, Spec, now};
pub use openbao::{OpenBaoAuth, OpenBaoConfig};
pub(crate) use openbao::{openbao_config, reference_mut, references};
pub use project::ProjectSpec;
pub use rbac::{RbacSpec, RoleBinding, Subject};
pub use read::{Reading, SuppliedSpec};
pub use secret::SecretSpec;
pub use secret_backend::{MASK, SecretBackendSpec, is_credential_key};
pub use sequence::apply_sequence;
pub use session::{Session, TokenHash};
pub use tidy::steers;
pub(crate) use tidy::tidied;
pub use user::UserSpec;
pub use view::{text_of, view};
