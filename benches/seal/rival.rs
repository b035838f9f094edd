//! The rival: one AWS Encryption SDK message (suite 0x0478) for each record, written plainly on the `hkdf` and
//! `aes-gcm` crates.

use aes_gcm::aead::inout::InOutBuf;
use aes_gcm::{AeadInOut, Aes256Gcm, KeyInit};
use aws_lc_rs::rand;
use hkdf::Hkdf;
use sha2::Sha512;

use kinseal::seal::message::{MessageIds, Settings};

use super::{FRAME, KEY, writer};

/// The specification, read aloud.
pub(crate) fn seal(middle: &[u8], plaintext: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    let mut id = [0; 32];
    rand::fill(&mut id).expect("random bytes");
    let hkdf = Hkdf::<Sha512>::new(Some(&id), &KEY);
    let (mut key, mut commitment) = ([0; 32], [0; 32]);
    hkdf.expand_multi_info(&[b"\x04\x78", b"DERIVEKEY"], &mut key)
        .expect("short enough");
    hkdf.expand(b"COMMITKEY", &mut commitment)
        .expect("short enough");
    let cipher = Aes256Gcm::new(&key.into());

    out.extend_from_slice(&[2, 4, 0x78]);
    out.extend_from_slice(&id);
    out.extend_from_slice(middle);
    out.extend_from_slice(&commitment);
    let tag = encrypt(&cipher, &[0; 12], &out[start..], &mut []);
    out.extend_from_slice(&tag);

    let frames = plaintext.len().div_ceil(FRAME);
    for (frame, sequence) in plaintext.chunks(FRAME).zip(1u32..) {
        let mut iv = [0; 12];
        iv[8..].copy_from_slice(&sequence.to_be_bytes());
        let is_final = sequence as usize == frames;
        let label: &[u8] = if is_final {
            b"AWSKMSEncryptionClient Final Frame"
        } else {
            b"AWSKMSEncryptionClient Frame"
        };
        let len = (frame.len() as u64).to_be_bytes();
        let aad = [&id, label, &sequence.to_be_bytes(), &len].concat();
        if is_final {
            out.extend_from_slice(&[0xff; 4]);
        }
        out.extend_from_slice(&sequence.to_be_bytes());
        out.extend_from_slice(&iv);
        if is_final {
            out.extend_from_slice(&len[4..]);
        }
        let body = out.len();
        out.extend_from_slice(frame);
        let tag = encrypt(&cipher, &iv, &aad, &mut out[body..]);
        out.extend_from_slice(&tag);
    }
}

pub(crate) fn encrypt(
    cipher: &Aes256Gcm,
    iv: &[u8; 12],
    aad: &[u8],
    in_out: &mut [u8],
) -> [u8; 16] {
    cipher
        .encrypt_inout_detached(iv.into(), aad, InOutBuf::from(in_out))
        .expect("short enough")
        .into()
}

/// Of the header: from the message id to the commitment, as the agent's writer has it.
pub(crate) fn middle() -> Vec<u8> {
    let mut message = Vec::new();
    writer(FRAME, Settings::default()).seal(MessageIds::new().draw(), b"", &mut message);
    let body = 4 + 4 + 12 + 4 + 16;
    message[3 + 32..message.len() - body - 16 - 32].to_vec()
}
