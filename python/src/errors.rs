//! Errors of the library as Python exceptions.

use std::error::Error as _;

use arrow_schema::ArrowError;
use pennon::Error;
use pyo3::exceptions::{PyRuntimeError, PyTypeError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyType;

/// The exception of an error, with its message and those of its causes.
pub fn exception(error: Error) -> PyErr {
    if let Error::Arrow(ArrowError::ExternalError(source)) = &error
        && let Some(exception) = source.downcast_ref::<PyErr>()
    {
        // One that a function of the caller's has raised.
        return Python::attach(|py| exception.clone_ref(py));
    }
    let mut message = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        message.push_str(": ");
        message.push_str(&error.to_string());
        cause = error.source();
    }
    let class = match &error {
        Error::UnknownRowId { .. } => "UnknownRowIdError",
        Error::DuplicateRowId { .. } => "DuplicateRowIdError",
        Error::UnknownKey { .. } => "UnknownKeyError",
        Error::DuplicateKey { .. } => "DuplicateKeyError",
        Error::ReadOnly => "ReadOnlyError",
        Error::CorruptIndex { .. } => "CorruptIndexError",
        Error::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound => "IndexNotFoundError",
        Error::Io { .. } => "StorageError",
        _ => "InvalidInputError",
    };
    Python::attach(|py| {
        let exception = new(py, class, message);
        if let Error::Io { path, source } = &error {
            let value = exception.value(py);
            // Plain attributes of `OSError`; if one cannot be set, the message still says all.
            let _ = value.setattr("errno", source.raw_os_error());
            let _ = value.setattr("filename", path);
        }
        exception
    })
}

/// An exception for input that is refused before the library sees it.
pub fn invalid_input(message: impl Into<String>) -> PyErr {
    Python::attach(|py| new(py, "InvalidInputError", message.into()))
}

/// An exception for an object of a type that nothing can be made of.
pub fn wrong_type(expected: &str, object: &Bound<'_, PyAny>) -> PyErr {
    let actual = object.get_type();
    let actual = actual.fully_qualified_name().map_or_else(|_| "?".to_string(), |name| name.to_string());
    PyTypeError::new_err(format!("expected {expected}, got {actual}"))
}

fn new(py: Python<'_>, class: &str, message: String) -> PyErr {
    static MODULE: PyOnceLock<Py<PyModule>> = PyOnceLock::new();
    let module = MODULE.get_or_try_init(py, || py.import("pennon._errors").map(Bound::unbind));
    let class = module.and_then(|module| Ok(module.bind(py).getattr(class)?.cast_into::<PyType>()?));
    match class {
        Ok(class) => PyErr::from_type(class, message),
        // The package is not importable, as at the end of the process.
        Err(_) => PyRuntimeError::new_err(message),
    }
}

/// Results of the library as results for Python.
pub trait OrRaise<T> {
    /// The value, or the error as an exception.
    fn or_raise(self) -> PyResult<T>;
}

impl<T, E: Into<Error>> OrRaise<T> for Result<T, E> {
    fn or_raise(self) -> PyResult<T> {
        self.map_err(|error| exception(error.into()))
    }
}
