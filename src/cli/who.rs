//! Who decides or approves: what the journal and a mapping's signature name for good.

use crate::pipeline::decision::{NOBODY, who};

/// Who decides something.
#[derive(Debug, clap::Args)]
pub(super) struct Who {
    /// Who decides, for the journal.
    #[arg(long, value_name = "NAME", env = "USER", default_value = "")]
    by: String,
}

impl Who {
    /// His name; what only looks does not ask for it.
    pub(super) fn name(&self) -> Result<&str, String> {
        name(&self.by)
    }
}

/// A name that names somebody.
pub(super) fn name(by: &str) -> Result<&str, String> {
    who(by).ok_or_else(|| format!("{NOBODY}: write --by NAME"))
}
