//! Key files: Ed25519 in PKCS#8 PEM (RFC 8410), readable by their owner alone.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use ed25519_dalek::SigningKey;
use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::pkcs8::{DecodePrivateKey, EncodePrivateKey};
use rustix::fs::{FileType, Mode, OFlags};
use zeroize::Zeroizing;

use crate::words::{Code, Fault, Outcome};

/// Bytes of a key file. One has about 170; the rest is room for comments that other tools write.
const FILE_MAX: u64 = 4096;
/// The bits of a file's mode that must be clear: those of group and others.
const OTHERS: u32 = 0o077;

/// Makes a key and stores it in a new file of mode 0600. When this returns, the key is on the disk; after a
/// crash there is the whole file or none.
///
/// # Errors
/// `usage` when the file exists, `io`, `storage-full`.
pub fn generate(path: &Path) -> Outcome<SigningKey> {
    let mut seed = Zeroizing::new([0u8; 32]);
    getrandom::fill(seed.as_mut_slice())
        .map_err(|error| Fault::new(Code::Io, format!("random numbers of the system: {error}")))?;
    let key = SigningKey::from_bytes(&seed);
    let pem = key
        .to_pkcs8_pem(LineEnding::LF)
        .map_err(|error| Fault::new(Code::Internal, format!("encoding a key: {error}")))?;
    let failed = |error: &std::io::Error| match error.kind() {
        ErrorKind::AlreadyExists => {
            let fix = format!("use it, or name another file; removing {} loses its identity", path.display());
            Fault::new(Code::Usage, format!("key file {} exists already", path.display())).fix(fix)
        }
        _ => Fault::io(format!("key file {}", path.display()), error),
    };
    write_new(path, pem.as_bytes()).map_err(|error| failed(&error))?;
    Ok(key)
}

/// Reads a key file.
///
/// # Errors
/// `not-found`; `wrong-mode` when it is not a regular file, is a symbolic link, belongs to another user or lets
/// others in; `bad-object` when it is not an Ed25519 key; `io`.
pub fn load(path: &Path) -> Outcome<SigningKey> {
    let shown = path.display();
    // NONBLOCK, because opening a pipe would wait for its other end.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let mut file = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(handle) => File::from(handle),
        Err(rustix::io::Errno::LOOP) => {
            let what = format!("key file {shown} is a symbolic link");
            return Err(Fault::new(Code::WrongMode, what).fix("name the file itself"));
        }
        Err(error) => return Err(Fault::io(format!("key file {shown}"), &error.into())),
    };
    check_private(&file, path)?;
    // All the room at once: a buffer that grows leaves copies behind that nobody wipes.
    let mut bytes = Zeroizing::new(Vec::with_capacity(FILE_MAX as usize + 1));
    let mut limited = Read::by_ref(&mut file).take(FILE_MAX + 1);
    limited.read_to_end(&mut bytes).map_err(|error| Fault::io(format!("key file {shown}"), &error))?;
    if bytes.len() as u64 > FILE_MAX {
        return Err(Fault::new(Code::BadObject, format!("key file {shown} has more than {FILE_MAX} bytes")));
    }
    let bad = || {
        Fault::new(Code::BadObject, format!("key file {shown} is not an Ed25519 key in PKCS#8 PEM"))
            .fix("restore it from its copy; `midplane key new FILE` makes another one")
    };
    let text = std::str::from_utf8(&bytes).map_err(|_| bad())?;
    SigningKey::from_pkcs8_pem(text).map_err(|_| bad())
}

/// Reads a key file, or makes it when there is none.
///
/// # Errors
/// As [`load`] and [`generate`].
pub fn load_or_generate(path: &Path) -> Outcome<SigningKey> {
    match load(path) {
        Err(fault) if fault.code == Code::NotFound => match generate(path) {
            // Somebody else made it in between.
            Err(fault) if fault.code == Code::Usage => load(path),
            made => made,
        },
        loaded => loaded,
    }
}

/// The key as TLS libraries take it: PKCS#8 in DER.
///
/// # Errors
/// `internal` only.
pub fn pkcs8_der(key: &SigningKey) -> Outcome<Zeroizing<Vec<u8>>> {
    key.to_pkcs8_der()
        .map(|document| Zeroizing::new(document.as_bytes().to_vec()))
        .map_err(|error| Fault::new(Code::Internal, format!("encoding a key: {error}")))
}

/// A file that only we can read and write. Asked of the open file, so that nobody can change it in between.
fn check_private(file: &File, path: &Path) -> Outcome<()> {
    let shown = path.display();
    let stat =
        rustix::fs::fstat(file).map_err(|error| Fault::io(format!("key file {shown}"), &error.into()))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(Fault::new(Code::WrongMode, format!("key file {shown} is not a regular file")));
    }
    let own = rustix::process::geteuid().as_raw();
    if stat.st_uid != own {
        let what = format!("key file {shown} belongs to user {}, this is user {own}", stat.st_uid);
        return Err(Fault::new(Code::WrongMode, what).fix(format!("chown {own} {shown}")));
    }
    let mode = Mode::from_raw_mode(stat.st_mode).bits();
    if mode & OTHERS != 0 {
        let what = format!("key file {shown} lets others in: mode {:04o}", mode & 0o7777);
        return Err(Fault::new(Code::WrongMode, what).fix(format!("chmod 600 {shown}")));
    }
    Ok(())
}

/// Writes beside the place, then takes it unless it is taken: all of it is there under its name, or nothing.
fn write_new(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let directory = match path.parent() {
        Some(parent) if parent != Path::new("") => parent.to_owned(),
        _ => PathBuf::from("."),
    };
    // Created with O_EXCL and mode 0600, removed again when anything fails.
    let mut file = tempfile::Builder::new().prefix(".key-").tempfile_in(&directory)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist_noclobber(path).map_err(|error| error.error)?;
    File::open(&directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn keys_are_made_once_and_read_back() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("node.key");
        assert_eq!(load(&path).unwrap_err().code, Code::NotFound);
        let key = load_or_generate(&path).unwrap();
        assert_eq!(mode(&path), 0o600);
        assert_eq!(load(&path).unwrap(), key);
        assert_eq!(load_or_generate(&path).unwrap(), key);
        assert_eq!(generate(&path).unwrap_err().code, Code::Usage);
        assert_eq!(load(&path).unwrap(), key, "the second one must not replace the first");
        assert_ne!(generate(&directory.path().join("other.key")).unwrap(), key);
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 2, "nothing else is left behind");
        assert!(fs::read_to_string(&path).unwrap().starts_with("-----BEGIN PRIVATE KEY-----\n"));
        let der = pkcs8_der(&key).unwrap();
        assert_eq!(SigningKey::from_pkcs8_der(&der).unwrap(), key);
        let missing = generate(Path::new("/nonexistent/a/b.key")).unwrap_err();
        assert_eq!(missing.code, Code::NotFound);
    }

    #[test]
    fn modes_that_let_others_in_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("node.key");
        generate(&path).unwrap();
        for (mode, good) in [
            (0o644, false),
            (0o640, false),
            (0o604, false),
            (0o601, false),
            (0o660, false),
            (0o777, false),
            (0o600, true),
            (0o400, true),
        ] {
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            match load(&path) {
                Ok(_) => assert!(good, "mode {mode:o} was taken"),
                Err(fault) => {
                    assert!(!good, "mode {mode:o}: {fault}");
                    assert_eq!(fault.code, Code::WrongMode);
                    assert_eq!(fault.fix.unwrap(), format!("chmod 600 {}", path.display()));
                }
            }
        }
    }

    #[test]
    fn what_is_not_a_file_of_ours_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        generate(&at("node.key")).unwrap();
        symlink(at("node.key"), at("link")).unwrap();
        fs::create_dir(at("directory")).unwrap();
        fs::set_permissions(at("directory"), Permissions::from_mode(0o700)).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, at("pipe"), FileType::Fifo, Mode::from_raw_mode(0o600), 0)
            .unwrap();
        for name in ["link", "directory", "pipe"] {
            assert_eq!(load(&at(name)).unwrap_err().code, Code::WrongMode, "{name}");
            assert_eq!(load_or_generate(&at(name)).unwrap_err().code, Code::WrongMode, "{name}");
        }
        symlink(at("nowhere"), at("dangling")).unwrap();
        assert_eq!(load_or_generate(&at("dangling")).unwrap_err().code, Code::WrongMode);
        assert!(!at("nowhere").exists());
        // Only root can give a file away, so only root can see this refusal.
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::chown(at("node.key"), Some(12345), None).unwrap();
            let fault = load(&at("node.key")).unwrap_err();
            assert_eq!(fault.code, Code::WrongMode);
            assert!(fault.what.contains("belongs to user 12345"), "{fault}");
        }
    }

    #[test]
    fn garbage_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("node.key");
        generate(&path).unwrap();
        let good = fs::read_to_string(&path).unwrap();
        let half: String = good.chars().take(good.len() / 2).collect();
        for bad in [
            Vec::new(),
            b"garbage".to_vec(),
            vec![0xff; 100],
            half.into_bytes(),
            good.replace("PRIVATE", "PUBLIC").into_bytes(),
            vec![b' '; FILE_MAX as usize + 1],
        ] {
            fs::write(&path, &bad).unwrap();
            let fault = load_or_generate(&path).unwrap_err();
            assert_eq!(fault.code, Code::BadObject, "{fault}");
            assert_eq!(fs::read(&path).unwrap(), bad, "a broken key file is left as it is");
        }
    }
}
