//! Stack traces of Java, Python and Go.
//!
//! A trace begins with its first line, the exception's or the panic's; the log line before it is a record of its own.
//! Where one language's lines cannot be told from text, as those of a message of several lines, they are not joined: a
//! record too many is better than two that are one. `start_pattern` knows better where each entry of a log begins alike.

use std::sync::LazyLock;

use regex::bytes::Regex;

/// `preset`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Language {
    Java,
    Python,
    Go,
}

/// Where in a record its last line was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// Not in a trace, or in one whose lines are told by themselves.
    Plain,
    /// Python: in the frames.
    Frames,
    /// Python: after the exception's line.
    Raised,
    /// Python: after the empty line behind that. It is part of it only if another exception follows.
    RaisedGap,
    /// Python: after the line that announces another exception.
    Chained,
    /// Go: in the lines of the panic.
    Panic,
    /// Go: in the frames of a goroutine.
    Goroutine,
    /// Go: after the empty line behind either. It is part of it only if a goroutine follows.
    GoroutineGap,
}

/// What a line is to the record before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    Begins,
    Continues(State),
    /// Belongs to it if the next one does.
    Doubtful(State),
}

impl Language {
    pub(super) fn begin(self, line: &[u8]) -> State {
        match self {
            Self::Python if PYTHON_TRACEBACK.is_match(line) => after_traceback(line),
            Self::Go if GO_PANIC.is_match(line) => State::Panic,
            Self::Go if GO_GOROUTINE.is_match(line) => State::Goroutine,
            Self::Java | Self::Python | Self::Go => State::Plain,
        }
    }

    pub(super) fn next(self, state: State, line: &[u8]) -> Next {
        match self {
            Self::Java if JAVA_CONTINUES.is_match(line) => Next::Continues(State::Plain),
            Self::Java => Next::Begins,
            Self::Python => python(state, line),
            Self::Go => go(state, line),
        }
    }
}

fn python(state: State, line: &[u8]) -> Next {
    match state {
        State::Frames if is_indented(line) => Next::Continues(State::Frames),
        State::Frames if PYTHON_RAISED.is_match(line) => Next::Continues(State::Raised),
        // Of a group of exceptions.
        State::Raised if PYTHON_GROUP.is_match(line) => Next::Continues(State::Raised),
        State::Raised if is_empty(line) => Next::Doubtful(State::RaisedGap),
        State::Raised | State::RaisedGap if PYTHON_CHAIN.is_match(line) => {
            Next::Continues(State::Chained)
        }
        State::Chained if is_empty(line) => Next::Continues(State::Chained),
        State::Chained if PYTHON_TRACEBACK.is_match(line) => Next::Continues(after_traceback(line)),
        _ => Next::Begins,
    }
}

/// The exceptions of a group are set out in lines with a bar, and its name is among them.
fn after_traceback(line: &[u8]) -> State {
    if PYTHON_GROUP.is_match(line) {
        State::Raised
    } else {
        State::Frames
    }
}

fn go(state: State, line: &[u8]) -> Next {
    match state {
        State::Panic | State::Goroutine | State::GoroutineGap if GO_GOROUTINE.is_match(line) => {
            Next::Continues(State::Goroutine)
        }
        State::Panic if GO_PANIC_MORE.is_match(line) => Next::Continues(State::Panic),
        State::Goroutine if GO_FRAME.is_match(line) => Next::Continues(State::Goroutine),
        State::Panic | State::Goroutine if is_empty(line) => Next::Doubtful(State::GoroutineGap),
        // Registers, as SIGQUIT prints them.
        State::GoroutineGap | State::Goroutine if GO_REGISTER.is_match(line) => {
            Next::Continues(State::Goroutine)
        }
        _ => Next::Begins,
    }
}

fn is_indented(line: &[u8]) -> bool {
    matches!(line.first(), Some(b' ' | b'\t'))
}

fn is_empty(line: &[u8]) -> bool {
    matches!(line, b"" | b"\r")
}

fn pattern(text: &str) -> Regex {
    // Bytes, not characters: a message need not be UTF-8.
    Regex::new(&format!("(?-u){text}")).expect("the patterns here are tested")
}

static JAVA_CONTINUES: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        r"^(?:\s+at \S|\s*Caused by: |\s*Suppressed: |\s+\.\.\. \d+ (?:more|common frames omitted)|\s+\[CIRCULAR REFERENCE|\s+- (?:locked|waiting|parking|eliminated) |\s*nested exception is:)",
    )
});
static PYTHON_TRACEBACK: LazyLock<Regex> = LazyLock::new(|| {
    pattern(r"^\s*(?:\+ Exception Group )?Traceback \(most recent call last\):\r?$")
});
/// `ValueError: text`, or the name alone.
static PYTHON_RAISED: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"^[A-Za-z_\x80-\xff][\w.<>\x80-\xff]*(?::(?: .*)?)?\r?$"));
static PYTHON_GROUP: LazyLock<Regex> = LazyLock::new(|| pattern(r"^\s+[|+]"));
static PYTHON_CHAIN: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        r"^(?:During handling of the above exception, another exception occurred|The above exception was the direct cause of the following exception):",
    )
});
static GO_PANIC: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"^(?:panic: |fatal error: |.*\bhttp: panic serving )"));
static GO_PANIC_MORE: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"^(?:\[signal |\tpanic: |\[recovered|goroutine running on other)"));
static GO_GOROUTINE: LazyLock<Regex> = LazyLock::new(|| pattern(r"^goroutine \d+ .*\[.*\]:\r?$"));
static GO_FRAME: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        r"^(?:\t|created by |\.\.\.(?:additional|\d+) |[\w.~%/\x80-\xff-][^\s(]*(?:\(\*?[^\s)]*\)[^\s(]*)?\(.*\)\r?$)",
    )
});
static GO_REGISTER: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"^(?:r|e|cs|fs|gs|pc|sp|lr|fault)\w{0,5}\s+0x[0-9a-f]+\r?$"));

#[cfg(test)]
mod tests;
