//! What every class file repeats, written once: its structures, its enumerations, its table of members.

/// A structure of the standard: its fields in the order of the wire.
macro_rules! structure {
    ($(
        $(#[$doc:meta])*
        pub struct $name:ident $(<$life:lifetime>)? {
            $($(#[$field_doc:meta])* pub $field:ident: $type:ty,)*
        }
    )*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct $name $(<$life>)? {
            $($(#[$field_doc])* pub $field: $type,)*
        }

        impl<'a> $crate::cosem::Wire<'a> for $name $(<$life>)? {
            fn read(field: $crate::cosem::Field<'a>) -> Result<Self, $crate::cosem::ValueError> {
                let [$($field),*] = field.fields()?;
                Ok(Self { $($field: $crate::cosem::Wire::read($field)?),* })
            }

            fn write(&self, writer: &mut $crate::axdr::Writer<'_>) {
                writer.structure([$(stringify!($field)),*].len());
                $($crate::cosem::Wire::write(&self.$field, writer);)*
            }
        }
    )*};
}

/// An enumeration of the standard that keeps the codes it does not know.
macro_rules! codes {
    ($(
        $(#[$doc:meta])*
        pub enum $name:ident {
            $($(#[$code_doc:meta])* $variant:ident = $code:literal,)*
        }
    )*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name {
            $($(#[$code_doc])* $variant,)*
            /// Another code, as it stands on the wire.
            Other(u8),
        }

        impl $name {
            /// Every code that has a name.
            pub const NAMED: &'static [Self] = &[$(Self::$variant),*];

            /// What `code` means.
            #[must_use]
            pub const fn from_code(code: u8) -> Self {
                match code {
                    $($code => Self::$variant,)*
                    other => Self::Other(other),
                }
            }

            /// The code on the wire.
            #[must_use]
            pub const fn code(self) -> u8 {
                match self {
                    $(Self::$variant => $code,)*
                    Self::Other(code) => code,
                }
            }
        }

        impl<'a> $crate::cosem::Wire<'a> for $name {
            fn read(field: $crate::cosem::Field<'a>) -> Result<Self, $crate::cosem::ValueError> {
                match field.value() {
                    $crate::axdr::Value::Enum(code) | $crate::axdr::Value::U8(code) => Ok(Self::from_code(code)),
                    _ => Err(field.mismatch("enum")),
                }
            }

            fn write(&self, writer: &mut $crate::axdr::Writer<'_>) {
                writer.enum_(self.code());
            }
        }
    )*};
}

/// The attributes and methods of a class: their numbers, names and types, and a reader for each.
macro_rules! class {
    (
        $class:literal
        attributes $values:ident $(<$life:lifetime>)? {
            $($(#[$doc:meta])* $number:literal $attribute:ident $reader:ident: $type:ty,)*
        }
        methods {
            $($(#[$method_doc:meta])* $method_number:literal $method:ident $method_name:ident: $parameter:ty,)*
        }
        calls $calls:ident $(<$call_life:lifetime>)?
    ) => {
        /// The number of this class.
        pub const CLASS: $crate::cosem::ClassId = $crate::cosem::ClassId($class);

        /// The attributes.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Attribute {
            $($(#[$doc])* $attribute,)*
        }

        impl Attribute {
            /// All of them, by number.
            pub const ALL: &'static [Self] = &[$(Self::$attribute),*];

            /// Its number.
            #[must_use]
            pub const fn number(self) -> i8 {
                match self {
                    $(Self::$attribute => $number,)*
                }
            }

            /// The attribute of this number.
            #[must_use]
            pub const fn from_number(number: i8) -> Option<Self> {
                match number {
                    $($number => Some(Self::$attribute),)*
                    _ => None,
                }
            }

            /// Its name in the standard.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$attribute => stringify!($reader),)*
                }
            }

            const fn place(self) -> $crate::cosem::Place {
                let member = $crate::cosem::Member::Attribute(self.number());
                $crate::cosem::Place::new(CLASS, member, self.name())
            }
        }

        /// An attribute with its value.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $values $(<$life>)? {
            $($(#[$doc])* $attribute($type),)*
        }

        impl $(<$life>)? $values $(<$life>)? {
            /// Which attribute.
            #[must_use]
            pub const fn attribute(&self) -> Attribute {
                match self {
                    $(Self::$attribute(_) => Attribute::$attribute,)*
                }
            }

            /// Appends the value.
            pub fn write(&self, writer: &mut $crate::axdr::Writer<'_>) {
                match self {
                    $(Self::$attribute(value) => $crate::cosem::Wire::write(value, writer),)*
                }
            }
        }

        /// The value of `attribute`.
        ///
        /// # Errors
        /// [`ValueError`](crate::cosem::ValueError) when it is of another shape.
        #[allow(clippy::needless_lifetimes, reason = "needed by the classes whose values borrow")]
        pub fn read<'a>(
            attribute: Attribute,
            value: $crate::axdr::Value<'a>,
        ) -> Result<$values $(<$life>)?, $crate::cosem::ValueError> {
            match attribute {
                $(Attribute::$attribute => $reader(value).map($values::$attribute),)*
            }
        }

        $(
            $(#[$doc])*
            ///
            /// # Errors
            /// [`ValueError`](crate::cosem::ValueError) when the value is of another shape.
            #[allow(clippy::needless_lifetimes, reason = "needed by the types that borrow")]
            pub fn $reader<'a>(value: $crate::axdr::Value<'a>) -> Result<$type, $crate::cosem::ValueError> {
                let field = $crate::cosem::Field::new(value, Attribute::$attribute.place());
                $crate::cosem::Wire::read(field)
            }
        )*

        class!(@methods { $($(#[$method_doc])* $method_number $method $method_name: $parameter,)* }
            $calls $(<$call_life>)?);
    };

    (@methods {} $calls:ident) => {};

    (@methods { $($(#[$doc:meta])* $number:literal $method:ident $name:ident: $parameter:ty,)* }
        $calls:ident $(<$life:lifetime>)?) => {
        /// The methods.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Method {
            $($(#[$doc])* $method,)*
        }

        impl Method {
            /// All of them, by number.
            pub const ALL: &'static [Self] = &[$(Self::$method),*];

            /// Its number.
            #[must_use]
            pub const fn number(self) -> i8 {
                match self {
                    $(Self::$method => $number,)*
                }
            }

            /// The method of this number.
            #[must_use]
            pub const fn from_number(number: i8) -> Option<Self> {
                match number {
                    $($number => Some(Self::$method),)*
                    _ => None,
                }
            }

            /// Its name in the standard.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$method => stringify!($name),)*
                }
            }
        }

        /// A method with its parameter.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $calls $(<$life>)? {
            $($(#[$doc])* $method($parameter),)*
        }

        impl $(<$life>)? $calls $(<$life>)? {
            /// Which method.
            #[must_use]
            pub const fn method(&self) -> Method {
                match self {
                    $(Self::$method(_) => Method::$method,)*
                }
            }

            /// Appends the parameter.
            pub fn write(&self, writer: &mut $crate::axdr::Writer<'_>) {
                match self {
                    $(Self::$method(parameter) => $crate::cosem::Wire::write(parameter, writer),)*
                }
            }
        }

        /// The call of `method` with `parameter`; a parameter that is not there is null.
        ///
        /// # Errors
        /// [`ValueError`](crate::cosem::ValueError) when the parameter is of another shape.
        #[allow(clippy::needless_lifetimes, reason = "needed by the classes whose parameters borrow")]
        pub fn call<'a>(
            method: Method,
            parameter: Option<$crate::axdr::Value<'a>>,
        ) -> Result<$calls $(<$life>)?, $crate::cosem::ValueError> {
            let member = $crate::cosem::Member::Method(method.number());
            let place = $crate::cosem::Place::new(CLASS, member, method.name());
            let field = $crate::cosem::Field::new(parameter.unwrap_or($crate::axdr::Value::Null), place);
            Ok(match method {
                $(Method::$method => $calls::$method($crate::cosem::Wire::read(field)?),)*
            })
        }
    };
}
