//! Class 15, Association LN: who may do what with which objects of a meter.

use super::{ClassId, Field, List, LogicalName, SecretOctets, ValueError, ValueErrorKind, Wire};
use crate::axdr::{Value, Writer};

class! {
    15
    attributes AttributeValue<'a> {
        /// The name of the object; 0.0.40.0.0.255 is the association one speaks through.
        1 LogicalName logical_name: LogicalName,
        /// The objects that this association sees.
        2 ObjectList object_list: List<'a, Object<'a>>,
        /// The two ends.
        3 AssociatedPartners associated_partners_id: Partners,
        /// What names and ciphering are used.
        4 ApplicationContextName application_context_name: ContextName,
        /// What was negotiated.
        5 XdlmsContextInfo xdlms_context_info: ContextInfo<'a>,
        /// How the client proves who it is.
        6 AuthenticationMechanismName authentication_mechanism_name: MechanismName,
        /// The password or the key of the mechanism; never readable, if the meter is sane.
        7 Secret secret: SecretOctets<'a>,
        /// How far the association is.
        8 Status association_status: AssociationStatus,
        /// The security setup of the association (version 1).
        9 SecuritySetupReference security_setup_reference: LogicalName,
        /// The users (version 2).
        10 UserList user_list: List<'a, User<'a>>,
        /// The user at work (version 2).
        11 CurrentUser current_user: User<'a>,
    }
    methods {
        /// Passes 3 and 4 of a high-level authentication: the answer to the meter's challenge; the result is the
        /// meter's answer to ours.
        1 ReplyToHlsAuthentication reply_to_hls_authentication: &'a [u8],
        /// Replaces the secret of a high-level authentication.
        2 ChangeHlsSecret change_hls_secret: SecretOctets<'a>,
        /// Adds an object to the list.
        3 AddObject add_object: Object<'a>,
        /// Removes an object from the list.
        4 RemoveObject remove_object: Object<'a>,
        /// Adds a user (version 2).
        5 AddUser add_user: User<'a>,
        /// Removes a user (version 2).
        6 RemoveUser remove_user: User<'a>,
    }
    calls Call<'a>
}

/// The name of the association that is asked, whichever it is.
pub const CURRENT: LogicalName = LogicalName([0, 0, 40, 0, 0, 255]);

structure! {
    /// An object and the rights to it.
    pub struct Object<'a> {
        /// Its class.
        pub class: ClassId,
        /// Version of the class.
        pub version: u8,
        /// Its name.
        pub name: LogicalName,
        /// The rights.
        pub rights: AccessRights<'a>,
    }

    /// The rights to the attributes and the methods of an object.
    pub struct AccessRights<'a> {
        /// Attributes, not necessarily all.
        pub attributes: List<'a, AttributeAccess<'a>>,
        /// Methods, not necessarily all.
        pub methods: List<'a, MethodAccess>,
    }

    /// The right to an attribute.
    pub struct AttributeAccess<'a> {
        /// Number of the attribute.
        pub attribute: i8,
        /// What may be done.
        pub mode: AccessMode,
        /// Selectors of selective access that are understood.
        pub selectors: Option<List<'a, i8>>,
    }

    /// The right to a method.
    pub struct MethodAccess {
        /// Number of the method.
        pub method: i8,
        /// What may be done.
        pub mode: MethodMode,
    }

    /// The two ends of an association.
    pub struct Partners {
        /// Address of the client: 16 public, 32 reader, 48 utility, 80 firmware in India.
        pub client_sap: i8,
        /// Address of the logical device; 1 is management.
        pub server_sap: u16,
    }

    /// What was negotiated for an association.
    pub struct ContextInfo<'a> {
        /// Services that both ends know.
        pub conformance: Conformance,
        /// Longest APDU that the meter takes.
        pub max_receive_pdu_size: u16,
        /// Longest APDU that the meter sends.
        pub max_send_pdu_size: u16,
        /// Version of DLMS; 6.
        pub dlms_version: u8,
        /// Not used; 0.
        pub quality_of_service: i8,
        /// A dedicated key, or empty.
        pub cyphering_info: SecretOctets<'a>,
    }

    /// A user of a client (version 2).
    pub struct User<'a> {
        /// Number of the user.
        pub id: u8,
        /// Name of the user.
        pub name: Text<'a>,
    }
}

codes! {
    /// What may be done with an attribute, as the versions 0 to 2 of the class say it. Version 3 has bits instead:
    /// see [`AccessMode::bits`].
    pub enum AccessMode {
        /// Nothing.
        NoAccess = 0,
        /// Read.
        Read = 1,
        /// Write.
        Write = 2,
        /// Read and write.
        ReadWrite = 3,
        /// Read with authentication.
        AuthenticatedRead = 4,
        /// Write with authentication.
        AuthenticatedWrite = 5,
        /// Read and write with authentication.
        AuthenticatedReadWrite = 6,
    }

    /// How far an association is.
    pub enum AssociationStatus {
        /// There is none.
        NotAssociated = 0,
        /// The challenge is not answered yet.
        Pending = 1,
        /// It stands.
        Associated = 2,
    }
}

impl AccessMode {
    /// Whether the attribute can be read, in versions 0 to 2.
    #[must_use]
    pub const fn can_read(self) -> bool {
        matches!(self, Self::Read | Self::ReadWrite | Self::AuthenticatedRead | Self::AuthenticatedReadWrite)
    }

    /// Whether the attribute can be written, in versions 0 to 2.
    #[must_use]
    pub const fn can_write(self) -> bool {
        matches!(
            self,
            Self::Write | Self::ReadWrite | Self::AuthenticatedWrite | Self::AuthenticatedReadWrite
        )
    }

    /// The code as the bits of version 3: 0x01 read, 0x02 write, then what is asked of the request (0x04
    /// authenticated, 0x08 encrypted, 0x10 signed) and given to the response (0x20, 0x40, 0x80). Unconfirmed.
    #[must_use]
    pub const fn bits(self) -> u8 {
        self.code()
    }
}

/// What may be done with a method: a boolean in version 0, an enum later; written as the enum.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MethodMode {
    /// Nothing.
    NoAccess,
    /// Call.
    Access,
    /// Call with authentication.
    AuthenticatedAccess,
    /// Another code, or the bits of version 3.
    Other(u8),
}

impl<'a> Wire<'a> for MethodMode {
    fn read(field: Field<'a>) -> Result<Self, ValueError> {
        match field.value() {
            Value::Bool(false) | Value::Enum(0) | Value::U8(0) => Ok(Self::NoAccess),
            Value::Bool(true) | Value::Enum(1) | Value::U8(1) => Ok(Self::Access),
            Value::Enum(2) | Value::U8(2) => Ok(Self::AuthenticatedAccess),
            Value::Enum(code) | Value::U8(code) => Ok(Self::Other(code)),
            _ => Err(field.mismatch("enum")),
        }
    }

    fn write(&self, writer: &mut Writer<'_>) {
        writer.enum_(match self {
            Self::NoAccess => 0,
            Self::Access => 1,
            Self::AuthenticatedAccess => 2,
            Self::Other(code) => *code,
        });
    }
}

/// The conformance block: 24 bits, of which bit 0 is the most significant of the three bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Conformance(pub [u8; 3]);

impl Conformance {
    /// Bits of the block.
    pub const BITS: usize = 24;

    /// Whether bit `index` is set: 19 get, 20 set, 21 selective access, 23 action, 11 get by blocks, …
    #[must_use]
    pub fn bit(self, index: usize) -> bool {
        self.0.get(index / 8).is_some_and(|byte| byte & (0x80 >> (index % 8)) != 0)
    }
}

impl<'a> Wire<'a> for Conformance {
    fn read(field: Field<'a>) -> Result<Self, ValueError> {
        let Value::BitString(bits) = field.value() else { return Err(field.mismatch("bit-string")) };
        match <[u8; 3]>::try_from(bits.bytes()) {
            Ok(bytes) if bits.bits() == Self::BITS => Ok(Self(bytes)),
            _ => {
                let found = bits.bits();
                Err(field.error(ValueErrorKind::Length { expected: Self::BITS, found }))
            }
        }
    }

    fn write(&self, writer: &mut Writer<'_>) {
        writer.bit_string(Self::BITS, &self.0);
    }
}

/// A visible-string; the other strings are read as one. Not checked to be text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Text<'a>(pub &'a [u8]);

impl<'a> Wire<'a> for Text<'a> {
    fn read(field: Field<'a>) -> Result<Self, ValueError> {
        <&[u8]>::read(field).map(Self)
    }

    fn write(&self, writer: &mut Writer<'_>) {
        writer.visible_string(self.0);
    }
}

/// Application context 2.16.756.5.8.1.x: 1 logical names, 2 short names, 3 and 4 the same with ciphering.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ContextName(pub u8);

impl ContextName {
    /// Logical names without ciphering.
    pub const LOGICAL_NAMES: Self = Self(1);
    /// Logical names with ciphering.
    pub const LOGICAL_NAMES_CIPHERED: Self = Self(3);
}

/// Authentication mechanism 2.16.756.5.8.2.x: 0 none, 1 password, 2 AES-128 in India, 5 GMAC, …
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MechanismName(pub u8);

/// The arcs before the last two: joint-iso-ccitt, country, country name, identified organisation, DLMS UA.
const ARCS: [u16; 5] = [2, 16, 756, 5, 8];
/// The same arcs as BER has them.
const BER: [u8; 5] = [0x60, 0x85, 0x74, 0x05, 0x08];
const CONTEXT: u8 = 1;
const MECHANISM: u8 = 2;

/// The last arc of an identifier under `branch`: in seven bytes of BER, or in a structure of seven arcs. Meters have both.
fn read_identifier(field: Field<'_>, branch: u8) -> Result<u8, ValueError> {
    let wrong = field.error(ValueErrorKind::ObjectIdentifier);
    if let Value::OctetString(bytes) = field.value() {
        return match bytes.strip_prefix(&BER) {
            Some(&[found, last]) if found == branch => Ok(last),
            _ => Err(wrong),
        };
    }
    let arcs: [Field<'_>; 7] = field.fields()?;
    let mut expected = ARCS.into_iter().chain([u16::from(branch)]);
    for arc in arcs.iter().take(6) {
        if Some(u16::read(*arc)?) != expected.next() {
            return Err(wrong);
        }
    }
    u8::read(arcs[6])
}

fn write_identifier(branch: u8, last: u8, writer: &mut Writer<'_>) {
    writer.structure(7).u8(2).u8(16).u16(756).u8(5).u8(8).u8(branch).u8(last);
}

impl<'a> Wire<'a> for ContextName {
    fn read(field: Field<'a>) -> Result<Self, ValueError> {
        read_identifier(field, CONTEXT).map(Self)
    }

    fn write(&self, writer: &mut Writer<'_>) {
        write_identifier(CONTEXT, self.0, writer);
    }
}

impl<'a> Wire<'a> for MechanismName {
    fn read(field: Field<'a>) -> Result<Self, ValueError> {
        read_identifier(field, MECHANISM).map(Self)
    }

    fn write(&self, writer: &mut Writer<'_>) {
        write_identifier(MECHANISM, self.0, writer);
    }
}
