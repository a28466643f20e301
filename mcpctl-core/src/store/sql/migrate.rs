//! Bringing a database's tables up to date.

use std::collections::BTreeSet;

use diesel::{backend::Backend, migration::MigrationSource};
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};

use crate::error::{Error, Result};

const MIGRATIONS: EmbeddedMigrations = embed_migrations!("migrations");

/// Runs the migrations that have not run yet. Each happens whole or not at all.
pub(super) fn migrate<D: Backend>(database: &mut impl MigrationHarness<D>) -> Result<()> {
    let failed = |cause| Error::internal(cause).during("store.migrate");
    let known: Vec<_> = MigrationSource::<D>::migrations(&MIGRATIONS).map_err(failed)?;
    let known: BTreeSet<String> =
        known.iter().map(|migration| migration.name().version().to_string()).collect();
    let applied = database.applied_migrations().map_err(failed)?;
    if applied.iter().any(|version| !known.contains(&version.to_string())) {
        return Err(Error::conflict("a newer version of this program has changed the tables; use that one"));
    }
    database.run_pending_migrations(MIGRATIONS).map_err(failed)?;
    Ok(())
}
