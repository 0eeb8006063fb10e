//! What is going on, on standard error: moving lines on a terminal, plain ones elsewhere.

use std::{
    collections::BTreeMap,
    io::IsTerminal as _,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

/// Tells whoever waits what each call is doing.
#[derive(Clone, Debug)]
pub(crate) struct Progress {
    started: Instant,
    /// None where standard error is no terminal.
    bars: Option<Arc<Mutex<Bars>>>,
}

#[derive(Debug)]
struct Bars {
    all: MultiProgress,
    lines: BTreeMap<&'static str, ProgressBar>,
}

impl Progress {
    pub(crate) fn new() -> Self {
        let bars =
            std::io::stderr().is_terminal().then(|| Arc::new(Mutex::new(Bars { all: MultiProgress::new(), lines: BTreeMap::new() })));
        Self { started: Instant::now(), bars }
    }

    /// What `who` does now.
    pub(crate) fn now(&self, who: &'static str, what: &str) {
        let Some(bars) = &self.bars else {
            eprintln!("{:5.1} s  {:<15} {what}", self.started.elapsed().as_secs_f64(), who.replace('_', " "));
            return;
        };
        let mut bars = bars.lock().unwrap_or_else(PoisonError::into_inner);
        let all = bars.all.clone();
        let bar = bars.lines.entry(who).or_insert_with(|| {
            let bar = all.add(ProgressBar::new_spinner());
            if let Ok(style) = ProgressStyle::with_template("{spinner:.cyan} {elapsed:>3} {prefix:15} {wide_msg}") {
                bar.set_style(style);
            }
            bar.set_prefix(who.replace('_', " "));
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        bar.set_message(what.to_owned());
    }

    /// All is said: the moving lines go, so that the page stands alone.
    pub(crate) fn clear(&self) {
        if let Some(bars) = &self.bars {
            let bars = bars.lock().unwrap_or_else(PoisonError::into_inner);
            for bar in bars.lines.values() {
                bar.finish_and_clear();
            }
            let _ = bars.all.clear();
        }
    }
}
