//! What we ask a viewer's certificate to be: our own CertificateRequest (RFC 5246 section 7.4.4)
//! in the place of dimpl's, on the wire and in the transcript.
//!
//! Only what dimpl writes as a server is read here, never a peer's bytes alone: a client's
//! messages in the transcript are whole and known to dimpl, and none of them has this kind.

/// Certificate types, signature algorithms, names of authorities; each list after its length.
const QUESTION: [u8; 15] = [
    2, 64, 1, // ecdsa_sign, rsa_sign
    0, 8, 4, 3, 5, 3, // ECDSA with SHA-256 and SHA-384, as dimpl has them
    8, 4, 4, 1, // RSA with SHA-256: PSS (RFC 8446 section 4.2.3) and PKCS #1
    0, 0, // none: certificates are self-signed, their fingerprints are in the SDP
];
/// Most bytes by which a datagram of dimpl's grows: it may have cut its request in two, and ours
/// takes the place of the first part.
pub(super) const GROWTH: usize = QUESTION.len();

/// HandshakeType (RFC 5246 section 7.4).
const CERTIFICATE_REQUEST: u8 = 13;
/// ContentType and epoch of a handshake in the clear, around the two bytes of the version.
const HANDSHAKE: u8 = 22;
/// Head of a record (RFC 6347 section 4.1) and of a message (section 4.2.2).
const RECORD_HEAD: usize = 13;
const HEAD: usize = 12;

/// The message in one piece.
pub(super) type Message = [u8; HEAD + QUESTION.len()];

/// A datagram of dimpl's with our question for dimpl's. dimpl has one message to a record.
pub(super) fn in_datagram(datagram: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(datagram.len() + GROWTH);
    let mut rest = datagram;
    while let Some((record, more)) = split_record(rest) {
        rest = more;
        let Some(head) = head_of_request(record) else {
            out.extend_from_slice(record);
            continue;
        };
        if is_first_part(head) {
            let message = ask(head);
            out.extend_from_slice(&record[..RECORD_HEAD - 2]);
            out.extend_from_slice(&(message.len() as u16).to_be_bytes());
            out.extend_from_slice(&message);
        }
    }
    out.extend_from_slice(rest);
    out
}

/// A transcript of dimpl's (messages with their heads, each whole): what is before its question,
/// our question, what is after it.
pub(super) fn in_transcript(transcript: &[u8]) -> (&[u8], Option<Message>, &[u8]) {
    let mut at = 0;
    while let Some(head) = transcript[at..].first_chunk::<HEAD>() {
        let end = at + HEAD + u32::from_be_bytes([0, head[1], head[2], head[3]]) as usize;
        let Some(after) = transcript.get(end..) else {
            break;
        };
        if head[0] == CERTIFICATE_REQUEST {
            return (&transcript[..at], Some(ask(head)), after);
        }
        at = end;
    }
    (transcript, None, &[])
}

/// The first record, and what follows it.
fn split_record(datagram: &[u8]) -> Option<(&[u8], &[u8])> {
    let head = datagram.first_chunk::<RECORD_HEAD>()?;
    let len = u16::from_be_bytes([head[11], head[12]]);
    datagram.split_at_checked(RECORD_HEAD + usize::from(len))
}

/// The head of dimpl's request or of a part of it, if this record has one and is not encrypted.
fn head_of_request(record: &[u8]) -> Option<&[u8; HEAD]> {
    let head = record.get(RECORD_HEAD..)?.first_chunk()?;
    let is_handshake = record[0] == HANDSHAKE && record[3..5] == [0, 0];
    (is_handshake && head[0] == CERTIFICATE_REQUEST).then_some(head)
}

fn is_first_part(head: &[u8; HEAD]) -> bool {
    head[6..9] == [0, 0, 0]
}

/// Our question under the number (message_seq) of the one that has this head.
fn ask(head: &[u8; HEAD]) -> Message {
    let len = QUESTION.len() as u8;
    let mut message = [0; HEAD + QUESTION.len()];
    message[0] = CERTIFICATE_REQUEST;
    message[3] = len;
    message[4..6].copy_from_slice(&head[4..6]);
    message[11] = len; // a fragment from 0 of all bytes
    message[HEAD..].copy_from_slice(&QUESTION);
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    /// dimpl's own, as a whole and cut after three bytes.
    const THEIRS: &[u8] = &[1, 64, 0, 4, 4, 3, 5, 3, 0, 0];

    fn part(kind: u8, seq: u8, body: &[u8], part: std::ops::Range<usize>) -> Vec<u8> {
        let (len, offset) = (body.len() as u8, part.start as u8);
        let mut message = vec![
            kind,
            0,
            0,
            len,
            0,
            seq,
            0,
            0,
            offset,
            0,
            0,
            part.len() as u8,
        ];
        message.extend_from_slice(&body[part]);
        message
    }

    fn whole(kind: u8, seq: u8, body: &[u8]) -> Vec<u8> {
        part(kind, seq, body, 0..body.len())
    }

    fn record(epoch: u8, number: u8, message: &[u8]) -> Vec<u8> {
        let len = message.len() as u8;
        let mut record = vec![HANDSHAKE, 254, 253, 0, epoch, 0, 0, 0, 0, 0, number, 0, len];
        record.extend_from_slice(message);
        record
    }

    #[test]
    fn our_question_takes_the_place_of_theirs_in_a_datagram() {
        let before = record(0, 4, &whole(12, 3, &[7; 90]));
        let after = record(0, 6, &whole(14, 5, &[]));
        let theirs = record(0, 5, &whole(CERTIFICATE_REQUEST, 4, THEIRS));
        let ours = record(0, 5, &whole(CERTIFICATE_REQUEST, 4, &QUESTION));
        let sent = in_datagram(&[&before[..], &theirs, &after].concat());
        assert_eq!(sent, [&before[..], &ours, &after].concat());
    }

    #[test]
    fn a_question_in_parts_goes_out_once_and_grows_no_more_than_said() {
        let parts = [0..1, 1..THEIRS.len()].map(|range| {
            let number = range.start as u8;
            record(0, number, &part(CERTIFICATE_REQUEST, 4, THEIRS, range))
        });
        let first = in_datagram(&parts[0]);
        let ours = record(0, 0, &whole(CERTIFICATE_REQUEST, 4, &QUESTION));
        assert_eq!(first, ours);
        assert!(first.len() <= parts[0].len() + GROWTH);
        assert!(in_datagram(&parts[1]).is_empty());
    }

    #[test]
    fn what_is_encrypted_or_cut_short_is_left_alone() {
        let theirs = whole(CERTIFICATE_REQUEST, 4, THEIRS);
        let encrypted = record(1, 5, &theirs);
        assert_eq!(in_datagram(&encrypted), encrypted);
        let clear = record(0, 5, &theirs);
        for len in 0..clear.len() {
            assert_eq!(in_datagram(&clear[..len]), clear[..len]);
        }
    }

    #[test]
    fn a_transcript_has_the_message_of_the_wire() {
        let hello = whole(1, 0, &[CERTIFICATE_REQUEST; 60]);
        let done = whole(14, 5, &[]);
        let theirs = whole(CERTIFICATE_REQUEST, 4, THEIRS);
        let all = [&hello[..], &theirs, &done].concat();
        let ours = whole(CERTIFICATE_REQUEST, 4, &QUESTION);
        let (before, question, after) = in_transcript(&all);
        assert_eq!(before, hello);
        assert_eq!(question.as_ref().map(|q| &q[..]), Some(&ours[..]));
        assert_eq!(after, done);
        // Before it was asked, and cut anywhere: as it is.
        for len in 0..hello.len() + theirs.len() {
            assert_eq!(in_transcript(&all[..len]), (&all[..len], None, &[][..]));
        }
    }
}
