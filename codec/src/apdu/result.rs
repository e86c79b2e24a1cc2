//! What came of a request: results and errors, each code with its words.
//!
//! Meters send codes that no list has; they are kept as `Other`, so that nothing received is lost.

use alloc::vec::Vec;
use core::fmt;

use super::field::{Field, Reader};
use crate::error::Error;

/// An enum of one byte whose unknown values are kept.
macro_rules! codes {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $code:literal $words:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)+
            /// A code that is not in the list.
            Other(u8),
        }

        impl $name {
            /// The meaning of a code; never `Other` for one that is in the list.
            #[must_use]
            pub const fn from_code(code: u8) -> Self {
                match code {
                    $($code => Self::$variant,)+
                    other => Self::Other(other),
                }
            }

            /// The code on the wire.
            #[must_use]
            pub const fn code(self) -> u8 {
                match self {
                    $(Self::$variant => $code,)+
                    Self::Other(code) => code,
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self {
                    $(Self::$variant => f.write_str($words),)+
                    Self::Other(code) => write!(f, "code {code}"),
                }
            }
        }

        impl Field<'_> for $name {
            fn read(reader: &mut Reader<'_>) -> Result<Self, Error> {
                reader.field().map(Self::from_code)
            }

            fn write(&self, out: &mut Vec<u8>) {
                self.code().write(out);
            }
        }
    };
}

codes! {
    /// What came of reading or writing an attribute.
    DataAccessResult {
        /// Done.
        Success = 0 "success",
        /// The meter is broken.
        HardwareFault = 1 "hardware-fault",
        /// Not now; a later try may do.
        TemporaryFailure = 2 "temporary-failure",
        /// Not allowed in this association.
        ReadWriteDenied = 3 "read-write-denied",
        /// There is no such object.
        ObjectUndefined = 4 "object-undefined",
        /// The object is of another class.
        ObjectClassInconsistent = 9 "object-class-inconsistent",
        /// The object cannot be reached.
        ObjectUnavailable = 11 "object-unavailable",
        /// The value is of the wrong type.
        TypeUnmatched = 12 "type-unmatched",
        /// The access right is exceeded.
        ScopeOfAccessViolated = 13 "scope-of-access-violated",
        /// The block cannot be given or taken.
        DataBlockUnavailable = 14 "data-block-unavailable",
        /// The meter gave the long read up.
        LongGetAborted = 15 "long-get-aborted",
        /// A block was asked for, but no long read goes on.
        NoLongGetInProgress = 16 "no-long-get-in-progress",
        /// The meter gave the long write up.
        LongSetAborted = 17 "long-set-aborted",
        /// A block was sent, but no long write goes on.
        NoLongSetInProgress = 18 "no-long-set-in-progress",
        /// Not the number of the next block.
        DataBlockNumberInvalid = 19 "data-block-number-invalid",
        /// None of these.
        OtherReason = 250 "other-reason",
    }
}

codes! {
    /// What came of invoking a method.
    ActionResult {
        /// Done.
        Success = 0 "success",
        /// The meter is broken.
        HardwareFault = 1 "hardware-fault",
        /// Not now; a later try may do.
        TemporaryFailure = 2 "temporary-failure",
        /// Not allowed in this association.
        ReadWriteDenied = 3 "read-write-denied",
        /// There is no such object.
        ObjectUndefined = 4 "object-undefined",
        /// The object is of another class.
        ObjectClassInconsistent = 9 "object-class-inconsistent",
        /// The object cannot be reached.
        ObjectUnavailable = 11 "object-unavailable",
        /// The parameters are of the wrong type.
        TypeUnmatched = 12 "type-unmatched",
        /// The access right is exceeded.
        ScopeOfAccessViolated = 13 "scope-of-access-violated",
        /// The block cannot be given or taken.
        DataBlockUnavailable = 14 "data-block-unavailable",
        /// The meter gave the long action up.
        LongActionAborted = 15 "long-action-aborted",
        /// A block was sent or asked for, but no long action goes on.
        NoLongActionInProgress = 16 "no-long-action-in-progress",
        /// None of these.
        OtherReason = 250 "other-reason",
    }
}

codes! {
    /// Which part of the protocol's state forbids the service.
    StateError {
        /// The service is not allowed now, mostly for want of an association.
        ServiceNotAllowed = 1 "service-not-allowed",
        /// The meter does not know the service.
        ServiceUnknown = 2 "service-unknown",
    }
}

codes! {
    /// The service that a confirmed-service-error answers.
    ConfirmedService {
        /// Opening the association.
        Initiate = 1 "initiate",
        /// A read by short name.
        Read = 5 "read",
        /// A write by short name.
        Write = 6 "write",
    }
}

codes! {
    /// What a confirmed-service-error is about.
    ServiceErrorCategory {
        /// Opening the association; see [`InitiateError`].
        Initiate = 6 "initiate",
    }
}

codes! {
    /// Why the association cannot be opened.
    InitiateError {
        /// The DLMS version of the client is too low.
        VersionTooLow = 1 "dlms-version-too-low",
        /// Nothing that the client proposes is supported.
        IncompatibleConformance = 2 "incompatible-conformance",
        /// The client takes in too short APDUs.
        PduSizeTooShort = 3 "pdu-size-too-short",
        /// The meter does not want to.
        RefusedByHandler = 4 "refused-by-the-vde-handler",
    }
}

#[cfg(test)]
mod tests {
    use std::string::ToString;

    use super::*;

    #[test]
    fn every_code_is_kept_and_only_unknown_ones_are_other() {
        let data = [0, 1, 2, 3, 4, 9, 11, 12, 13, 14, 15, 16, 17, 18, 19, 250];
        let action = [0, 1, 2, 3, 4, 9, 11, 12, 13, 14, 15, 16, 250];
        for code in 0..=0xff {
            let read = DataAccessResult::from_code(code);
            assert_eq!(read.code(), code);
            assert_eq!(matches!(read, DataAccessResult::Other(_)), !data.contains(&code), "{code}");
            let invoked = ActionResult::from_code(code);
            assert_eq!(invoked.code(), code);
            assert_eq!(matches!(invoked, ActionResult::Other(_)), !action.contains(&code), "{code}");
        }
        assert_eq!(DataAccessResult::ReadWriteDenied.to_string(), "read-write-denied");
        assert_eq!(ActionResult::Other(99).to_string(), "code 99");
    }
}
