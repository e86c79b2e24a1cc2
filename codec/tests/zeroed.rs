//! What is secret is wiped when it is dropped: a type that loses that does not compile here.

use codec::security::Keys;
use codec::security::hls::Secret;
use codec::security::keys::Key;
use codec::tree::DecodeKeys;
use zeroize::{Zeroize as _, ZeroizeOnDrop};

fn wiped<T: ZeroizeOnDrop>() -> &'static str {
    std::any::type_name::<T>()
}

#[test]
fn keys_and_secrets_are_wiped_when_they_are_dropped() {
    let wiped = [wiped::<Keys>(), wiped::<Key>(), wiped::<Secret>(), wiped::<DecodeKeys>()];
    assert!(wiped.iter().all(|name| name.starts_with("codec::")), "{wiped:?}");
}

#[test]
fn a_secret_that_was_wiped_has_nothing_left() {
    let mut secret = Secret::new(b"sixteen letters!".to_vec());
    secret.zeroize();
    assert!(secret.expose().is_empty());
}
