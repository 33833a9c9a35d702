//! Reads any bytes as an archive: no panic, no more content than there was input, and what was read can be written and
//! reads the same again.
#![no_main]

use std::io::Read;

use libfuzzer_sys::fuzz_target;
use wharf_layer::tar::{Entry, Kind, Reader, Writer};

fn members(archive: &[u8]) -> Option<Vec<(Entry, Vec<u8>)>> {
    let mut reader = Reader::new(archive);
    let mut members = Vec::new();
    while let Some(entry) = reader.next().ok()? {
        let mut content = Vec::new();
        reader.read_to_end(&mut content).ok()?;
        members.push((entry, content));
    }
    Some(members)
}

/// Read but not written: maps of sparse files, files whose name says directory, devices that no kernel has.
fn is_writable(entry: &Entry) -> bool {
    let named_as_directory = entry.kind == Kind::File && entry.path.ends_with(b"/");
    let device = entry.device.0.max(entry.device.1) <= 0o7_777_777;
    entry.sparse.is_none() && !named_as_directory && device
}

fuzz_target!(|archive: &[u8]| {
    let Some(mut members) = members(archive) else { return };
    let stored: usize = members.iter().map(|(_, content)| content.len()).sum();
    assert!(stored <= archive.len());
    members.retain(|(entry, _)| is_writable(entry));
    let mut writer = Writer::new(Vec::new());
    for (entry, content) in &members {
        writer.append_file(entry, &content[..]).expect("memory takes everything");
    }
    let again = writer.finish().expect("memory takes everything");
    let read: Vec<Entry> = self::members(&again)
        .expect("what is written can be read")
        .into_iter()
        .map(|member| member.0)
        .collect();
    let written: Vec<Entry> = members.into_iter().map(|member| member.0).collect();
    assert_eq!(read, written);
});
