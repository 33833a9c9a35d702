//! hosts(5).

use std::net::IpAddr;

/// The addresses that `text` lists for `name`, in its order.
pub(super) fn lookup(text: &str, name: &str) -> Vec<IpAddr> {
    let mut found = Vec::new();
    for line in text.lines() {
        let mut words = line.split('#').next().unwrap_or_default().split_whitespace();
        let Some(Ok(address)) = words.next().map(str::parse) else { continue };
        if words.any(|word| word.trim_end_matches('.').eq_ignore_ascii_case(name))
            && !found.contains(&address)
        {
            found.push(address);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::lookup;

    #[test]
    fn lines_name_hosts_and_aliases() {
        let text =
            "127.0.0.1 localhost # comment other\n::1 localhost ip6\nbad line\n10.0.0.1\tRegistry.local. r\n";
        assert_eq!(lookup(text, "localhost").len(), 2);
        assert_eq!(lookup(text, "registry.LOCAL"), ["10.0.0.1".parse::<std::net::IpAddr>().unwrap()]);
        assert_eq!(lookup(text, "r").len(), 1);
        assert!(lookup(text, "other").is_empty());
        assert!(lookup(text, "10.0.0.1").is_empty());
    }
}
