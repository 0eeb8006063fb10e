//! A secret: `X_file`, `X_env` or `X_command`, of which one stands in the file.

use std::{path::Path, time::Duration};

use super::{
    server::split,
    table::{Span, Table},
};
use crate::shell::secrets::{self, Secret, command};

/// The three keys of one secret.
pub(super) struct Keys {
    /// The path of a file that holds it.
    file: &'static str,
    /// The name of an environment variable.
    env: &'static str,
    /// A program and its arguments, whose output it is.
    command: &'static str,
}

macro_rules! keys {
    ($name:literal) => {
        Keys { file: concat!($name, "_file"), env: concat!($name, "_env"), command: concat!($name, "_command") }
    };
}

pub(super) const CLIENT_SECRET: Keys = keys!("client_secret");
pub(super) const REFRESH_TOKEN: Keys = keys!("refresh_token");
pub(super) const PRIVATE_KEY: Keys = keys!("private_key");
pub(super) const TOKENS: Keys = keys!("tokens");
pub(super) const SECRET: Keys = keys!("secret");
pub(super) const OLD_SECRET: Keys = keys!("old_secret");

/// A secret that was read.
pub(super) struct Found {
    pub(super) secret: Secret,
    /// Where the key stands that led to it.
    pub(super) span: Span,
    /// That key.
    pub(super) key: &'static str,
}

impl Keys {
    /// Which of them the file has, and where; the first counts.
    pub(super) fn named(&self, t: &Table<'_>) -> Vec<(&'static str, Span)> {
        [self.file, self.env, self.command].into_iter().filter_map(|key| t.place(key).map(|span| (key, span))).collect()
    }

    /// The secret, if the file names one. A program is run here, and only here.
    pub(super) fn read(&self, t: &mut Table<'_>, directory: &Path) -> Option<Found> {
        let named = self.named(t);
        if let [(first, _), others @ ..] = named.as_slice() {
            for (other, span) in others {
                t.fault(
                    span,
                    format!("`{other}` stands beside `{first}`, for the same secret"),
                    "keep one of them, and take the other out",
                );
            }
        }
        // All three are asked for, so that none is taken for a slip of the pen.
        let file = t.text(self.file, "\"FILE\"");
        let env = t.text(self.env, "\"NAME\", the name of an environment variable");
        let command = t.texts(self.command, "[\"PROGRAM\", \"ARGUMENT\"]");
        let [(key, span)] = named.as_slice() else { return None };
        if !t.reads_secrets() {
            return None;
        }
        let read = if let Some((path, _)) = file {
            secrets::read(&directory.join(path)).map_err(|error| error.to_string())
        } else if let Some((name, _)) = env {
            secrets::of_environment(&name).map_err(|error| error.to_string())
        } else {
            let mut words = command?.into_iter().map(|(word, _)| word);
            let program = words.next()?;
            // A bare name is looked for in PATH; a path starts, as any other in the file, at the file's directory.
            let program = if program.contains('/') { directory.join(program).display().to_string() } else { program };
            command::read(&program, &words.collect::<Vec<_>>(), LIMIT).map_err(|error| error.to_string())
        };
        match read {
            Ok(secret) => Some(Found { secret, span: span.clone(), key }),
            Err(error) => {
                let (what, instead) = split(&error);
                t.fault(span, format!("`{key}`: {what}"), instead);
                None
            }
        }
    }

    /// The secret, which the file must name.
    pub(super) fn wanted(&self, t: &mut Table<'_>, directory: &Path) -> Option<Found> {
        if self.named(t).is_empty() {
            t.required(self.file, &self.example());
        }
        self.read(t, directory)
    }

    /// The same; an empty one where there was a fault, or where nobody reads secrets.
    pub(super) fn required(&self, t: &mut Table<'_>, directory: &Path) -> Secret {
        self.wanted(t, directory).map_or_else(|| Secret::new(String::new()), |found| found.secret)
    }

    fn example(&self) -> String {
        format!("\"FILE\", {} = \"NAME\" or {} = [\"PROGRAM\", \"ARGUMENT\"]", self.env, self.command)
    }
}

/// How long a program may take; a secret store across a network answers within a second or two, and a start that hangs has to say why.
const LIMIT: Duration = Duration::from_secs(20);
