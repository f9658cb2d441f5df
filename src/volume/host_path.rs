//! hostPath: a path of this machine, after a look at what it is.
//!
//! Rules and messages of the kubelet's `pkg/volume/hostpath/host_path.go`, on which tools and people match. Symlinks are
//! followed: the path is the user's own.

use std::fs::{FileType, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::HostPathVolumeSource;

use crate::error::{Error, Result};

/// The path, made where the type says so and checked where it names a kind of file.
pub fn checked(source: &HostPathVolumeSource) -> Result<PathBuf> {
    let path = PathBuf::from(&source.path);
    if !path.is_absolute() || path.components().any(|component| component == std::path::Component::ParentDir) {
        return Err(Error::said(format!("hostPath {:?} must be an absolute path without ..", source.path)));
    }
    let kind = match std::fs::metadata(&path) {
        Ok(found) => Some(found.file_type()),
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR)) => None,
        Err(error) => return Err(Error::io("stat", path.display(), &error)),
    };
    let is = |judge: fn(&FileType) -> bool, what: &str| match kind.as_ref().is_some_and(judge) {
        true => Ok(()),
        false => Err(Error::said(format!("hostPath type check failed: {} is not a {what}", path.display()))),
    };
    match source.type_.as_deref().unwrap_or("") {
        "" => Ok(()),
        "DirectoryOrCreate" if kind.is_none() => make_dir(&path),
        "DirectoryOrCreate" | "Directory" => is(FileType::is_dir, "directory"),
        "FileOrCreate" if kind.is_none() => make_file(&path),
        "FileOrCreate" | "File" => is(FileType::is_file, "file"),
        "Socket" => is(FileType::is_socket, "socket file"),
        "CharDevice" => is(FileType::is_char_device, "character device"),
        "BlockDevice" => is(FileType::is_block_device, "block device"),
        other => Err(Error::said(format!("{other} is an invalid volume type"))),
    }?;
    Ok(path)
}

/// With its parents; each as the umask lets it, the last exactly 0755.
fn make_dir(path: &Path) -> Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o755).create(path).map_err(|e| Error::io("mkdir", path.display(), &e))?;
    std::fs::set_permissions(path, PermissionsExt::from_mode(0o755)).map_err(|e| Error::io("chmod", path.display(), &e))
}

/// The parent must be there.
fn make_file(path: &Path) -> Result<()> {
    let made = OpenOptions::new().write(true).create_new(true).mode(0o644).open(path);
    made.and_then(|file| file.set_permissions(PermissionsExt::from_mode(0o644))).map_err(|e| Error::io("open", path.display(), &e))
}
