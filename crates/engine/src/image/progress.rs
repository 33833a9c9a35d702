//! Progress as Docker words it.

use wharf_api::JsonMessage;

use crate::body::ByteSender;
use crate::error::Result;

/// A message each so many bytes: a client that does not read until it has sent everything must not fill the pipe.
const EVERY: u64 = 16 << 20;

/// The progress of one layer.
#[derive(Debug)]
pub(super) struct LayerProgress<'a> {
    sender: Option<&'a ByteSender>,
    id: String,
    total: u64,
    current: u64,
    said: u64,
}

impl<'a> LayerProgress<'a> {
    /// Progress of the layer `id` (short) of `total` bytes; without a sender nothing is said.
    pub(super) fn new(sender: Option<&'a ByteSender>, id: String, total: u64) -> Self {
        Self { sender, id, total, current: 0, said: 0 }
    }

    /// So many bytes more.
    pub(super) fn advance(&mut self, bytes: u64) -> Result<()> {
        self.current += bytes;
        if self.current - self.said >= EVERY { self.say() } else { Ok(()) }
    }

    /// The layer is done.
    pub(super) fn finish(mut self) -> Result<()> {
        self.current = self.total;
        self.say()
    }

    fn say(&mut self) -> Result<()> {
        self.said = self.current;
        let Some(sender) = self.sender else { return Ok(()) };
        let (current, total) =
            (self.current.try_into().unwrap_or(i64::MAX), self.total.try_into().unwrap_or(i64::MAX));
        let mut message = JsonMessage::progress(self.id.clone(), "Loading layer", current, total);
        message.progress = bar(self.current, self.total);
        sender.blocking_message(&message)
    }
}

/// Docker's progress bar of 50 characters with sizes.
pub(super) fn bar(current: u64, total: u64) -> String {
    if total == 0 || current > total {
        return format!("{:>8}", human(current));
    }
    let done = usize::try_from(current * 50 / total).unwrap_or(50);
    format!("[{}>{}] {:>8}/{}", "=".repeat(done), " ".repeat(50 - done), human(current), human(total))
}

/// A size in decimal units with four significant digits (go-units, `HumanSize`).
pub(super) fn human(bytes: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "four digits are shown")]
    let mut size = bytes as f64;
    let mut unit = 0;
    while size >= 1000.0 && unit < 5 {
        size /= 1000.0;
        unit += 1;
    }
    let unit = ["B", "kB", "MB", "GB", "TB", "PB"][unit];
    let digits: usize = if size >= 100.0 {
        1
    } else if size >= 10.0 {
        2
    } else {
        3
    };
    let text = format!("{size:.digits$}");
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text}{unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_dockers() {
        assert_eq!(
            bar(10240, 10240),
            "[==================================================>]  10.24kB/10.24kB"
        );
        assert_eq!(
            bar(0, 2_129_920),
            "[>                                                  ]       0B/2.13MB"
        );
        assert_eq!(human(639_432_192), "639.4MB");
        assert_eq!(human(999), "999B");
    }
}
