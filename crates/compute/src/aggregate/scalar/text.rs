//! Bytes of any length, short ones without the heap.

use std::cmp::Ordering;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// Bytes in 16 bytes: up to 15 lie in it, longer ones are shared. Codes, categories and names are short, and states
/// are many.
#[derive(Clone)]
pub(in crate::aggregate) enum Text {
    /// So many of them, and zeros.
    Short(Length, [u8; 15]),
    /// More than 15. A thin pointer, so that a text stays at 16 bytes.
    Long(Arc<Box<[u8]>>),
}

/// 0 to 15. An enumeration, because the compiler then has room in its byte for which form a text, or an option of
/// one, is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
#[rustfmt::skip]
pub(in crate::aggregate) enum Length { L0, L1, L2, L3, L4, L5, L6, L7, L8, L9, L10, L11, L12, L13, L14, L15 }

impl Length {
    #[rustfmt::skip]
    const ALL: [Length; 16] = {
        use Length::{L0, L1, L2, L3, L4, L5, L6, L7, L8, L9, L10, L11, L12, L13, L14, L15};
        [L0, L1, L2, L3, L4, L5, L6, L7, L8, L9, L10, L11, L12, L13, L14, L15]
    };
}

impl Text {
    #[inline]
    pub(in crate::aggregate) fn new(bytes: &[u8]) -> Text {
        match Length::ALL.get(bytes.len()) {
            Some(length) => {
                let mut short = [0; 15];
                short[..bytes.len()].copy_from_slice(bytes);
                Text::Short(*length, short)
            }
            None => Text::Long(Arc::new(bytes.into())),
        }
    }

    #[inline]
    pub(in crate::aggregate) fn bytes(&self) -> &[u8] {
        match self {
            Text::Short(length, bytes) => &bytes[..*length as usize],
            Text::Long(bytes) => bytes,
        }
    }

    /// Bytes besides itself; those that several texts share are counted with each.
    pub(in crate::aggregate) fn heap_bytes(&self) -> usize {
        match self {
            Text::Short(..) => 0,
            // Two counts, a pointer and a length stand before the bytes.
            Text::Long(bytes) => bytes.len() + 32,
        }
    }
}

impl Default for Text {
    fn default() -> Text {
        Text::Short(Length::L0, [0; 15])
    }
}

impl Ord for Text {
    #[inline]
    fn cmp(&self, other: &Text) -> Ordering {
        match (self, other) {
            // Zeros at the end of the shorter one come before anything but zeros, and then lengths decide.
            (Text::Short(length, bytes), Text::Short(other_length, other)) => {
                bytes.cmp(other).then(length.cmp(other_length))
            }
            _ => self.bytes().cmp(other.bytes()),
        }
    }
}

impl PartialOrd for Text {
    #[inline]
    fn partial_cmp(&self, other: &Text) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Text {
    #[inline]
    fn eq(&self, other: &Text) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Text {}

impl Hash for Text {
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.bytes().hash(state);
    }
}

/// Without the bytes, which are values.
impl std::fmt::Debug for Text {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Text").field("length", &self.bytes().len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn it_is_small() {
        assert_eq!(size_of::<Text>(), 16);
        assert_eq!(size_of::<Option<Text>>(), 16);
    }

    proptest! {
        #[test]
        fn it_is_and_orders_as_its_bytes(
            one in prop::collection::vec(0_u8..3, 0..20), two in prop::collection::vec(0_u8..3, 0..20),
        ) {
            let texts = (Text::new(&one), Text::new(&two));
            prop_assert_eq!(texts.0.bytes(), &one);
            prop_assert_eq!(texts.0.cmp(&texts.1), one.cmp(&two));
            prop_assert_eq!(texts.0 == texts.1, one == two);
        }
    }
}
