//! An image's config when its layers are known: times, history, root file system.

use jiff::Timestamp;
use wharf_oci::{DiffId, History, ImageConfig};

/// What the history says of layers that no instruction accounts for.
const COMMENT: &str = "buildkit.exporter.image.v0";

/// A layer as the config names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Dated {
    pub(super) diff_id: DiffId,
    /// When it was made; `None`: a base image's.
    pub(super) created: Option<Timestamp>,
}

/// Completes a config: every step of its history has a time, none is after `epoch`, as many of them as there are layers
/// made one.
pub(super) fn complete(mut config: ImageConfig, layers: &[Dated], epoch: Option<Timestamp>) -> ImageConfig {
    // What is said of how the base image was made is not true of this one.
    for of_the_base in [&mut config.comment, &mut config.container, &mut config.docker_version] {
        of_the_base.clear();
    }
    config.history = accounted(std::mem::take(&mut config.history), layers);
    fill(&mut config.history);
    if let Some(epoch) = epoch {
        let late = |time: &str| time.parse::<Timestamp>().map_or(true, |time| time > epoch);
        for step in config.history.iter_mut().filter(|step| step.created.as_deref().is_none_or(late)) {
            step.created = Some(epoch.to_string());
        }
    }
    config.created = match epoch {
        Some(epoch) => Some(epoch.to_string()),
        None => config.history.iter().rev().find_map(|step| step.created.clone()).or(config.created),
    };
    config.rootfs.diff_ids = layers.iter().map(|layer| layer.diff_id).collect();
    config
}

/// The history with one step for each layer that is not empty, the layers' own times where they have one.
fn accounted(mut history: Vec<History>, layers: &[Dated]) -> Vec<History> {
    let mut left = layers.iter();
    for step in history.iter_mut().filter(|step| !step.empty_layer) {
        match left.next() {
            Some(layer) => step.created = step.created.take().or_else(|| layer.created.map(text)),
            None => step.empty_layer = true,
        }
    }
    history.extend(left.map(|layer| History {
        created: layer.created.map(text),
        comment: COMMENT.to_owned(),
        ..History::default()
    }));
    history
}

/// Gives steps without a time that of the layer before them; those before the first new layer have that one's, not the
/// base image's.
fn fill(history: &mut [History]) {
    let first_without = history.iter().position(|step| step.created.is_none());
    let Some(first_without) = first_without else { return };
    let next = history[first_without..].iter().find_map(|step| step.created.clone());
    let before = history[..first_without].iter().rev().find_map(|step| step.created.clone());
    let mut time = next.or(before);
    for step in &mut history[first_without..] {
        match &step.created {
            Some(known) => time = Some(known.clone()),
            None => step.created.clone_from(&time),
        }
    }
}

fn text(time: Timestamp) -> String {
    time.to_string()
}

#[cfg(test)]
mod tests {
    use wharf_oci::Digest;

    use super::*;

    fn layer(name: &str, created: Option<i64>) -> Dated {
        let created = created.map(|seconds| Timestamp::from_second(seconds).unwrap());
        Dated { diff_id: DiffId(Digest::of(name.as_bytes())), created }
    }

    fn step(name: &str, created: Option<&str>, empty_layer: bool) -> History {
        let created = created.map(str::to_owned);
        History { created, created_by: name.to_owned(), empty_layer, ..History::default() }
    }

    fn image(history: Vec<History>) -> ImageConfig {
        ImageConfig { history, ..ImageConfig::default() }
    }

    #[test]
    fn steps_have_the_times_of_the_layers_around_them() {
        let history = vec![
            step("base", Some("1970-01-01T00:00:05Z"), false),
            step("ENV a=b", None, true),
            step("RUN x", None, false),
            step("CMD x", None, true),
        ];
        let done = complete(image(history), &[layer("base", None), layer("x", Some(100))], None);
        let times: Vec<&str> = done.history.iter().filter_map(|step| step.created.as_deref()).collect();
        let (base, new) = ("1970-01-01T00:00:05Z", "1970-01-01T00:01:40Z");
        assert_eq!(times, [base, new, new, new]);
        assert_eq!(done.created.as_deref(), Some(new));
        assert_eq!(done.rootfs.diff_ids.len(), 2);
    }

    #[test]
    fn an_image_without_new_layers_is_as_old_as_its_base() {
        let history = vec![step("base", Some("1970-01-01T00:00:05Z"), false), step("LABEL a=b", None, true)];
        let done = complete(image(history), &[layer("base", None)], None);
        assert_eq!(done.created.as_deref(), Some("1970-01-01T00:00:05Z"));
    }

    #[test]
    fn nothing_is_after_the_epoch() {
        let history = vec![
            step("base", Some("1970-01-01T00:00:05Z"), false),
            step("late", Some("1970-01-01T00:01:00Z"), true),
            step("RUN x", None, false),
        ];
        let epoch = Timestamp::from_second(50).unwrap();
        let done = complete(image(history), &[layer("base", None), layer("x", Some(100))], Some(epoch));
        let times: Vec<&str> = done.history.iter().filter_map(|step| step.created.as_deref()).collect();
        let at = "1970-01-01T00:00:50Z";
        assert_eq!(times, ["1970-01-01T00:00:05Z", at, at]);
        assert_eq!(done.created.as_deref(), Some(at));
    }

    #[test]
    fn layers_and_history_agree() {
        let more = complete(image(Vec::new()), &[layer("x", Some(1))], None);
        assert_eq!((more.history.len(), more.history[0].comment.as_str()), (1, COMMENT));
        let fewer =
            complete(image(vec![step("a", None, false), step("b", None, false)]), &[layer("x", None)], None);
        let empty: Vec<bool> = fewer.history.iter().map(|step| step.empty_layer).collect();
        assert_eq!(empty, [false, true]);
    }
}
