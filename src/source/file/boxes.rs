//! The boxes that an MP4 file is made of (ISO/IEC 14496-12 section 4.2), and those inside them.
//!
//! In: bytes. Out: the boxes in them, by kind.
//! Not here: what a box says (`mp4-atom`), which ones are needed (mp4).
//!
//! `mp4-atom` can read a whole index as well, but then knows every kind of box that there is
//! (400 kB of program) and refuses a film for one that has nothing to do with pictures.

use mp4_atom::Decode;

use super::clip::ClipError;

/// One box.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part<'a> {
    pub(super) kind: [u8; 4],
    /// What it holds.
    pub(super) body: &'a [u8],
    /// With its head.
    whole: &'a [u8],
}

/// The head of a box: its kind, its own length, and that of all of the box. `None` where `left`
/// bytes cannot be a box.
pub(super) fn head(bytes: &[u8], left: u64) -> Option<([u8; 4], u64, u64)> {
    let (size, rest) = bytes.split_first_chunk()?;
    let (kind, rest) = rest.split_first_chunk()?;
    let (head, size) = match u32::from_be_bytes(*size) {
        0 => (8, left), // to the end of what it is in
        1 => (16, u64::from_be_bytes(*rest.first_chunk()?)),
        size => (8, u64::from(size)),
    };
    (head..=left).contains(&size).then_some((*kind, head, size))
}

/// The boxes in these bytes, up to the first that is none: some writers leave a few zeros behind
/// the last.
pub(super) fn parts(mut bytes: &[u8]) -> impl Iterator<Item = Part<'_>> {
    std::iter::from_fn(move || {
        let (kind, head, size) = head(bytes, bytes.len() as u64)?;
        let (whole, behind) = bytes.split_at_checked(size as usize)?;
        bytes = behind;
        Some(Part {
            kind,
            body: whole.get(head as usize..)?,
            whole,
        })
    })
}

/// The first box of this kind.
pub(super) fn part<'a>(bytes: &'a [u8], kind: &[u8; 4]) -> Option<Part<'a>> {
    parts(bytes).find(|part| part.kind == *kind)
}

/// What the first box of this kind says; `None` without one.
pub(super) fn read<T: Decode>(bytes: &[u8], kind: &[u8; 4]) -> Result<Option<T>, ClipError> {
    let part = part(bytes, kind);
    Ok(part
        .map(|part| T::decode(&mut &part.whole[..]))
        .transpose()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bodies(bytes: &[u8]) -> Vec<&[u8]> {
        parts(bytes).map(|part| part.body).collect()
    }

    #[test]
    fn boxes_follow_each_other_with_short_and_long_sizes() {
        let short = [0, 0, 0, 9, b'f', b'r', b'e', b'e', 7];
        let mut long = [0, 0, 0, 1, b'w', b'i', b'd', b'e'].to_vec();
        long.extend(18_u64.to_be_bytes());
        long.extend([8, 9]);
        let open = [0, 0, 0, 0, b'm', b'd', b'a', b't', 1, 2, 3];
        let bytes = [&short[..], &long, &open].concat();
        assert_eq!(bodies(&bytes), [&[7][..], &[8, 9], &[1, 2, 3]]);
        assert_eq!(part(&bytes, b"wide").unwrap().whole, long);
        assert!(part(&bytes, b"moov").is_none());
    }

    #[test]
    fn what_is_no_box_ends_them() {
        let short = [0, 0, 0, 9, b'f', b'r', b'e', b'e', 7];
        for rest in [
            &[0, 0, 0][..],                  // padding
            &[0, 0, 0, 7, 1, 2, 3, 4],       // shorter than its head
            &[0, 0, 0, 9, 1, 2, 3, 4],       // longer than what is there
            &[0, 0, 0, 1, 1, 2, 3, 4, 0, 0], // without its long size
            &[
                0, 0, 0, 1, 1, 2, 3, 4, 255, 255, 255, 255, 255, 255, 255, 255,
            ],
        ] {
            let bytes = [&short, rest].concat();
            assert_eq!(bodies(&bytes), [[7]], "{rest:?}");
        }
    }
}
