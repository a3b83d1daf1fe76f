//! Parses what a search is for.

use crate::failure::{Failure, Result, fail};

/// The numbers of `0.1,0.2` or `[0.1, 0.2]`.
pub fn parse_vector(text: &str) -> Result<Vec<f32>> {
    let text = text.trim();
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let bare = bare.unwrap_or(text).trim();
    if bare.is_empty() {
        return fail("--vector is empty");
    }
    let numbers = bare.split(',').enumerate().map(|(position, number)| {
        let number = number.trim();
        number
            .parse()
            .map_err(|_| Failure::new(format!("--vector: element {position} is '{number}', not a number")))
    });
    numbers.collect()
}

/// The column and the value of `COLUMN=VALUE`; the value may hold further equals signs.
pub fn parse_like(text: &str) -> Result<(&str, &str)> {
    match text.split_once('=') {
        Some((column, value)) if !column.is_empty() => Ok((column, value)),
        _ => fail(format!("--like has to be COLUMN=VALUE, got '{text}'")),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn vectors_are_lists_with_or_without_brackets() {
        let vector = [1.0, -0.5, 2e-3];
        for text in ["1,-0.5,2e-3", "[1, -0.5, 0.002]", " [ 1.0 ,-.5, 2E-3 ] "] {
            assert_eq!(parse_vector(text).unwrap(), vector, "{text}");
        }
    }

    #[test]
    fn what_is_not_a_number_is_named() {
        for (text, message) in [
            ("", "--vector is empty"),
            ("[]", "--vector is empty"),
            ("1,x", "--vector: element 1 is 'x', not a number"),
            ("1,,2", "--vector: element 1 is '', not a number"),
            ("[1,2", "--vector: element 0 is '[1', not a number"),
        ] {
            assert_eq!(parse_vector(text).unwrap_err().to_string(), message);
        }
    }

    #[test]
    fn the_first_equals_sign_separates() {
        assert_eq!(parse_like("word=a=b").unwrap(), ("word", "a=b"));
        assert_eq!(parse_like("word=").unwrap(), ("word", ""));
        assert!(parse_like("word").is_err());
        assert!(parse_like("=guitar").is_err());
    }
}
