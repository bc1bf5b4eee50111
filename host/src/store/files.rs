//! Small files that must be old or new after a crash, never half.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::disk::Disk;
use crate::words::{Code, Fault, Outcome};

/// Makes a directory (and those above it) with mode 0700; an existing one that others can enter is refused.
pub fn private_directory(path: &Path) -> Outcome<()> {
    private_directory_on(&Disk::default(), path)
}

/// The same on a given disk.
pub fn private_directory_on(disk: &Disk, path: &Path) -> Outcome<()> {
    let fail = |error: std::io::Error| Fault::io(format!("cannot make {}", path.display()), &error);
    disk.make_directory(path).map_err(fail)?;
    let mode = std::fs::metadata(path).map_err(fail)?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(Fault::new(
            Code::WrongMode,
            format!("{} lets others in: mode {mode:04o}", path.display()),
        )
        .fix(format!("chmod 700 {}", path.display())));
    }
    Ok(())
}

/// Writes a file so that after a crash it has either its old or its new content: temporary file, fsync, rename, fsync of the
/// directory.
pub fn replace(path: &Path, bytes: &[u8], mode: u32) -> Outcome<()> {
    replace_on(&Disk::default(), path, bytes, mode)
}

/// The same for a file that others are to have. One that only its owner may read is not replaced: it may be a key.
///
/// # Errors
/// `usage` for such a file; `io`.
pub fn hand_out(path: &Path, bytes: &[u8]) -> Outcome<()> {
    let private = std::fs::metadata(path).is_ok_and(|status| status.permissions().mode() & 0o044 == 0);
    if private {
        let what = format!("{} is there already, and for its owner alone: it may be a key", path.display());
        return Err(Fault::new(Code::Usage, what).fix("name another file"));
    }
    replace(path, bytes, 0o644)
}

/// The same on a given disk.
pub fn replace_on(disk: &Disk, path: &Path, bytes: &[u8], mode: u32) -> Outcome<()> {
    let fail = |error: std::io::Error| Fault::io(format!("cannot write {}", path.display()), &error);
    let temporary = temporary_beside(path)?;
    let written = (|| {
        let mut file = disk.create(&temporary, mode)?;
        file.append(bytes)?;
        file.sync()?;
        disk.rename(&temporary, path)
    })();
    if let Err(error) = written {
        let _ = disk.remove(&temporary);
        return Err(fail(error));
    }
    let directory = directory_of(path);
    disk.sync_directory(directory)
        .map_err(|error| Fault::io(format!("cannot sync {}", directory.display()), &error))
}

/// Where the file lies. The parent of a bare file name is there, and empty.
fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|parent| *parent != Path::new("")).unwrap_or(Path::new("."))
}

/// Reads a file of at most `most` bytes; none when there is no such file.
pub fn read_limited(path: &Path, most: u64) -> Outcome<Option<Vec<u8>>> {
    let fail = |error: std::io::Error| Fault::io(format!("cannot read {}", path.display()), &error);
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(fail(error)),
    };
    let mut bytes = Vec::new();
    file.take(most + 1).read_to_end(&mut bytes).map_err(fail)?;
    if bytes.len() as u64 > most {
        return Err(Fault::new(Code::TooLarge, format!("{} is larger than {most} bytes", path.display())));
    }
    Ok(Some(bytes))
}

/// A name in the same directory that nobody else uses.
fn temporary_beside(path: &Path) -> Outcome<PathBuf> {
    let mut random = [0_u8; 8];
    getrandom::fill(&mut random).map_err(|error| Fault::new(Code::Io, format!("no randomness: {error}")))?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    Ok(path.with_file_name(format!(".{name}.{:016x}.tmp", u64::from_le_bytes(random))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replace_leaves_no_temporary_file_behind() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x");
        replace(&path, b"one", 0o600).unwrap();
        replace(&path, b"two", 0o600).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"two");
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
        assert!(replace(&directory.path().join("missing/x"), b"", 0o600).is_err());
    }

    #[test]
    fn what_is_handed_out_replaces_no_private_file() {
        let directory = tempfile::tempdir().unwrap();
        let (key, path) = (directory.path().join("key"), directory.path().join("x"));
        replace(&key, b"secret", 0o600).unwrap();
        assert_eq!(hand_out(&key, b"one").unwrap_err().code, Code::Usage);
        assert_eq!(std::fs::read(&key).unwrap(), b"secret");
        hand_out(&path, b"one").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        hand_out(&path, b"two").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"two");
    }

    #[test]
    fn a_bare_file_name_lies_in_the_current_directory() {
        assert_eq!(directory_of(Path::new("bare")), Path::new("."));
        assert_eq!(directory_of(Path::new("a/b")), Path::new("a"));
    }

    #[test]
    fn directories_that_let_others_in_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a/b");
        private_directory(&path).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        let fault = private_directory(&path).unwrap_err();
        assert_eq!(fault.code, Code::WrongMode);
        assert!(fault.fix.unwrap().starts_with("chmod 700"));
    }

    #[test]
    fn files_over_the_limit_are_not_read() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x");
        assert_eq!(read_limited(&path, 3).unwrap(), None);
        std::fs::write(&path, "four").unwrap();
        assert_eq!(read_limited(&path, 3).unwrap_err().code, Code::TooLarge);
        assert_eq!(read_limited(&path, 4).unwrap().unwrap(), b"four");
    }
}
