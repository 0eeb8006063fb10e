//! What a gateway keeps, read by commands beside it.

use crate::{config::Config, shell::store::Sqlite};

/// The store of a configuration's gateway, which may run meanwhile.
pub(super) fn store(config: &Config) -> Result<Sqlite, String> {
    let path = config.data.directory.join("store.sqlite");
    if !path.exists() {
        return Err(format!("{} is not there: has a gateway with this configuration ever run?", path.display()));
    }
    Sqlite::reader(&path).map_err(|error| format!("{}: {error}", path.display()))
}
