//! Archives.

use fuzzing::Seeds;

/// Two members, the first with an extended header (POSIX pax) of a long path.
static PLAIN: [u8; 7 * BLOCK] = archive();

const BLOCK: usize = 512;

pub(crate) const tar_reader: Seeds<'_> = Seeds {
    whole: &[&PLAIN],
    words: &[
        "ustar\x0000",
        "ustar  \0",
        "././@LongLink",
        "12 path=x/y\n",
        "25 GNU.sparse.major=1\n",
        "18 size=99999999\n",
        "20 mtime=1.5e3\n",
        "30 SCHILY.xattr.user.a=\0b\n",
        "0000644\0",
        "L",
        "K",
        "x",
        "g",
        "S",
        "5",
        "2",
        "../",
        "\0",
    ],
    mend: Some(mend),
};

/// Puts the sum right of every block that says it is a header.
fn mend(archive: &mut [u8]) {
    for block in archive.chunks_exact_mut(BLOCK).filter(|block| block[257..].starts_with(b"ustar")) {
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
}

const fn archive() -> [u8; 7 * BLOCK] {
    let mut bytes = [0; 7 * BLOCK];
    bytes = header(bytes, 0, b"PaxHeader", b"00000000014", b'x');
    bytes = text(bytes, BLOCK, b"12 path=a/b\n");
    bytes = header(bytes, 2 * BLOCK, b"name", b"00000000005", b'0');
    bytes = text(bytes, 3 * BLOCK, b"hello");
    header(bytes, 4 * BLOCK, b"dir/", b"00000000000", b'5')
}

const fn header(
    mut bytes: [u8; 7 * BLOCK],
    at: usize,
    name: &[u8],
    size: &[u8],
    kind: u8,
) -> [u8; 7 * BLOCK] {
    bytes = text(bytes, at, name);
    bytes = text(bytes, at + 100, b"0000644\x000000000\x000000000\0");
    bytes = text(bytes, at + 124, size);
    bytes = text(bytes, at + 136, b"14600000000\0        ");
    bytes[at + 156] = kind;
    bytes = text(bytes, at + 257, b"ustar\x0000");
    let (mut sum, mut index) = (0u32, 0);
    while index < BLOCK {
        sum += bytes[at + index] as u32;
        index += 1;
    }
    let mut digit = 0;
    while digit < 6 {
        bytes[at + 153 - digit] = b'0' + ((sum >> (3 * digit)) & 7) as u8;
        digit += 1;
    }
    bytes[at + 154] = 0;
    bytes
}

const fn text(mut bytes: [u8; 7 * BLOCK], at: usize, text: &[u8]) -> [u8; 7 * BLOCK] {
    let mut index = 0;
    while index < text.len() {
        bytes[at + index] = text[index];
        index += 1;
    }
    bytes
}
