//! Class 40, Push Setup: what a meter sends by itself, where to, and how often it tries.
//!
//! Attributes 1 to 7 are all that meters of India were seen with; the types of the later ones are unconfirmed.

use super::profile_generic::CaptureObject;
use super::{Field, List, LogicalName, NoData, ValueError, ValueErrorKind, Wire};
use crate::axdr::{DateTime, Value, Writer};

class! {
    40
    attributes AttributeValue<'a> {
        /// The name of the object, which is also the second element of its pushes.
        1 LogicalName logical_name: LogicalName,
        /// What is sent, in this order.
        2 PushObjectList push_object_list: List<'a, PushObject<'a>>,
        /// Where to, and how.
        3 SendDestinationAndMethod send_destination_and_method: SendDestination<'a>,
        /// When it may be sent; empty is always.
        4 CommunicationWindow communication_window: List<'a, Window>,
        /// Seconds over which a fleet spreads its pushes.
        5 RandomisationStartInterval randomisation_start_interval: u16,
        /// How often a failed push is tried again.
        6 NumberOfRetries number_of_retries: u8,
        /// How long a meter waits before it tries again.
        7 RepetitionDelay repetition_delay: RepetitionDelay,
        /// The port it is sent through (version 1).
        8 PortReference port_reference: LogicalName,
        /// The client address it is sent to (version 1).
        9 PushClientSap push_client_sap: i8,
        /// How it is protected, layer by layer (version 1).
        10 PushProtectionParameters push_protection_parameters: List<'a, ProtectionParameters<'a>>,
        /// Whether it is sent unconfirmed or confirmed, and what is retried (version 2).
        11 PushOperationMethod push_operation_method: OperationMethod,
        /// From when, and how far back, a confirmation counts (version 2).
        12 ConfirmationParameters confirmation_parameters: ConfirmationParameters,
        /// The last confirmation (version 2).
        13 LastConfirmation last_confirmation_date_time: DateTime,
    }
    methods {
        /// Sends it now.
        1 Push push: NoData,
        /// Sets the state of pushing back (version 2).
        2 Reset reset: NoData,
    }
    calls Call
}

structure! {
    /// Where a push goes.
    pub struct SendDestination<'a> {
        /// What carries it.
        pub transport: TransportService,
        /// Address in the words of the transport, as `[2001:db8::1]:4059`.
        pub destination: &'a [u8],
        /// How it is encoded.
        pub message: MessageType,
    }

    /// A window in which a push may be sent; may hold wildcards.
    pub struct Window {
        /// From.
        pub start: DateTime,
        /// Until.
        pub end: DateTime,
    }

    /// A delay that grows with each retry (version 2).
    pub struct Backoff {
        /// Seconds, the least.
        pub min: u16,
        /// Growth in hundredths.
        pub exponent: u16,
        /// Seconds, the most.
        pub max: u16,
    }

    /// A layer of protection (version 1).
    pub struct ProtectionParameters<'a> {
        /// What is done.
        pub protection: ProtectionType,
        /// Between whom, and with which key.
        pub options: ProtectionOptions<'a>,
    }

    /// Between whom something is protected, and with which key: as in the head of general-ciphering.
    pub struct ProtectionOptions<'a> {
        /// Which exchange it belongs to.
        pub transaction_id: &'a [u8],
        /// System title of the sender.
        pub originator_system_title: &'a [u8],
        /// System title of who it is for.
        pub recipient_system_title: &'a [u8],
        /// Anything else.
        pub other_information: &'a [u8],
        /// The key.
        pub key: KeyInfo<'a>,
    }

    /// What a confirmation covers (version 2).
    pub struct ConfirmationParameters {
        /// From when.
        pub start_date: DateTime,
        /// Seconds.
        pub interval: u32,
    }
}

codes! {
    /// What carries a push.
    pub enum TransportService {
        /// TCP.
        Tcp = 0,
        /// UDP.
        Udp = 1,
        /// FTP.
        Ftp = 2,
        /// SMTP.
        Smtp = 3,
        /// SMS.
        Sms = 4,
        /// HDLC.
        Hdlc = 5,
        /// M-Bus.
        MBus = 6,
        /// ZigBee.
        ZigBee = 7,
        /// A DLMS gateway.
        Gateway = 8,
        /// CoAP with confirmation.
        CoapReliable = 9,
        /// CoAP without confirmation.
        CoapUnreliable = 10,
    }

    /// How a push is encoded; from 128 on the maker says.
    pub enum MessageType {
        /// A-XDR.
        Axdr = 0,
        /// XML.
        Xml = 1,
    }

    /// What is confirmed and what is retried.
    pub enum OperationMethod {
        /// Unconfirmed; retried where the layer below fails.
        UnconfirmedRetry = 0,
        /// Unconfirmed; retried until the layer below confirms.
        UnconfirmedUntilSent = 1,
        /// Confirmed; retried until the client confirms.
        Confirmed = 2,
    }
}

codes! {
    /// What a layer of protection does.
    pub enum ProtectionType {
        /// Authenticates.
        Authentication = 0,
        /// Encrypts.
        Encryption = 1,
        /// Both.
        AuthenticationEncryption = 2,
        /// Signs.
        DigitalSignature = 3,
    }

    /// A key that both sides have.
    pub enum IdentifiedKey {
        /// Global unicast encryption key.
        GlobalUnicastEncryption = 0,
        /// Global broadcast encryption key.
        GlobalBroadcastEncryption = 1,
    }
}

/// Elements of what is sent of an object, in version 2.
const OF_VERSION_2: usize = 6;

/// What is sent of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PushObject<'a> {
    /// The attribute.
    pub attribute: CaptureObject,
    /// Which part of a buffer (version 2); `None` in the versions that send whole attributes.
    pub part: Option<Part<'a>>,
}

/// Which part of a buffer is sent. The shapes are the standard's as others have them: unconfirmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part<'a> {
    /// Which rows.
    pub restriction: Restriction<'a>,
    /// Which columns; none stands for all.
    pub columns: List<'a, CaptureObject>,
}

/// Which rows of a buffer are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restriction<'a> {
    /// All.
    None,
    /// Those of these days, as the maker writes them: date or date-time, both included.
    ByDate {
        /// The first.
        from: &'a [u8],
        /// The last.
        to: &'a [u8],
    },
    /// Those of these numbers, both included.
    ByEntry {
        /// The first.
        from: u32,
        /// The last.
        to: u32,
    },
}

impl<'a> Wire<'a> for PushObject<'a> {
    fn read(field: Field<'a>) -> Result<Self, ValueError> {
        if field.structure()?.len() != OF_VERSION_2 {
            return Ok(Self { attribute: Wire::read(field)?, part: None });
        }
        let [class, name, attribute, data_index, restriction, columns] = field.fields::<OF_VERSION_2>()?;
        let attribute = CaptureObject {
            class: Wire::read(class)?,
            name: Wire::read(name)?,
            attribute: Wire::read(attribute)?,
            data_index: Wire::read(data_index)?,
        };
        let part = Part { restriction: Wire::read(restriction)?, columns: Wire::read(columns)? };
        Ok(Self { attribute, part: Some(part) })
    }

    fn write(&self, writer: &mut Writer<'_>) {
        let Some(Part { restriction, columns }) = &self.part else { return self.attribute.write(writer) };
        let CaptureObject { class, name, attribute, data_index } = &self.attribute;
        writer.structure(OF_VERSION_2);
        class.write(writer);
        name.write(writer);
        attribute.write(writer);
        data_index.write(writer);
        restriction.write(writer);
        columns.write(writer);
    }
}

impl<'a> Wire<'a> for Restriction<'a> {
    fn read(field: Field<'a>) -> Result<Self, ValueError> {
        let [kind, rows] = field.fields()?;
        let code = match kind.value() {
            Value::Enum(code) | Value::U8(code) => code,
            _ => return Err(kind.mismatch("enum")),
        };
        match code {
            0 => NoData::read(rows).map(|_| Self::None),
            1 => {
                let [from, to] = rows.fields()?;
                Ok(Self::ByDate { from: Wire::read(from)?, to: Wire::read(to)? })
            }
            2 => {
                let [from, to] = rows.fields()?;
                Ok(Self::ByEntry { from: Wire::read(from)?, to: Wire::read(to)? })
            }
            _ => Err(kind.error(ValueErrorKind::Range("a kind of restriction"))),
        }
    }

    fn write(&self, writer: &mut Writer<'_>) {
        writer.structure(2);
        match self {
            Self::None => _ = writer.enum_(0).null(),
            Self::ByDate { from, to } => {
                _ = writer.enum_(1).structure(2).octet_string(from).octet_string(to);
            }
            Self::ByEntry { from, to } => _ = writer.enum_(2).structure(2).u32(*from).u32(*to),
        }
    }
}

/// The key of a layer of protection. The shapes are the standard's as others have them: unconfirmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyInfo<'a> {
    /// One that both sides have.
    Identified(IdentifiedKey),
    /// One that travels wrapped.
    Wrapped {
        /// Which key it is wrapped under; 0 is the master key.
        kek: u8,
        /// The wrapped key.
        data: &'a [u8],
    },
    /// One that both sides derive.
    Agreed {
        /// How.
        parameters: &'a [u8],
        /// What is needed for it.
        data: &'a [u8],
    },
}

impl<'a> Wire<'a> for KeyInfo<'a> {
    fn read(field: Field<'a>) -> Result<Self, ValueError> {
        let code = |field: Field<'a>| match field.value() {
            Value::Enum(code) | Value::U8(code) => Ok(code),
            _ => Err(field.mismatch("enum")),
        };
        let [kind, options] = field.fields()?;
        match code(kind)? {
            0 => {
                let [key] = options.fields()?;
                Wire::read(key).map(Self::Identified)
            }
            1 => {
                let [kek, data] = options.fields()?;
                Ok(Self::Wrapped { kek: code(kek)?, data: Wire::read(data)? })
            }
            2 => {
                let [parameters, data] = options.fields()?;
                Ok(Self::Agreed { parameters: Wire::read(parameters)?, data: Wire::read(data)? })
            }
            _ => Err(kind.error(ValueErrorKind::Range("a kind of key"))),
        }
    }

    fn write(&self, writer: &mut Writer<'_>) {
        writer.structure(2);
        match self {
            Self::Identified(key) => _ = writer.enum_(0).structure(1).enum_(key.code()),
            Self::Wrapped { kek, data } => {
                _ = writer.enum_(1).structure(2).enum_(*kek).octet_string(data);
            }
            Self::Agreed { parameters, data } => {
                _ = writer.enum_(2).structure(2).octet_string(parameters).octet_string(data);
            }
        }
    }
}

/// How long a meter waits before it tries again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RepetitionDelay {
    /// Always as many seconds (versions 0 and 1).
    Seconds(u16),
    /// Longer each time (version 2).
    Backoff(Backoff),
}

impl<'a> Wire<'a> for RepetitionDelay {
    fn read(field: Field<'a>) -> Result<Self, ValueError> {
        match field.value() {
            Value::Structure(_) => Backoff::read(field).map(Self::Backoff),
            _ => u16::read(field).map(Self::Seconds),
        }
    }

    fn write(&self, writer: &mut Writer<'_>) {
        match self {
            Self::Seconds(seconds) => seconds.write(writer),
            Self::Backoff(backoff) => backoff.write(writer),
        }
    }
}
