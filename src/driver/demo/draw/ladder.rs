//! The SIP ladder as text: one column a participant, one line a message.

use super::paint::{Paint, fit};
use crate::driver::demo::report::{Participant, Step};

/// Characters for the time at the left.
const TIME_WIDTH: usize = 7;
/// Characters of the whole drawing.
const WIDTH: usize = 98;

/// Draws the ladder; steps between addresses that belong to no column are left out.
pub(crate) fn draw(columns: &[Participant], steps: &[Step], paint: Paint) -> Vec<String> {
    let gaps = columns.len().saturating_sub(1).max(1);
    let gap = (WIDTH.saturating_sub(TIME_WIDTH + 4) / gaps).clamp(12, 40);
    let at = |index: usize| TIME_WIDTH + 3 + index * gap;
    let column_of = |address: &str| columns.iter().position(|c| c.addresses.iter().any(|a| a == address));

    let mut lines = Vec::with_capacity(steps.len() + 2);
    let mut head = vec![' '; at(columns.len().saturating_sub(1)) + gap / 2];
    let mut previous_end = 0;
    for (index, column) in columns.iter().enumerate() {
        let name = fit(&column.name, gap - 2);
        let long = name.chars().count();
        // The first name starts at the margin, the others are centred over their line.
        let start = at(index).saturating_sub(if index == 0 { 2 } else { long / 2 }).max(previous_end);
        put(&mut head, start, &name);
        previous_end = start + long + 1;
    }
    lines.push(paint.bold(line(head).trim_end()));

    for step in steps {
        let (Some(from), Some(to)) = (column_of(&step.from), column_of(&step.to)) else { continue };
        if from == to {
            continue;
        }
        let mut row = vec![' '; at(columns.len().saturating_sub(1)) + 1];
        for index in 0..columns.len() {
            put(&mut row, at(index), "│");
        }
        let (left, right) = (at(from.min(to)), at(from.max(to)));
        for cell in row.iter_mut().take(right).skip(left + 1) {
            *cell = if *cell == '│' { '┼' } else { '─' };
        }
        put(&mut row, if from < to { right - 1 } else { left + 1 }, if from < to { "►" } else { "◄" });
        let room = right - left - 3;
        let words = if step.retransmission { format!("↻ {}", step.summary) } else { step.summary.clone() };
        let words = format!(" {} ", fit(&words, room.saturating_sub(2)));
        // Words stand in the sender's own gap where they fit there, so that they cross no other line.
        let home = if room > gap && words.chars().count() <= gap - 3 {
            if from < to { (right - gap, right) } else { (left, left + gap) }
        } else {
            (left, right)
        };
        let start = home.0 + (home.1 - home.0).saturating_sub(words.chars().count()).div_ceil(2);
        put(&mut row, start, &words);
        let drawn = line(row);
        let stamp = format!("{:>TIME_WIDTH$}", step.at_ms);
        let body: String = drawn.chars().skip(TIME_WIDTH).collect();
        let code = step.summary.split(' ').next().unwrap_or_default().parse::<u16>();
        let body = match code {
            Ok(400..) => paint.warn(&body),
            Ok(200..300) => paint.good(&body),
            Ok(_) => body,
            Err(_) => paint.accent(&body),
        };
        lines.push(format!("{}{}", paint.dim(&stamp), body));
    }
    lines
}

fn put(row: &mut [char], at: usize, text: &str) {
    for (cell, c) in row.iter_mut().skip(at).zip(text.chars()) {
        *cell = c;
    }
}

fn line(row: Vec<char>) -> String {
    row.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(at_ms: i64, from: &str, to: &str, summary: &str) -> Step {
        Step { at_ms, from: from.into(), to: to.into(), transport: "udp".into(), retransmission: false, summary: summary.into() }
    }

    #[test]
    fn arrows_run_from_sender_to_receiver_and_cross_the_lines_between() {
        let columns: Vec<_> = [("caller", "a"), ("offhook", "b"), ("first", "c"), ("second", "d")]
            .map(|(name, address)| Participant { name: name.into(), addresses: vec![address.into()] })
            .into();
        let steps =
            [step(0, "a", "b", "INVITE"), step(12, "b", "d", "INVITE"), step(900, "d", "b", "200 OK"), step(901, "x", "b", "OPTIONS")];
        let lines = draw(&columns, &steps, Paint::off());
        assert_eq!(lines.len(), 4, "a stranger's message is not drawn: {lines:#?}");
        assert!(lines[1].contains("INVITE") && lines[1].contains('►') && !lines[1].contains('┼'));
        assert!(lines[2].contains('┼'), "{}", lines[2]);
        assert!(lines[3].trim_start().starts_with("900") && lines[3].contains('◄'));
        assert!(lines.iter().all(|l| l.chars().count() <= 100), "{lines:#?}");
    }
}
