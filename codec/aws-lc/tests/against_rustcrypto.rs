//! The provider gives what the safe default gives, and what the standards print.
#![allow(clippy::unwrap_used)]

use codec::security::{CryptoProvider, IV_LEN, KEY_LEN, RustCrypto, TAG_LEN};
use codec_aws_lc::AwsLc;
use proptest::prelude::*;

/// Longest data tried.
const LONGEST: usize = 2000;

/// What a call is given, but for the data.
#[derive(Clone, Debug)]
struct Given {
    key: [u8; KEY_LEN],
    iv: [u8; IV_LEN],
    aad: Vec<u8>,
}

fn given() -> impl Strategy<Value = Given> {
    let aad = prop::collection::vec(any::<u8>(), 0..300);
    (any::<[u8; KEY_LEN]>(), any::<[u8; IV_LEN]>(), aad).prop_map(|(key, iv, aad)| Given { key, iv, aad })
}

fn sealed(provider: &impl CryptoProvider, given: &Given, plain: &[u8]) -> (Vec<u8>, [u8; TAG_LEN]) {
    let mut data = plain.to_vec();
    let tag = provider.seal(&given.key, &given.iv, &given.aad, &mut data);
    (data, tag)
}

fn opened(
    provider: &impl CryptoProvider,
    given: &Given,
    data: &[u8],
    tag: &[u8; TAG_LEN],
) -> Option<Vec<u8>> {
    let mut data = data.to_vec();
    provider.open(&given.key, &given.iv, &given.aad, &mut data, tag).ok().map(|()| data)
}

/// Both seal alike, and each opens what the other sealed.
fn agree(given: &Given, plain: &[u8]) {
    let (data, tag) = sealed(&AwsLc, given, plain);
    assert_eq!((&data, tag), (&sealed(&RustCrypto, given, plain).0, sealed(&RustCrypto, given, plain).1));
    assert_eq!(opened(&AwsLc, given, &data, &tag).as_deref(), Some(plain));
    assert_eq!(opened(&RustCrypto, given, &data, &tag).as_deref(), Some(plain));
    let (mut ours, mut theirs) = (plain.to_vec(), plain.to_vec());
    AwsLc.apply_keystream(&given.key, &given.iv, &mut ours);
    RustCrypto.apply_keystream(&given.key, &given.iv, &mut theirs);
    assert_eq!(ours, theirs);
}

#[test]
fn every_length_up_to_two_thousand_bytes_is_sealed_and_opened_alike() {
    let plain: Vec<u8> = (0..LONGEST).map(|index| (index * 7 + index / 256) as u8).collect();
    for length in 0..=LONGEST {
        // With no data, what is protected is in the additional data, as with control 0x10.
        let aad = plain[..length % 40].to_vec();
        let given = Given { key: [length as u8; KEY_LEN], iv: [!(length as u8); IV_LEN], aad };
        agree(&given, &plain[..length]);
        agree(&Given { aad: plain[..length].to_vec(), ..given }, &[]);
    }
}

proptest! {
    #[test]
    fn anything_is_sealed_and_opened_alike(given in given(), plain in prop::collection::vec(any::<u8>(), 0..LONGEST)) {
        agree(&given, &plain);
    }

    #[test]
    fn nothing_is_opened_with_one_bit_changed(
        given in given(),
        plain in prop::collection::vec(any::<u8>(), 0..LONGEST),
        at in any::<prop::sample::Index>(),
    ) {
        let (data, tag) = sealed(&RustCrypto, &given, &plain);
        // A bit of everything that goes in, drawn with the same chance whatever it is in.
        let parts = [TAG_LEN, data.len(), KEY_LEN, IV_LEN, given.aad.len()];
        let bit = at.index(parts.iter().sum::<usize>() * 8);
        let (mut byte, mask) = (bit / 8, 1_u8 << (bit % 8));
        let (mut given, mut data, mut tag) = (given, data, tag);
        for part in [&mut tag[..], &mut data, &mut given.key, &mut given.iv, &mut given.aad] {
            if byte < part.len() {
                part[byte] ^= mask;
                break;
            }
            byte -= part.len();
        }
        prop_assert_eq!(opened(&AwsLc, &given, &data, &tag), None);
        prop_assert_eq!(opened(&RustCrypto, &given, &data, &tag), None);
    }
}

#[test]
fn a_tag_with_any_bit_flipped_is_refused_and_nothing_of_the_content_is_left() {
    let given = Given { key: [3; KEY_LEN], iv: [4; IV_LEN], aad: vec![0x30; 17] };
    let (data, tag) = sealed(&AwsLc, &given, &[0x0f; 40]);
    for bit in 0..TAG_LEN * 8 {
        let (mut flipped, mut out) = (tag, data.clone());
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(AwsLc.open(&given.key, &given.iv, &given.aad, &mut out, &flipped).is_err(), "bit {bit}");
        assert!(out.iter().all(|byte| *byte == 0), "bit {bit}");
    }
    // What was refused leaves nothing behind that the next call could stumble over.
    assert!(opened(&AwsLc, &given, &data, &tag).is_some());
}

fn bytes(hex: &str) -> Vec<u8> {
    hex::decode(hex).unwrap()
}

fn array<const N: usize>(hex: &str) -> [u8; N] {
    bytes(hex).try_into().unwrap()
}

/// `key`, `iv`, additional data, plaintext, ciphertext, tag of 16 bytes, of which DLMS/COSEM takes the first 12.
fn check(key: &str, iv: &str, aad: &str, plain: &str, cipher: &str, tag: &str) {
    let given = Given { key: array(key), iv: array(iv), aad: bytes(aad) };
    let (data, cut) = sealed(&AwsLc, &given, &bytes(plain));
    assert_eq!((hex::encode(&data), hex::encode(cut)), (cipher.to_owned(), tag[..2 * TAG_LEN].to_owned()));
    assert_eq!(opened(&AwsLc, &given, &data, &cut), Some(bytes(plain)));
}

#[test]
fn test_cases_1_to_4_of_the_specification_of_gcm() {
    let zeros = ("00000000000000000000000000000000", "000000000000000000000000");
    check(zeros.0, zeros.1, "", "", "", "58e2fccefa7e3061367f1d57a4e7455a");
    let cipher = "0388dace60b6a392f328c2b971b2fe78";
    check(zeros.0, zeros.1, "", zeros.0, cipher, "ab6e47d42cec13bdf53a67b21257bddf");
    let (key, iv) = ("feffe9928665731c6d6a8f9467308308", "cafebabefacedbaddecaf888");
    let plain = "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72\
                 1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b391aafd255";
    let cipher = "42831ec2217774244b7221b784d0d49ce3aa212f2c02a4e035c17e2329aca12e\
                  21d514b25466931c7d8f6a5aac84aa051ba30b396a0aac973d58e091473f5985";
    check(key, iv, "", plain, cipher, "4d5c2af327cd64a62cf35abd2ba6fab4");
    let aad = "feedfacedeadbeeffeedfacedeadbeefabaddad2";
    check(key, iv, aad, &plain[..120], &cipher[..120], "5bc94fbc3221a5db94fae95ae7121a47");
}

#[test]
fn the_vectors_of_the_green_book() {
    let (key, iv) = ("000102030405060708090a0b0c0d0e0f", "4d4d4d0000bc614e01234567");
    let gak = "d0d1d2d3d4d5d6d7d8d9dadbdcdddedf";
    let (get, cipher) = ("c0010000080000010000ff0200", "411312ff935a47566827c467bc");
    check(key, iv, &format!("10{gak}{get}"), "", "", "06725d910f9221d26387751600000000");
    check(key, iv, &format!("30{gak}"), get, cipher, "7d825c3be4a77c3fcc056b6b00000000");
    let mut data = bytes(get);
    AwsLc.apply_keystream(&array(key), &array(iv), &mut data);
    assert_eq!(hex::encode(data), cipher);
}
