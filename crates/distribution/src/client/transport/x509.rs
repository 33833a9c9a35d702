//! The little that must be read of a certificate itself: how long it is valid.

use rustls::pki_types::UnixTime;

/// When a certificate is valid, in seconds since 1970.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Validity {
    pub(crate) not_before: u64,
    pub(crate) not_after: u64,
}

/// Reads the validity of a DER certificate (RFC 5280, 4.1).
pub(crate) fn validity(certificate: &[u8]) -> Option<Validity> {
    let mut outer = Der(certificate);
    let mut certificate = Der(outer.take(0x30)?);
    let mut signed = Der(certificate.take(0x30)?);
    // The version is absent in version 1.
    let _ = signed.take(0xa0);
    signed.take(0x02)?;
    signed.take(0x30)?;
    signed.take(0x30)?;
    let mut validity = Der(signed.take(0x30)?);
    Some(Validity { not_before: validity.time()?, not_after: validity.time()? })
}

/// A time as Go prints it.
pub(crate) fn show(time: UnixTime) -> String {
    i64::try_from(time.as_secs())
        .ok()
        .and_then(|seconds| jiff::Timestamp::from_second(seconds).ok())
        .map_or_else(|| time.as_secs().to_string(), |time| time.to_string())
}

struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    /// The content of the next element, if it has `tag`.
    fn take(&mut self, tag: u8) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_first_chunk::<2>()?;
        if head[0] != tag {
            return None;
        }
        let (length, rest) = match head[1] {
            short @ 0..=0x7f => (usize::from(short), rest),
            0x81..=0x84 => {
                let (digits, rest) = rest.split_at_checked(usize::from(head[1] & 0x7f))?;
                (digits.iter().fold(0, |length, digit| (length << 8) | usize::from(*digit)), rest)
            }
            _ => return None,
        };
        let (content, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some(content)
    }

    /// `UTCTime` (two digits of the year) or `GeneralizedTime`, both in UTC with seconds.
    fn time(&mut self) -> Option<u64> {
        let short = self.take(0x17);
        let text = match short {
            Some(text) => text,
            None => self.take(0x18)?,
        };
        let text = std::str::from_utf8(text).ok()?.strip_suffix('Z')?;
        if !text.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        let (year, rest) = text.split_at_checked(if short.is_some() { 2 } else { 4 })?;
        let year: i16 = year.parse().ok()?;
        let year = match short {
            Some(_) if year < 50 => 2000 + year,
            Some(_) => 1900 + year,
            None => year,
        };
        if rest.len() != 10 {
            return None;
        }
        let two = |at: usize| rest[at..at + 2].parse::<i8>().ok();
        let time = jiff::civil::DateTime::new(year, two(0)?, two(2)?, two(4)?, two(6)?, two(8)?, 0).ok()?;
        let time = time.to_zoned(jiff::tz::TimeZone::UTC).ok()?;
        u64::try_from(time.timestamp().as_second()).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn validity_is_read() {
        let mut params = rcgen::CertificateParams::new(vec!["a".to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(2001, 2, 3);
        params.not_after = rcgen::date_time_ymd(2095, 1, 1);
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        assert_eq!(
            validity(certificate.der()),
            Some(Validity { not_before: 981_158_400, not_after: 3_944_678_400 })
        );
        assert_eq!(validity(&certificate.der()[..60]), None);
        assert_eq!(validity(&[]), None);
        assert_eq!(validity(&[0x30, 0x84, 0xff, 0xff, 0xff, 0xff]), None);
    }
}
