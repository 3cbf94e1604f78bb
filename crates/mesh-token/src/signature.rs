//! Signatures by ECDSA have two forms: X.509 and TLS wrap two numbers in DER, and a signed token has them one after the
//! other.

const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 2;

/// The form of a token, with numbers of `size` bytes. `None` if the signature is not one of such numbers.
pub(crate) fn of_token(der: &[u8], size: usize) -> Option<Vec<u8>> {
    let [SEQUENCE, length, body @ ..] = der else { return None };
    if usize::from(*length) != body.len() {
        return None;
    }
    let (r, rest) = integer(body, size)?;
    let (s, rest) = integer(rest, size)?;
    rest.is_empty().then(|| [r, s].concat())
}

fn integer(der: &[u8], size: usize) -> Option<(Vec<u8>, &[u8])> {
    let [INTEGER, length, body @ ..] = der else { return None };
    let (number, rest) = body.split_at_checked(usize::from(*length))?;
    let digits = number.strip_prefix(&[0]).unwrap_or(number);
    let padding = size.checked_sub(digits.len())?;
    Some(([&vec![0; padding], digits].concat(), rest))
}

/// The form of X.509. The numbers have at most 48 bytes each, so that one byte has each length.
pub(crate) fn of_x509(token: &[u8]) -> Vec<u8> {
    let (r, s) = token.split_at(token.len() / 2);
    let body = [to_integer(r), to_integer(s)].concat();
    [&[SEQUENCE, body.len() as u8], &body[..]].concat()
}

fn to_integer(number: &[u8]) -> Vec<u8> {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    let digits = &number[zeros.min(number.len().saturating_sub(1))..];
    // A first bit that is set would make it negative.
    let sign: &[u8] = if digits.first().is_some_and(|first| first & 0x80 != 0) { &[0] } else { &[] };
    [&[INTEGER, (sign.len() + digits.len()) as u8], sign, digits].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signature_keeps_its_numbers_in_both_forms() {
        for size in [32, 48] {
            for (r, s) in [(0x7f, 0x80), (0, 0xff), (1, 0)] {
                let mut token = vec![0; 2 * size];
                (token[size - 1], token[size]) = (r, s);
                assert_eq!(of_token(&of_x509(&token), size), Some(token), "{size} {r} {s}");
            }
        }
        assert_eq!(of_x509(&[0, 1, 0x80, 0]), [SEQUENCE, 8, INTEGER, 1, 1, INTEGER, 3, 0, 0x80, 0]);
    }

    #[test]
    fn signature_that_is_not_der_is_none() {
        for der in
            [&[][..], &[SEQUENCE, 9], &[SEQUENCE, 3, INTEGER, 1, 1], &[SEQUENCE, 6, INTEGER, 9, 1, INTEGER, 1, 1]]
        {
            assert_eq!(of_token(der, 32), None, "{der:?}");
        }
    }
}
