//! What every source reads of a delivery that it believes.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use steadfast_actors::inbox::{Envelope, Headers, Place, Source, fuzzing};
use steadfast_fuzz::Input;

fn source(which: usize) -> Source {
    let secret = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
    match which {
        0 => Source::standard_webhooks("s", [secret]).unwrap(),
        1 => Source::stripe("s", [secret]).unwrap(),
        2 => Source::github("s", [secret]).unwrap(),
        3 => Source::mailgun("s", [secret]).unwrap(),
        4 => Source::unverified("s", Envelope::common()),
        5 => Source::unverified("s", Envelope::common().batch()),
        _ => {
            let deep = Place::Pointer("/a/0/b~1c".into());
            let envelope = Envelope::new(deep.clone(), Place::BodyHash);
            let envelope = envelope.version(deep.clone()).subject(deep.clone()).occurred_at(deep);
            Source::unverified("s", envelope)
        }
    }
}

fuzz_target!(|bytes: &[u8]| {
    let Some(input) = Input::read(bytes) else { return };
    let headers: Headers = input.headers.into_iter().collect();
    let body = Bytes::copy_from_slice(input.body);
    for (id, part) in fuzzing::events(&source(input.which), &headers, &body) {
        assert!((1..=255).contains(&id.len()), "an id that the table does not hold");
        let place = (part.as_ptr() as usize).wrapping_sub(body.as_ptr() as usize);
        let is_within = place <= body.len() && part.len() <= body.len() - place;
        assert!(part.is_empty() || is_within, "not a part of the body");
    }
});
