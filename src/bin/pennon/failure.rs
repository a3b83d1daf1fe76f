//! The one error of the command line: a line of text for a person.

use std::any::Any;
use std::fmt;
use std::panic::{self, AssertUnwindSafe};
use std::path::Path;

pub type Result<T> = std::result::Result<T, Failure>;

/// What went wrong; prints as one line whatever text it was made from.
#[derive(Debug)]
pub struct Failure(String);

impl Failure {
    pub fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = self.0.split(char::is_control).map(str::trim);
        let mut separator = "";
        for part in parts.filter(|part| !part.is_empty()) {
            formatter.write_str(separator)?;
            formatter.write_str(part)?;
            separator = " ";
        }
        Ok(())
    }
}

impl From<pennon::Error> for Failure {
    fn from(error: pennon::Error) -> Self {
        Self::new(error.to_string())
    }
}

/// `Err` of the message.
pub fn fail<T>(message: impl Into<String>) -> Result<T> {
    Err(Failure::new(message))
}

/// Says what was being done when an error of any kind came up.
pub trait Context<T> {
    fn context(self, what: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: fmt::Display> Context<T> for std::result::Result<T, E> {
    fn context(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|error| Failure::new(format!("{}: {error}", what())))
    }
}

/// Runs a decoder over `path`; its errors and its panics become a failure that names the file.
pub fn decode<T, E: fmt::Display>(
    path: &Path,
    work: impl FnOnce() -> std::result::Result<T, E>,
) -> Result<T> {
    let name = path.display();
    match panic::catch_unwind(AssertUnwindSafe(work)) {
        Ok(outcome) => outcome.context(|| format!("cannot read {name}")),
        Err(payload) => fail(format!("cannot read {name}: the file is damaged ({})", panic_text(&*payload))),
    }
}

/// The message of a panic.
pub fn panic_text(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "panic without a message".to_owned())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_one_line() {
        let failure = Failure::new("first\n  second\r\n\n\tthird  \n");
        assert_eq!(failure.to_string(), "first second third");
    }

    #[test]
    fn a_decoder_that_panics_names_the_file() {
        let outcome: Result<()> =
            decode(Path::new("x.arrow"), || -> Result<()> { panic!("offset {} out of bounds", 7) });
        assert_eq!(
            outcome.unwrap_err().to_string(),
            "cannot read x.arrow: the file is damaged (offset 7 out of bounds)"
        );
    }
}
