//! The files that builders can read, byte for byte those of Nix.

use crate::{ByteString, Network};

/// Path and contents of each file of the sandbox's own.
pub(super) fn readable_files(
    build_directory: &ByteString,
    network: Network,
) -> Vec<(&'static str, ByteString)> {
    let mut files = vec![
        ("/etc/passwd", passwd(build_directory)),
        ("/etc/group", "root:x:0:\nnixbld:!:100:\nnogroup:x:65534:\n".into()),
    ];
    files.push(match network {
        Network::Private => ("/etc/hosts", "127.0.0.1 localhost\n::1 localhost\n".into()),
        Network::Host | Network::Isolated => {
            ("/etc/nsswitch.conf", "hosts: files dns\nservices: files\n".into())
        }
    });
    files
}

fn passwd(build_directory: &ByteString) -> ByteString {
    let home = build_directory.as_bytes();
    [
        b"root:x:0:0:Nix build user:",
        home,
        b":/noshell\nnixbld:x:1000:100:Nix build user:",
        home,
        b":/noshell\nnobody:x:65534:65534:Nobody:/:/noshell\n",
    ]
    .concat()
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn x11_files_are_byte_exact() {
        let private = readable_files(&"/build".into(), Network::Private);
        let expected = [
            (
                "/etc/passwd",
                "root:x:0:0:Nix build user:/build:/noshell\nnixbld:x:1000:100:Nix build user:/build:/noshell\n\
                 nobody:x:65534:65534:Nobody:/:/noshell\n",
            ),
            ("/etc/group", "root:x:0:\nnixbld:!:100:\nnogroup:x:65534:\n"),
            ("/etc/hosts", "127.0.0.1 localhost\n::1 localhost\n"),
        ];
        assert_eq!(private, expected.map(|(path, contents)| (path, contents.into())));
        let host = readable_files(&"/build".into(), Network::Host);
        assert!(host.contains(&("/etc/nsswitch.conf", "hosts: files dns\nservices: files\n".into())));
        assert!(host.iter().all(|(path, _)| *path != "/etc/hosts"));
    }

    #[test]
    fn a_build_directory_that_is_not_utf8_survives() {
        let files = readable_files(&b"/b\xff"[..].into(), Network::Private);
        let passwd = &files.iter().find(|(path, _)| *path == "/etc/passwd").unwrap().1;
        assert!(passwd.as_bytes().starts_with(b"root:x:0:0:Nix build user:/b\xff:/noshell\n"));
    }
}
