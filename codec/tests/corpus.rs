//! The committed fuzz corpora, replayed through the same checks as the fuzz targets run.
#![allow(clippy::unwrap_used)]

#[path = "../../fuzz/targets/codec.rs"]
mod codec_targets;

fn replay(name: &str, target: fn(&[u8])) {
    let folder = format!("{}/../fuzz/corpus/{name}", env!("CARGO_MANIFEST_DIR"));
    let mut replayed = 0;
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        println!("{}", path.display());
        target(&std::fs::read(path).unwrap());
        replayed += 1;
    }
    assert!(replayed > 0, "nothing in {folder}");
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
fn the_cosem_corpus_holds() {
    replay("cosem", codec_targets::cosem);
}
