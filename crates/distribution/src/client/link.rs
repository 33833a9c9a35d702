//! `Link`: where a list goes on (RFC 8288, as far as registries use it).

const LENGTH_LIMIT: usize = 8 << 10;

/// The address of the next page, as written.
#[must_use]
pub fn next(value: &str) -> Option<&str> {
    if value.len() > LENGTH_LIMIT {
        return None;
    }
    let mut rest = value;
    loop {
        let (_, after) = rest.split_once('<')?;
        let (address, after) = after.split_once('>')?;
        let end = after.find('<').unwrap_or(after.len());
        let (parameters, following) = after.split_at(end);
        let is_next = parameters.split([';', ',']).any(|parameter| {
            parameter.split_once('=').is_some_and(|(name, value)| {
                name.trim().eq_ignore_ascii_case("rel")
                    && value.trim().trim_matches('"').eq_ignore_ascii_case("next")
            })
        });
        if is_next {
            return Some(address);
        }
        rest = following;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::next;

    #[test]
    fn the_next_page_is_found() {
        assert_eq!(next("</v2/a/tags/list?n=2&last=b>; rel=\"next\""), Some("/v2/a/tags/list?n=2&last=b"));
        assert_eq!(next("<x>; rel=prev, <y>;REL=Next; title=z"), Some("y"));
        assert_eq!(next("<x>; rel=prev"), None);
        assert_eq!(next("<x"), None);
        assert_eq!(next(""), None);
        assert_eq!(next("<x>"), None);
    }

    proptest! {
        #[test]
        fn any_text_is_read(text in ".{0,200}") {
            let _ = next(&text);
        }
    }
}
