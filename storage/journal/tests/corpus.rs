//! The committed fuzz corpus, replayed through the same checks as the fuzz target runs.
#![allow(clippy::unwrap_used)]

#[path = "../../../fuzz/targets/journal.rs"]
mod journal_targets;

#[test]
fn the_journal_group_corpus_holds() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/corpus/journal_group");
    let mut replayed = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        println!("{}", path.display());
        journal_targets::group(&std::fs::read(path).unwrap());
        replayed += 1;
    }
    assert!(replayed > 0, "nothing in {folder}");
}
