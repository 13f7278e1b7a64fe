//! Numbers as x86 keeps them in memory: little-endian. Nothing is read behind the end of the bytes; a number that is not
//! wholly there is `None`.

/// The two bytes at an offset, as an unsigned number.
pub(crate) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// The four bytes at an offset, as an unsigned number.
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// The four bytes at an offset, as a signed number.
pub(crate) fn i32_at(bytes: &[u8], at: usize) -> Option<i32> {
    Some(i32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// The eight bytes at an offset, as an unsigned number.
pub(crate) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// All of these bytes as one unsigned number: a pointer of either width, or a field of any size; at most eight.
pub(crate) fn unsigned(bytes: &[u8]) -> Option<u64> {
    match bytes.len() {
        4 => u32_at(bytes, 0).map(u64::from),
        8 => u64_at(bytes, 0),
        len => {
            let mut number = [0; 8];
            number.get_mut(..len)?.copy_from_slice(bytes);
            Some(u64::from_le_bytes(number))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_that_the_bytes_end_in_is_none() {
        let bytes = [1, 2, 3, 4, 5, 6, 7, 8, 0xff];
        assert_eq!(u16_at(&bytes, 7), Some(0xff08));
        assert_eq!(u32_at(&bytes, 5), Some(0xff08_0706));
        assert_eq!(i32_at(&bytes, 5), Some(-0x00f7_f8fa));
        assert_eq!(u64_at(&bytes, 1), Some(0xff08_0706_0504_0302));
        assert_eq!((u16_at(&bytes, 8), u32_at(&bytes, 6), i32_at(&bytes, 6)), (None, None, None));
        assert_eq!((u64_at(&bytes, 2), u64_at(&bytes, usize::MAX)), (None, None));
    }

    #[test]
    fn a_field_of_any_size_up_to_eight_bytes_is_a_number() {
        let bytes = [1, 2, 3, 4, 5, 6, 7, 8, 9];
        assert_eq!(unsigned(&[]), Some(0));
        assert_eq!(unsigned(&bytes[..3]), Some(0x03_0201));
        assert_eq!(unsigned(&bytes[..4]), Some(0x0403_0201));
        assert_eq!(unsigned(&bytes[..8]), Some(0x0807_0605_0403_0201));
        assert_eq!(unsigned(&bytes), None);
    }
}
