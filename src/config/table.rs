//! Walks a TOML table key by key and collects every fault on the way, where a deserialiser would stop at the first.

use std::{cell::RefCell, collections::BTreeSet, fmt::Display, ops::Range, ops::RangeInclusive, path::Path};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::fault::Fault;

/// Where something stands in the file, in octets.
pub(super) type Span = Range<usize>;

/// A file being read, and the faults found so far.
pub(super) struct File<'f> {
    pub(super) path: &'f Path,
    pub(super) text: &'f str,
    /// Whether files with secrets are read; a play against a capture needs none.
    secrets: bool,
    faults: RefCell<Vec<Fault>>,
}

impl<'f> File<'f> {
    pub(super) fn new(path: &'f Path, text: &'f str, secrets: bool) -> Self {
        Self { path, text, secrets, faults: RefCell::default() }
    }

    /// Notes a fault.
    pub(super) fn fault(&self, at: &Span, what: impl Display, instead: impl Display) {
        self.faults.borrow_mut().push(Fault::at(self.path, self.text, at, what.to_string(), instead.to_string()));
    }

    /// All faults, in the order of the file.
    pub(super) fn into_faults(self) -> Vec<Fault> {
        let mut faults = self.faults.into_inner();
        faults.sort_by(|a, b| (a.file != self.path, &a.file, a.line, a.column).cmp(&(b.file != self.path, &b.file, b.line, b.column)));
        faults
    }
}

/// One table, and which of its keys somebody asked for.
pub(super) struct Table<'t> {
    file: &'t File<'t>,
    /// As a person would name it, such as `[sip]`.
    name: String,
    /// Its header or its braces.
    pub(super) span: Span,
    entries: Option<&'t DeTable<'t>>,
    known: BTreeSet<&'static str>,
}

impl<'t> Table<'t> {
    pub(super) fn root(file: &'t File<'t>, entries: &'t DeTable<'t>) -> Self {
        Self { file, name: "the file".into(), span: 0..0, entries: Some(entries), known: BTreeSet::new() }
    }

    /// Whether files with secrets are read.
    pub(super) fn reads_secrets(&self) -> bool {
        self.file.secrets
    }

    fn get(&mut self, key: &'static str) -> Option<&'t Spanned<DeValue<'t>>> {
        self.known.insert(key);
        self.entries?.get(key)
    }

    /// Whether the file names `key`.
    pub(super) fn has(&self, key: &str) -> bool {
        self.entries.is_some_and(|e| e.contains_key(key))
    }

    /// Where the value of `key` stands, if the file names it.
    pub(super) fn place(&self, key: &str) -> Option<Span> {
        self.entries?.get(key).map(Spanned::span)
    }

    pub(super) fn fault(&self, at: &Span, what: impl Display, instead: impl Display) {
        self.file.fault(at, what, instead);
    }

    /// A fault in a file that this one names.
    pub(super) fn fault_in(&self, path: &Path, text: &str, at: &Span, what: impl Display, instead: impl Display) {
        self.file.faults.borrow_mut().push(Fault::at(path, text, at, what.to_string(), instead.to_string()));
    }

    fn wrong_type(&self, key: &str, value: &Spanned<DeValue<'_>>, expected: &str) {
        let got = value.get_ref().type_str();
        let article = if got.starts_with(['a', 'i']) { "an" } else { "a" };
        self.fault(&value.span(), format!("`{key}` is {article} {got}"), format!("write {expected}"));
    }

    /// A table below this one; an empty one where the file has none.
    pub(super) fn table(&mut self, key: &'static str) -> Table<'t> {
        let found = self.get(key);
        let entries = found.and_then(|v| v.get_ref().as_table());
        if let (Some(value), None) = (found, entries) {
            self.wrong_type(key, value, &format!("a table: [{key}] and its keys below it"));
        }
        let span = found.map_or(self.span.clone(), Spanned::span);
        let name = if self.name == "the file" { format!("[{key}]") } else { format!("{key} of {}", self.name) };
        Table { file: self.file, name, span, entries, known: BTreeSet::new() }
    }

    /// The tables `[[key]]`.
    pub(super) fn tables(&mut self, key: &'static str) -> Vec<Table<'t>> {
        let Some(value) = self.get(key) else { return Vec::new() };
        let Some(list) = value.get_ref().as_array() else {
            self.wrong_type(key, value, &format!("[[{key}]], with both pairs of brackets, since there may be several"));
            return Vec::new();
        };
        let mut tables = Vec::new();
        for item in list.iter() {
            match item.get_ref().as_table() {
                Some(entries) => tables.push(Table {
                    file: self.file,
                    name: format!("[[{key}]]"),
                    span: item.span(),
                    entries: Some(entries),
                    known: BTreeSet::new(),
                }),
                None => self.wrong_type(key, item, &format!("[[{key}]] and its keys below it")),
            }
        }
        tables
    }

    /// A text and where it stands. Empty is a fault.
    pub(super) fn text(&mut self, key: &'static str, example: &str) -> Option<(String, Span)> {
        let value = self.get(key)?;
        match value.get_ref().as_str() {
            Some("") => {
                self.fault(&value.span(), format!("`{key}` is empty"), format!("write {example}, or leave the key out"));
                None
            }
            Some(text) => Some((text.to_owned(), value.span())),
            None => {
                self.wrong_type(key, value, example);
                None
            }
        }
    }

    /// A text that must stand in the file.
    pub(super) fn required(&mut self, key: &'static str, example: &str) -> Option<(String, Span)> {
        if !self.has(key) {
            self.known.insert(key);
            self.fault(&self.span, format!("{} has no `{key}`", self.name), format!("add {key} = {example}"));
        }
        self.text(key, example)
    }

    /// A list of texts, each with its place.
    pub(super) fn texts(&mut self, key: &'static str, example: &str) -> Option<Vec<(String, Span)>> {
        let value = self.get(key)?;
        let Some(list) = value.get_ref().as_array() else {
            self.wrong_type(key, value, example);
            return None;
        };
        let mut texts = Vec::new();
        for item in list.iter() {
            match item.get_ref().as_str() {
                Some(text) => texts.push((text.to_owned(), item.span())),
                None => self.wrong_type(key, item, example),
            }
        }
        if list.is_empty() {
            self.fault(&value.span(), format!("`{key}` is an empty list"), format!("write {example}"));
        }
        Some(texts)
    }

    /// A table of words: key, word, and the word's place.
    pub(super) fn words(&mut self, key: &'static str, example: &str) -> Vec<(String, String, Span)> {
        let Some(value) = self.get(key) else { return Vec::new() };
        let Some(table) = value.get_ref().as_table() else {
            self.wrong_type(key, value, example);
            return Vec::new();
        };
        let mut words = Vec::new();
        for (name, item) in table {
            match item.get_ref().as_str() {
                Some(word) => words.push((name.get_ref().to_string(), word.to_owned(), item.span())),
                None => self.wrong_type(key, item, example),
            }
        }
        words
    }

    /// A list of texts that must stand in the file.
    pub(super) fn required_texts(&mut self, key: &'static str, example: &str) -> Vec<(String, Span)> {
        if !self.has(key) {
            self.known.insert(key);
            self.fault(&self.span, format!("{} has no `{key}`", self.name), format!("add {key} = {example}"));
        }
        self.texts(key, example).unwrap_or_default()
    }

    /// A whole number within `range`, if the file has one.
    pub(super) fn integer(&mut self, key: &'static str, range: RangeInclusive<u64>) -> Option<u64> {
        let value = self.get(key)?;
        let expected = format!("a whole number from {} to {}", range.start(), range.end());
        let Some(digits) = value.get_ref().as_integer() else {
            self.wrong_type(key, value, &expected);
            return None;
        };
        let number = u64::from_str_radix(digits.as_str(), digits.radix()).ok().filter(|n| range.contains(n));
        if number.is_none() {
            self.fault(&value.span(), format!("`{key}` is {}", digits.as_str()), format!("write {expected}"));
        }
        number
    }

    /// As [`Self::integer`], with a default.
    pub(super) fn integer_or(&mut self, key: &'static str, range: RangeInclusive<u64>, default: u64) -> u64 {
        self.integer(key, range).unwrap_or(default)
    }

    /// `true` or `false`.
    pub(super) fn flag(&mut self, key: &'static str, default: bool) -> bool {
        let Some(value) = self.get(key) else { return default };
        value.get_ref().as_bool().unwrap_or_else(|| {
            self.wrong_type(key, value, "true or false, without quotes");
            default
        })
    }

    /// One of a few words.
    pub(super) fn choice<T: Copy>(&mut self, key: &'static str, choices: &[(&str, T)]) -> Option<T> {
        let words = choices.iter().map(|(word, _)| *word).collect::<Vec<_>>();
        let (text, span) = self.text(key, &list(&words))?;
        let found = choices.iter().find(|(word, _)| *word == text).map(|(_, value)| *value);
        if found.is_none() {
            self.fault(&span, format!("`{key}` is \"{text}\""), nearest_of(&text, &words));
        }
        found
    }

    /// Whatever nobody asked for is a fault: most often a slip of the pen.
    pub(super) fn finish(self) {
        for (key, _) in self.entries.into_iter().flatten() {
            let word = key.get_ref().as_ref();
            if !self.known.contains(word) {
                let known = self.known.iter().copied().collect::<Vec<_>>();
                self.fault(&key.span(), format!("{} knows no key `{word}`", self.name), nearest_of(word, &known));
            }
        }
    }
}

/// What to write instead of `text`: the nearest of `known`, or all of them.
pub(super) fn nearest_of(text: &str, known: &[&str]) -> String {
    let lower = text.to_lowercase();
    let near = known.iter().map(|k| (strsim::jaro_winkler(&lower, &k.to_lowercase()), *k)).max_by(|a, b| a.0.total_cmp(&b.0));
    match near {
        None => "there is none to choose from".into(),
        Some((likeness, word)) if likeness >= NEAR => format!("did you mean `{word}`?"),
        Some(_) => format!("write one of {}", list(known)),
    }
}

/// `a, b or c`, each quoted.
pub(super) fn list(words: &[&str]) -> String {
    match words.split_last() {
        None => String::new(),
        Some((last, [])) => format!("\"{last}\""),
        Some((last, rest)) => format!("{} or \"{last}\"", rest.iter().map(|w| format!("\"{w}\"")).collect::<Vec<_>>().join(", ")),
    }
}

/// Likeness (Jaro-Winkler) from which a word is taken for a slip of another.
const NEAR: f64 = 0.75;
