//! What actix-web's own errors mean.

use std::io;

use actix_web::Error;
use actix_web::error::{
    BlockingError, ContentTypeError, InternalError, JsonPayloadError, PathError, PayloadError,
    QueryPayloadError, ReadlinesError, UrlencodedError,
};
use actix_web::http::StatusCode;
use serde::de::value::Error as ValueError;
use steadfast_actors::kernel::Code;

use crate::problem::{Problem, for_status, from_json, readable};

/// The problem that stands behind an error of the framework; `None` for one somebody else made.
pub(super) fn problem_of(error: &Error) -> Option<Problem> {
    body(error)
        .or_else(|| error.as_error().map(query))
        .or_else(|| error.as_error::<PathError>().map(|_| path()))
        .or_else(|| path_of_extractor(error))
        .or_else(|| error.as_error::<BlockingError>().map(|_| known("internal.panic")))
        .or_else(|| literal(error))
}

fn body(error: &Error) -> Option<Problem> {
    if let Some(error) = error.as_error::<JsonPayloadError>() {
        return Some(json(error));
    }
    if let Some(error) = error.as_error::<UrlencodedError>() {
        return Some(form(error));
    }
    if let Some(error) = error.as_error::<PayloadError>() {
        return Some(payload(error));
    }
    if let Some(error) = error.as_error::<ReadlinesError>() {
        return Some(readlines(error));
    }
    error.as_error::<ContentTypeError>().map(|_| known("body.unsupported_type"))
}

fn known(code: &'static str) -> Problem {
    Problem::known(Code::new(code))
}

fn json(error: &JsonPayloadError) -> Problem {
    match error {
        JsonPayloadError::OverflowKnownLength { .. } | JsonPayloadError::Overflow { .. } => {
            known("body.too_large")
        }
        JsonPayloadError::ContentType => known("body.unsupported_type"),
        JsonPayloadError::Deserialize(error) => from_json(error, None),
        JsonPayloadError::Payload(error) => payload(error),
        JsonPayloadError::Serialize(_) | _ => known("internal.error"),
    }
}

fn form(error: &UrlencodedError) -> Problem {
    match error {
        UrlencodedError::Overflow { .. } => known("body.too_large"),
        UrlencodedError::UnknownLength => known("body.length_required"),
        UrlencodedError::ContentType => known("body.unsupported_type"),
        UrlencodedError::Parse(error) => {
            known("form.invalid").with_detail(readable(&error.to_string()))
        }
        UrlencodedError::Encoding | UrlencodedError::Chunked => known("body.encoding"),
        UrlencodedError::Payload(error) => payload(error),
        UrlencodedError::Serialize(_) | _ => known("internal.error"),
    }
}

/// Why the bytes of a body did not come.
pub(in crate::edge) fn payload(error: &PayloadError) -> Problem {
    match error {
        PayloadError::Overflow => known("body.too_large"),
        PayloadError::Incomplete(_) => known("body.incomplete"),
        PayloadError::EncodingCorrupted => known("body.encoding"),
        PayloadError::UnknownLength => known("body.length_required"),
        PayloadError::Io(error) if error.kind() == io::ErrorKind::TimedOut => known("body.timeout"),
        PayloadError::Io(_) | _ => known("body.unreadable"),
    }
}

fn readlines(error: &ReadlinesError) -> Problem {
    match error {
        ReadlinesError::LimitOverflow => known("body.too_large"),
        ReadlinesError::EncodingError => known("body.encoding"),
        ReadlinesError::Payload(error) => payload(error),
        ReadlinesError::ContentTypeError(_) => known("body.unsupported_type"),
        _ => known("body.unreadable"),
    }
}

fn query(error: &QueryPayloadError) -> Problem {
    match error {
        QueryPayloadError::Deserialize(error) => {
            known("query.invalid").with_detail(readable(&error.to_string()))
        }
        _ => known("query.invalid"),
    }
}

fn path() -> Problem {
    known("path.invalid")
}

/// `web::Path` wraps its error in a 404 of its own; its text names the Rust type.
fn path_of_extractor(error: &Error) -> Option<Problem> {
    error.as_error::<InternalError<ValueError>>().and_then(|_| {
        let status = error.as_response_error().status_code();
        (status == StatusCode::NOT_FOUND).then(path)
    })
}

/// A text that stands in the program was written to be read.
fn literal(error: &Error) -> Option<Problem> {
    let wrapper = error.as_error::<InternalError<&'static str>>()?;
    let status = error.as_response_error().status_code();
    let problem = Problem::of(for_status(status)).with_status(status);
    status.is_client_error().then(|| problem.with_detail(wrapper.to_string()))
}
