//! Files of known formats, made here so that each byte is known.

/// A member of an archive, of whichever kind.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    pub(crate) name: String,
    pub(crate) time: u32,
    pub(crate) uid: u32,
    pub(crate) mode: u32,
    pub(crate) data: Vec<u8>,
}

pub(crate) fn member(name: &str, data: impl AsRef<[u8]>) -> Member {
    Member { name: name.to_owned(), time: 0, uid: 0, mode: 0o644, data: data.as_ref().to_vec() }
}

/// An archive of `ar`; names are as they are written in the header.
pub(crate) fn ar(members: &[Member]) -> Vec<u8> {
    let mut archive = b"!<arch>\n".to_vec();
    for Member { name, time, uid, mode, data } in members {
        let header = format!("{name:<16}{time:<12}{uid:<6}{:<6}{mode:<8o}{:<10}`\n", 0, data.len());
        assert_eq!(header.len(), 60);
        archive.extend_from_slice(header.as_bytes());
        archive.extend_from_slice(data);
        if data.len() % 2 == 1 {
            archive.push(b'\n');
        }
    }
    archive
}

/// A header of `tar` and what belongs to it. `prefix` is the beginning of the name in the format of POSIX.
pub(crate) fn tar_entry(kind: u8, prefix: &str, entry: &Member) -> Vec<u8> {
    let mut header = vec![0; 512];
    let mut put = |at: usize, bytes: &[u8]| header[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, entry.name.as_bytes());
    put(100, format!("{:07o}\0", entry.mode).as_bytes());
    put(108, format!("{:07o}\0", entry.uid).as_bytes());
    put(116, b"0000000\0");
    put(124, format!("{:011o}\0", entry.data.len()).as_bytes());
    put(136, format!("{:011o}\0", entry.time).as_bytes());
    put(148, b"        ");
    put(156, &[kind]);
    put(257, b"ustar\x0000");
    put(345, prefix.as_bytes());
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    header.extend_from_slice(&entry.data);
    header.resize(header.len().next_multiple_of(512), 0);
    header
}

pub(crate) fn tar(entries: &[Member]) -> Vec<u8> {
    let mut archive: Vec<u8> = entries.iter().flat_map(|entry| tar_entry(b'0', "", entry)).collect();
    archive.resize(archive.len() + 1024, 0);
    archive
}

/// A zip archive without compression. The members' times are those of MS-DOS, date before time.
pub(crate) fn zip(entries: &[Member]) -> Vec<u8> {
    let (mut archive, mut directory) = (Vec::new(), Vec::new());
    for Member { name, time, data, .. } in entries {
        let mut fields = Vec::new();
        fields.extend_from_slice(&[20, 0, 0, 0, 0, 0]);
        fields.extend_from_slice(&(*time as u16).to_le_bytes());
        fields.extend_from_slice(&((time >> 16) as u16).to_le_bytes());
        let sum = data.iter().fold(0_u32, |sum, byte| sum.rotate_left(5) ^ u32::from(*byte));
        fields.extend_from_slice(&sum.to_le_bytes());
        fields.extend_from_slice(&(data.len() as u32).to_le_bytes());
        fields.extend_from_slice(&(data.len() as u32).to_le_bytes());
        fields.extend_from_slice(&(name.len() as u16).to_le_bytes());
        fields.extend_from_slice(&[0, 0]);
        directory.extend_from_slice(b"PK\x01\x02\x1e\x03");
        directory.extend_from_slice(&fields);
        directory.extend_from_slice(&[0; 10]);
        directory.extend_from_slice(&(archive.len() as u32).to_le_bytes());
        directory.extend_from_slice(name.as_bytes());
        archive.extend_from_slice(b"PK\x03\x04");
        archive.extend_from_slice(&fields);
        archive.extend_from_slice(name.as_bytes());
        archive.extend_from_slice(data);
    }
    let start = archive.len() as u32;
    archive.extend_from_slice(&directory);
    archive.extend_from_slice(b"PK\x05\x06\0\0\0\0");
    archive.extend_from_slice(&(entries.len() as u16).to_le_bytes());
    archive.extend_from_slice(&(entries.len() as u16).to_le_bytes());
    archive.extend_from_slice(&(directory.len() as u32).to_le_bytes());
    archive.extend_from_slice(&start.to_le_bytes());
    archive.extend_from_slice(&[0, 0]);
    archive
}

/// What `gzip -n` or `gzip` made; the compressed data is not looked at.
pub(crate) fn gzip(time: u32, name: Option<&str>, data: &[u8], sum: u32) -> Vec<u8> {
    let mut file = vec![0x1f, 0x8b, 8, if name.is_some() { 8 } else { 0 }];
    file.extend_from_slice(&time.to_le_bytes());
    file.extend_from_slice(&[2, 3]);
    if let Some(name) = name {
        file.extend_from_slice(name.as_bytes());
        file.push(0);
    }
    file.extend_from_slice(data);
    file.extend_from_slice(&sum.to_le_bytes());
    file.extend_from_slice(&1000_u32.to_le_bytes());
    file
}

/// Which ELF.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Machine {
    pub(crate) is_64: bool,
    pub(crate) is_big: bool,
}

impl Machine {
    fn number(self, value: u64, length: usize) -> Vec<u8> {
        if self.is_big {
            value.to_be_bytes()[8 - length..].to_vec()
        } else {
            value.to_le_bytes()[..length].to_vec()
        }
    }

    fn word(self, value: u64) -> Vec<u8> {
        self.number(value, if self.is_64 { 8 } else { 4 })
    }

    /// A note as `ld` writes it.
    pub(crate) fn note(self, name: &[u8], kind: u64, description: &[u8]) -> Vec<u8> {
        let mut note = Vec::new();
        for value in [name.len() as u64, description.len() as u64, kind] {
            note.extend(self.number(value, 4));
        }
        for part in [name, description] {
            note.extend_from_slice(part);
            note.resize(note.len().next_multiple_of(4), 0);
        }
        note
    }

    /// A file with these sections. The names of all are in one of its own at the end.
    pub(crate) fn elf(self, sections: &[(&str, Vec<u8>)]) -> Vec<u8> {
        let (header, section_header) = if self.is_64 { (64, 64) } else { (52, 40) };
        let mut names = vec![0];
        let mut table = vec![vec![0; section_header]];
        let mut body = Vec::new();
        let mut add = |name: &str, data: &[u8], names: &mut Vec<u8>| {
            let place = names.len() as u64;
            names.extend_from_slice(name.as_bytes());
            names.push(0);
            let data = if data.is_empty() { names.clone() } else { data.to_vec() };
            let mut entry = self.number(place, 4);
            entry.extend(self.number(1, 4));
            entry.extend([self.word(0), self.word(0)].concat());
            entry.extend(self.word((header + body.len()) as u64));
            entry.extend(self.word(data.len() as u64));
            entry.resize(section_header, 0);
            table.push(entry);
            body.extend_from_slice(&data);
        };
        for (name, data) in sections {
            add(name, data, &mut names);
        }
        add(".shstrtab", b"", &mut names);
        let mut file = b"\x7fELF".to_vec();
        file.extend_from_slice(&[1 + u8::from(self.is_64), 1 + u8::from(self.is_big), 1]);
        file.resize(16, 0);
        file.extend(
            [self.number(2, 2), self.number(62, 2), self.number(1, 4), self.word(0), self.word(0)].concat(),
        );
        file.extend(self.word((header + body.len()) as u64));
        file.extend(self.number(0, 4));
        for value in [header, 0, 0, section_header, table.len(), table.len() - 1] {
            file.extend(self.number(value as u64, 2));
        }
        assert_eq!(file.len(), header);
        file.extend_from_slice(&body);
        file.extend(table.concat());
        file
    }
}

/// Bytecode of Python 3.12.
pub(crate) fn pyc(flags: u32, about_source: [u32; 2], code: &[u8]) -> Vec<u8> {
    let mut file = 3531_u16.to_le_bytes().to_vec();
    file.extend_from_slice(b"\r\n");
    for value in [flags, about_source[0], about_source[1]] {
        file.extend_from_slice(&value.to_le_bytes());
    }
    file.extend_from_slice(code);
    file
}
