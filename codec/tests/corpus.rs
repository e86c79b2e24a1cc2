//! The committed fuzz corpora, replayed through the same checks as the fuzz targets run.
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

#[path = "../../fuzz/targets/budget.rs"]
mod budget;
#[path = "../../fuzz/targets/client.rs"]
mod client_target;
#[path = "../../fuzz/targets/codec.rs"]
mod codec_targets;
#[path = "../../fuzz/targets/india.rs"]
mod india_target;
#[path = "../../fuzz/targets/link.rs"]
mod link_target;
#[path = "../../fuzz/targets/meter.rs"]
mod meter;
#[path = "../../fuzz/targets/server.rs"]
mod server_target;
#[path = "../../fuzz/targets/services.rs"]
mod services_target;

fn replay(name: &str, target: fn(&[u8])) {
    for (path, bytes) in corpus(name) {
        println!("{}", path.display());
        target(&bytes);
    }
}

fn corpus(name: &str) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let folder = format!("{}/../fuzz/corpus/{name}", env!("CARGO_MANIFEST_DIR"));
    let paths = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = paths.map(|path| (path.clone(), std::fs::read(path).unwrap())).collect();
    assert!(!files.is_empty(), "nothing in {folder}");
    files.sort();
    files
}

#[test]
fn the_wrapper_corpus_holds() {
    replay("wrapper", codec_targets::wrapper);
}

#[test]
fn the_axdr_corpus_holds() {
    replay("axdr", codec_targets::axdr);
}

#[test]
fn the_apdu_corpus_holds() {
    replay("apdu", codec_targets::apdu);
}

#[test]
fn the_association_corpus_holds() {
    replay("association", codec_targets::opening);
}

#[test]
fn the_security_corpus_holds() {
    replay("security", codec_targets::security);
}

#[test]
fn the_hdlc_corpus_holds() {
    replay("hdlc", codec_targets::hdlc);
}

#[test]
fn the_mbus_corpus_holds() {
    replay("mbus", codec_targets::mbus);
}

#[test]
fn the_block_transfer_corpus_holds() {
    replay("block_transfer", codec_targets::block_transfer);
}

#[test]
fn the_cosem_corpus_holds() {
    replay("cosem", codec_targets::cosem);
}

#[test]
fn the_client_corpus_holds() {
    replay("client", client_target::client);
}

#[test]
fn the_server_corpus_holds() {
    replay("server", server_target::server);
}

#[test]
fn the_link_corpus_holds() {
    replay("link", link_target::link);
}

#[test]
fn the_india_corpus_holds() {
    replay("india", india_target::india);
}

#[test]
fn the_services_corpus_holds() {
    replay("services", services_target::services);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    /// Any bytes are choices of a service, its framing and where it is spoilt.
    #[test]
    fn services_of_every_kind_read_back_as_they_were_made_and_spoilt_ones_break_nothing(
        choices in prop::collection::vec(any::<u8>(), 1..400),
    ) {
        services_target::services(&choices);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    /// Any bytes are steps of the two ends of a link, and of a session that asks for its counter first.
    #[test]
    fn whatever_happens_on_the_line_a_link_and_an_indian_session_hold(
        steps in prop::collection::vec(any::<u8>(), 1..300),
    ) {
        link_target::link(&steps);
        india_target::india(&steps);
    }
}

proptest! {
    /// Whole conversations with some bytes changed: what an authentic client with a fault sends.
    #[test]
    fn conversations_with_a_meter_with_some_bytes_changed_hold(
        bytes in prop::sample::select(corpus("server")).prop_map(|(_, bytes)| bytes),
        changes in prop::collection::vec(any::<(prop::sample::Index, u8)>(), 1..6),
    ) {
        let mut bytes = bytes;
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        server_target::server(&bytes);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    /// The bytes are steps, so that any of them are something that can happen on the line; with an association first
    /// there is more to happen.
    #[test]
    fn whatever_happens_on_the_line_a_session_holds(
        choice: u8,
        opened: bool,
        steps in prop::collection::vec(any::<u8>(), 0..120),
    ) {
        let first = if opened { client_target::OPENING } else { &[] };
        client_target::client(&[&[choice], first, &steps].concat());
    }
}

proptest! {
    /// The corpus is the shapes of the classes, so that a few bytes off is where wrong values are.
    #[test]
    fn shapes_of_cosem_with_some_bytes_changed_hold(
        bytes in prop::sample::select(corpus("cosem")).prop_map(|(_, bytes)| bytes),
        changes in prop::collection::vec(any::<(prop::sample::Index, u8)>(), 1..4),
    ) {
        let mut bytes = bytes;
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        codec_targets::cosem(&bytes);
    }
}
