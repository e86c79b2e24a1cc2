//! Class 64, Security Setup: suite, policy and keys of an association. Keys travel wrapped; the wrapping is not done here.

use super::{Field, List, LogicalName, ValueError, ValueErrorKind, Wire};
use crate::axdr::{Value, Writer};

class! {
    64
    attributes AttributeValue<'a> {
        /// The name of the object.
        1 LogicalName logical_name: LogicalName,
        /// What protection is asked for.
        2 SecurityPolicy security_policy: Policy,
        /// The algorithms.
        3 SecuritySuite security_suite: Suite,
        /// System title of the client; 8 bytes, or empty before the first association.
        4 ClientSystemTitle client_system_title: &'a [u8],
        /// System title of the meter.
        5 ServerSystemTitle server_system_title: &'a [u8],
        /// The certificates known (version 1).
        6 Certificates certificates: List<'a, Certificate<'a>>,
    }
    methods {
        /// Asks for more protection; it cannot be taken back.
        1 SecurityActivate security_activate: Policy,
        /// Replaces keys, each wrapped with the master key; used from the next association on.
        2 KeyTransfer key_transfer: List<'a, WrappedKey<'a>>,
        /// Agrees on keys (version 1).
        3 KeyAgreement key_agreement: List<'a, AgreedKey<'a>>,
        /// Makes a key pair (version 1).
        4 GenerateKeyPair generate_key_pair: CertificateType,
        /// Asks for a certificate signing request (version 1).
        5 GenerateCertificateRequest generate_certificate_request: CertificateType,
        /// Gives a certificate (version 1).
        6 ImportCertificate import_certificate: &'a [u8],
        /// Asks for a certificate (version 1).
        7 ExportCertificate export_certificate: CertificateIdentification<'a>,
        /// Removes a certificate (version 1).
        8 RemoveCertificate remove_certificate: CertificateIdentification<'a>,
    }
    calls Call<'a>
}

structure! {
    /// A new key, wrapped as RFC 3394 has it: 24 bytes for one of 16.
    pub struct WrappedKey<'a> {
        /// Which key it replaces.
        pub key: KeyId,
        /// The wrapped key.
        pub wrapped: &'a [u8],
    }

    /// What one end contributes to a new key (version 1).
    pub struct AgreedKey<'a> {
        /// Which key.
        pub key: KeyId,
        /// Public key and signature.
        pub data: &'a [u8],
    }

    /// A certificate, as a meter lists it (version 1).
    pub struct Certificate<'a> {
        /// Whose.
        pub entity: CertificateEntity,
        /// What for.
        pub kind: CertificateType,
        /// Serial number.
        pub serial_number: &'a [u8],
        /// Who issued it.
        pub issuer: &'a [u8],
        /// Who it is for.
        pub subject: &'a [u8],
        /// Another name of who it is for.
        pub subject_alt_name: &'a [u8],
    }
}

structure! {
    /// A certificate by whose it is and what for (version 1).
    pub struct CertificateOfEntity<'a> {
        /// Whose.
        pub entity: CertificateEntity,
        /// What for.
        pub kind: CertificateType,
        /// System title of whose it is.
        pub system_title: &'a [u8],
    }

    /// A certificate by its number (version 1).
    pub struct CertificateOfIssuer<'a> {
        /// Serial number.
        pub serial_number: &'a [u8],
        /// Who issued it.
        pub issuer: &'a [u8],
    }
}

/// Which certificate is meant (version 1). The shape is the standard's as others have it: unconfirmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CertificateIdentification<'a> {
    /// By whose it is and what for.
    Entity(CertificateOfEntity<'a>),
    /// By its number.
    Serial(CertificateOfIssuer<'a>),
}

impl<'a> Wire<'a> for CertificateIdentification<'a> {
    fn read(field: Field<'a>) -> Result<Self, ValueError> {
        let [kind, options] = field.fields()?;
        match u8_code(kind)? {
            0 => Wire::read(options).map(Self::Entity),
            1 => Wire::read(options).map(Self::Serial),
            _ => Err(kind.error(ValueErrorKind::Range("a way to name a certificate"))),
        }
    }

    fn write(&self, writer: &mut Writer<'_>) {
        match self {
            Self::Entity(options) => options.write(writer.structure(2).enum_(0)),
            Self::Serial(options) => options.write(writer.structure(2).enum_(1)),
        }
    }
}

/// An enum, or an unsigned in its place.
fn u8_code(field: Field<'_>) -> Result<u8, ValueError> {
    match field.value() {
        Value::Enum(code) | Value::U8(code) => Ok(code),
        _ => Err(field.mismatch("enum")),
    }
}

codes! {
    /// The keys that can be replaced.
    pub enum KeyId {
        /// Global unicast encryption key.
        GlobalUnicastEncryption = 0,
        /// Global broadcast encryption key.
        GlobalBroadcastEncryption = 1,
        /// Authentication key.
        Authentication = 2,
        /// Master key.
        Master = 3,
    }

    /// The algorithms.
    pub enum Suite {
        /// AES-GCM-128.
        Suite0 = 0,
        /// AES-GCM-128, ECDSA and ECDH on P-256, SHA-256.
        Suite1 = 1,
        /// AES-GCM-256, ECDSA and ECDH on P-384, SHA-384.
        Suite2 = 2,
    }

    /// What a certificate is for.
    pub enum CertificateType {
        /// Signatures.
        DigitalSignature = 0,
        /// Key agreement.
        KeyAgreement = 1,
        /// TLS.
        Tls = 2,
    }

    /// Whose a certificate is.
    pub enum CertificateEntity {
        /// The meter's.
        Server = 0,
        /// The client's.
        Client = 1,
        /// An authority's.
        CertificationAuthority = 2,
    }
}

/// The policy byte, whose meaning is another in version 0 of the class than from version 1 on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Policy(pub u8);

/// What version 0 asks of every message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PolicyV0 {
    /// Nothing.
    Nothing,
    /// Authentication.
    Authenticated,
    /// Encryption.
    Encrypted,
    /// Both.
    AuthenticatedEncrypted,
}

impl Policy {
    /// Version 1: requests are authenticated.
    pub const REQUEST_AUTHENTICATED: u8 = 0x04;
    /// Version 1: requests are encrypted.
    pub const REQUEST_ENCRYPTED: u8 = 0x08;
    /// Version 1: requests are signed.
    pub const REQUEST_SIGNED: u8 = 0x10;
    /// Version 1: responses are authenticated.
    pub const RESPONSE_AUTHENTICATED: u8 = 0x20;
    /// Version 1: responses are encrypted.
    pub const RESPONSE_ENCRYPTED: u8 = 0x40;
    /// Version 1: responses are signed.
    pub const RESPONSE_SIGNED: u8 = 0x80;

    /// The policy by version 0; `None` for a code that it does not have.
    #[must_use]
    pub const fn v0(self) -> Option<PolicyV0> {
        match self.0 {
            0 => Some(PolicyV0::Nothing),
            1 => Some(PolicyV0::Authenticated),
            2 => Some(PolicyV0::Encrypted),
            3 => Some(PolicyV0::AuthenticatedEncrypted),
            _ => None,
        }
    }

    /// Whether version 1 asks for all of `bits`.
    #[must_use]
    pub const fn asks(self, bits: u8) -> bool {
        self.0 & bits == bits
    }
}

impl From<PolicyV0> for Policy {
    fn from(policy: PolicyV0) -> Self {
        Self(match policy {
            PolicyV0::Nothing => 0,
            PolicyV0::Authenticated => 1,
            PolicyV0::Encrypted => 2,
            PolicyV0::AuthenticatedEncrypted => 3,
        })
    }
}

impl<'a> Wire<'a> for Policy {
    fn read(field: Field<'a>) -> Result<Self, ValueError> {
        match field.value() {
            Value::Enum(bits) | Value::U8(bits) => Ok(Self(bits)),
            _ => Err(field.mismatch("enum")),
        }
    }

    fn write(&self, writer: &mut Writer<'_>) {
        writer.enum_(self.0);
    }
}
