//! One key set up, one APDU opened or sealed: the calls to AWS-LC's C interface.
//!
//! What makes them sound, said once. Every pointer is made, in the call that takes it, from a reference or a slice, with its
//! length beside it; the library keeps none of them, and writes only where they came from something mutable. Input and output
//! are the same bytes, which its header allows; they are one pointer, so that no reference is used while they are written. An
//! empty slice gives a pointer that is not null and is not followed. A context is read only after it was set up.

#![expect(unsafe_code, reason = "tags of 12 bytes are to be had from the library's C interface only")]

use std::mem::MaybeUninit;
use std::ptr;

use aws_lc_sys::{
    ERR_clear_error, EVP_AEAD_CTX, EVP_AEAD_CTX_cleanup, EVP_AEAD_CTX_init, EVP_AEAD_CTX_open_gather,
    EVP_AEAD_CTX_seal_scatter, EVP_aead_aes_128_gcm, OPENSSL_cleanse,
};
use codec::security::{IV_LEN, KEY_LEN, TAG_LEN};

/// Decrypts `data` in place; false, with zeros in `data`: the tag is wrong, or there are more bytes than the mode can protect.
pub(crate) fn open(
    key: &[u8; KEY_LEN],
    iv: &[u8; IV_LEN],
    aad: &[u8],
    data: &mut [u8],
    tag: &[u8; TAG_LEN],
) -> bool {
    let opened = with_key(key, |context| {
        let (bytes, length) = (data.as_mut_ptr(), data.len());
        // SAFETY: see above.
        let done = unsafe {
            EVP_AEAD_CTX_open_gather(
                context,
                bytes,
                iv.as_ptr(),
                IV_LEN,
                bytes,
                length,
                tag.as_ptr(),
                TAG_LEN,
                aad.as_ptr(),
                aad.len(),
            )
        };
        done == 1
    });
    let opened = opened.unwrap_or_default();
    if !opened {
        forget_errors();
    }
    opened
}

/// Encrypts `data` in place and gives the tag; `None`: there are more bytes than the mode can protect.
pub(crate) fn seal(
    key: &[u8; KEY_LEN],
    iv: &[u8; IV_LEN],
    aad: &[u8],
    data: &mut [u8],
) -> Option<[u8; TAG_LEN]> {
    let sealed = with_key(key, |context| {
        let (bytes, length) = (data.as_mut_ptr(), data.len());
        let mut tag = [0; TAG_LEN];
        let mut tag_len = 0;
        // SAFETY: see above; the library writes no more than the `TAG_LEN` bytes it is told of.
        let done = unsafe {
            EVP_AEAD_CTX_seal_scatter(
                context,
                bytes,
                tag.as_mut_ptr(),
                &raw mut tag_len,
                TAG_LEN,
                iv.as_ptr(),
                IV_LEN,
                bytes,
                length,
                ptr::null(),
                0,
                aad.as_ptr(),
                aad.len(),
            )
        };
        (done == 1 && tag_len == TAG_LEN).then_some(tag)
    });
    let sealed = sealed.flatten();
    if sealed.is_none() {
        forget_errors();
    }
    sealed
}

/// Room for a context, on the stack, wiped when dropped: it holds the expanded key.
struct Room(MaybeUninit<EVP_AEAD_CTX>);

impl Drop for Room {
    fn drop(&mut self) {
        // SAFETY: the room is ours and as large as said; what it holds needs no other care, see `with_key`.
        unsafe { OPENSSL_cleanse(self.0.as_mut_ptr().cast(), size_of::<EVP_AEAD_CTX>()) }
    }
}

/// Sets a key up in a context that does not move, so that wiping it leaves no copy.
fn with_key<T>(key: &[u8; KEY_LEN], work: impl FnOnce(*const EVP_AEAD_CTX) -> T) -> Option<T> {
    let mut room = Room(MaybeUninit::uninit());
    let context = room.0.as_mut_ptr();
    // SAFETY: it has no preconditions; it gives a constant of the library.
    let aead = unsafe { EVP_aead_aes_128_gcm() };
    // SAFETY: see above; the context may be uninitialised before, and no engine is what null means.
    let set_up = unsafe { EVP_AEAD_CTX_init(context, aead, key.as_ptr(), KEY_LEN, TAG_LEN, ptr::null_mut()) };
    if set_up != 1 {
        return None;
    }
    let done = work(context);
    // SAFETY: it was set up, and is not used any more. (With this mode it does nothing, were `work` to panic.)
    unsafe { EVP_AEAD_CTX_cleanup(context) };
    Some(done)
}

/// A wrong tag leaves a note in a queue of the thread, which nobody reads.
#[cold]
fn forget_errors() {
    // SAFETY: it has no preconditions.
    unsafe { ERR_clear_error() }
}
