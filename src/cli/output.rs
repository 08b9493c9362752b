//! Where text goes: data to stdout, messages to stderr; colour only for people.

use std::io::{self, IsTerminal, Write};

use clap::ValueEnum;

/// `-o`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Table,
    /// For machines.
    Json,
    /// For machines and people.
    Yaml,
}

/// Prints data on stdout. A closed pipe (`| head`) is not an error.
pub fn data(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

/// Prints a message on stderr. There is nobody left to tell when that fails.
pub fn message(text: &str) {
    let mut err = io::stderr().lock();
    writeln!(err, "{text}").ok();
}

/// Whether stdout is for a person who sees colours.
pub fn colours() -> bool {
    colours_on(&io::stdout())
}

/// Whether a stream is for a person who sees colours: a terminal, and neither `NO_COLOR` nor `TERM=dumb`.
pub fn colours_on(stream: &impl IsTerminal) -> bool {
    let unset = |name: &str| std::env::var_os(name).is_none_or(|value| value.is_empty());
    stream.is_terminal() && unset("NO_COLOR") && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// Text in a colour, if colours are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Paint {
    /// Success.
    Green,
    /// Failure.
    Red,
    /// Waiting, warning.
    Yellow,
    /// Less important.
    Dim,
    /// More important.
    Bold,
}

impl Paint {
    /// Wraps `text` in ANSI codes when `on`.
    pub fn apply(self, text: &str, on: bool) -> String {
        let code = match self {
            Self::Green => "32",
            Self::Red => "31",
            Self::Yellow => "33",
            Self::Dim => "2",
            Self::Bold => "1",
        };
        if on { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}

/// Columns as kubectl lays them out: padded to the widest cell, three blanks between, no lines.
pub fn columns(rows: &[Vec<String>]) -> String {
    let count = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..count).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        format!("{}\n", cells.collect::<Vec<_>>().join("   ").trim_end())
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_align_on_the_widest_cell() {
        let row = |cells: &[&str]| cells.iter().map(ToString::to_string).collect();
        let text = columns(&[row(&["NAME", "PHASE"]), row(&["podinfo", "Ready"]), row(&["é", ""])]);
        assert_eq!(text, "NAME      PHASE\npodinfo   Ready\né\n");
    }
}
