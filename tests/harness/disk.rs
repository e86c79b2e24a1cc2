//! A disk that can lose its power: a file system in an image file, mounted by loop.
//!
//! What a process has written and not synced is in the page cache of the mounted file system and not in the image. So
//! a copy of the image, taken while the process stands still, is what a disk holds after a power cut.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::{skip, wait_for};

/// Where images lie: in memory, so that a copy takes a moment.
const PLACE: &str = "/dev/shm";
/// Begins the names of the folders with images and mount points; the id of the process follows.
const PREFIX: &str = "urja-disks-";
/// Only a sync brings anything to the disk: neither time nor the kindness of ext4 towards `rename`.
const OPTIONS: &str = "loop,noauto_da_alloc,commit=300";
/// Copies of an image are made until none of it changed meanwhile; the kernel writes back when it likes.
const COPIES: u32 = 50;

/// A folder of images, and the one that is mounted. Everything goes when this is dropped, also after a panic.
pub struct Disks {
    /// Unmounted before the folder goes.
    mounted: Option<Mounted>,
    folder: tempfile::TempDir,
    made: u32,
    /// Always leads to the mounted file system.
    link: PathBuf,
}

/// A mounted image.
pub struct Mounted {
    image: PathBuf,
    point: PathBuf,
}

impl Disks {
    /// Makes an image with an empty file system and mounts it; `None` where that cannot be done.
    pub fn new(megabytes: u64) -> Option<Disks> {
        sweep();
        let prefix = format!("{PREFIX}{}-", std::process::id());
        let Ok(folder) = tempfile::Builder::new().prefix(&prefix).tempdir_in(PLACE) else {
            skip("/dev/shm for disk images");
            return None;
        };
        let link = folder.path().join("disk");
        let mut disks = Disks { mounted: None, folder, made: 0, link };
        let image = disks.next_image();
        let made = std::fs::File::create(&image).and_then(|file| file.set_len(megabytes << 20));
        made.unwrap();
        let mut mkfs = Command::new("mkfs.ext4");
        let options = "lazy_itable_init=0,lazy_journal_init=0";
        if !run(mkfs.args(["-q", "-F", "-E", options]).arg(&image)) {
            skip("mkfs.ext4 (package e2fsprogs)");
            return None;
        }
        match disks.mount(image) {
            Ok(()) => Some(disks),
            Err(said) => {
                skip(&format!("loop mounts, which only root has ({})", said.trim()));
                None
            }
        }
    }

    /// A path that stays the same while the disk under it is exchanged.
    pub fn path(&self) -> &Path {
        &self.link
    }

    /// Beside the disks: what outlives every power cut.
    pub fn outside(&self) -> &Path {
        self.folder.path()
    }

    /// Copies what has reached the disk so far. Whoever writes must stand still.
    pub fn copy(&mut self) -> PathBuf {
        let from = self.mounted.as_ref().unwrap().image.clone();
        let to = self.next_image();
        for _ in 0..COPIES {
            assert!(run(Command::new("cp").arg("--sparse=always").arg(&from).arg(&to)));
            // Nothing was read twice with different content: the copy is the image at one moment.
            if run(Command::new("cmp").arg("-s").arg(&from).arg(&to)) {
                return to;
            }
        }
        panic!("the image changed during each of {COPIES} copies");
    }

    /// Mounts a copy in the place of the disk it was made of, and gives that one, which stays mounted.
    pub fn exchange(&mut self, copy: PathBuf) -> Mounted {
        let before = self.mounted.take().unwrap();
        self.mount(copy).unwrap_or_else(|said| panic!("the copy cannot be mounted: {said}"));
        before
    }

    /// Where the disk is mounted now.
    pub fn point(&self) -> &Path {
        &self.mounted.as_ref().unwrap().point
    }

    fn next_image(&mut self) -> PathBuf {
        self.made += 1;
        self.folder.path().join(format!("{:04}.img", self.made))
    }

    fn mount(&mut self, image: PathBuf) -> Result<(), String> {
        let point = image.with_extension("mnt");
        std::fs::create_dir(&point).unwrap();
        let mounted =
            Command::new("mount").args(["-t", "ext4", "-o", OPTIONS]).arg(&image).arg(&point).output();
        let mounted = mounted.map_err(|error| error.to_string())?;
        if !mounted.status.success() {
            return Err(String::from_utf8_lossy(&mounted.stderr).into_owned());
        }
        self.mounted = Some(Mounted { image, point });
        let _ = std::fs::remove_file(&self.link);
        std::os::unix::fs::symlink(self.point(), &self.link).unwrap();
        Ok(())
    }
}

impl Mounted {
    /// The mount point.
    pub fn path(&self) -> &Path {
        &self.point
    }
}

impl Drop for Mounted {
    /// The loop device goes with the mount, which made it.
    fn drop(&mut self) {
        let unmounted = || run(Command::new("umount").arg(&self.point)).then_some(());
        if std::thread::panicking() {
            // Whatever still has it open is about to go.
            run(Command::new("umount").args(["-l"]).arg(&self.point));
        } else {
            wait_for(&format!("{} is unmounted", self.point.display()), unmounted);
            wait_for("the loop device is free", || loops_of(&self.image).is_empty().then_some(()));
        }
        let _ = std::fs::remove_file(&self.image);
    }
}

/// Loop devices of an image.
fn loops_of(image: &Path) -> String {
    let out = Command::new("losetup").arg("-j").arg(image).output();
    out.map(|out| String::from_utf8_lossy(&out.stdout).into_owned()).unwrap_or_default()
}

fn run(command: &mut Command) -> bool {
    command.output().is_ok_and(|out| out.status.success())
}

/// Clears up after test processes that were killed.
fn sweep() {
    let Ok(entries) = std::fs::read_dir(PLACE) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(pid) = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next()) else { continue };
        if Path::new("/proc").join(pid).exists() {
            continue;
        }
        for inside in std::fs::read_dir(entry.path()).into_iter().flatten().flatten() {
            if inside.path().extension().is_some_and(|ending| ending == "mnt") {
                run(Command::new("umount").arg("-l").arg(inside.path()));
            }
        }
        let _ = std::fs::remove_dir_all(entry.path());
    }
}
