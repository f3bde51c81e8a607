//! What the store's process believes about time and disk, and what a power cut leaves it: a small library in front of
//! the system's own, built at set-up (`shim.c`), and the file that it shares with us. Linux only, and a C compiler is
//! needed.

use std::collections::BTreeMap;
use std::fs::{File, Metadata, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::time::Duration;

const SOURCE: &str = include_str!("shim.c");

/// Numbers of 64 bits in the file: what we say, how many fsyncs there were, and two for each file of the process.
const SAID: usize = 3;
const FILES: usize = 128;
const PAGE: usize = SAID + 1 + 2 * FILES;

/// The library, built, and its file.
pub struct Shim {
    library: PathBuf,
    page: PathBuf,
    file: Mutex<(File, [i64; SAID])>,
}

impl Shim {
    /// Builds it in a folder; `None` where that cannot be done, and then neither clocks nor disks nor the power can be
    /// played with.
    pub fn build(dir: &Path) -> Option<Self> {
        if !cfg!(target_os = "linux") {
            return None;
        }
        let (source, library, page) = (dir.join("shim.c"), dir.join("shim.so"), dir.join("shim.page"));
        std::fs::write(&source, SOURCE).ok()?;
        let mut cc = Command::new(std::env::var_os("CC").unwrap_or_else(|| "cc".into()));
        cc.args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(&source).arg("-ldl");
        if !cc.status().is_ok_and(|status| status.success()) {
            return None;
        }
        let mut file = OpenOptions::new().create(true).truncate(true).write(true).open(&page).ok()?;
        file.write_all(&[0; PAGE * 8]).ok()?;
        Some(Self { library, page, file: Mutex::new((file, [0; SAID])) })
    }

    /// What a process is started with to be under it.
    pub fn environment(&self) -> Vec<(String, String)> {
        let text = |path: &Path| path.to_str().expect("a path in UTF-8").to_owned();
        vec![("LD_PRELOAD".to_owned(), text(&self.library)), ("HOLDFAST_SHIM".to_owned(), text(&self.page))]
    }

    /// Sets the wall clock off by so many seconds.
    pub fn set_clock_off(&self, seconds: i64) {
        self.play(|played| played[0] = seconds * 1_000_000);
    }

    /// Fills the disk, or frees it.
    pub fn set_disk_full(&self, full: bool) {
        self.play(|played| played[1] = i64::from(full));
    }

    /// From now on the disk takes so much longer for each fsync.
    pub fn set_disk_slow(&self, by: Duration) {
        self.play(|played| played[2] = i64::try_from(by.as_micros()).expect("a short time"));
    }

    /// How many fsyncs there were.
    pub fn fsyncs(&self) -> u64 {
        self.numbers()[SAID]
    }

    /// The files below a folder of which not everything is on the disk for certain, and how many bytes at their ends.
    pub fn not_on_disk(&self, folder: &Path) -> Vec<(PathBuf, u64)> {
        let on_disk: BTreeMap<u64, u64> = self.numbers()[SAID + 1..].chunks(2).map(|at| (at[0], at[1])).collect();
        let of = |inode| on_disk.get(&inode).copied().unwrap_or(0);
        let files = files_below(folder).into_iter();
        let behind = files.map(|(path, about)| (path, about.len().saturating_sub(of(about.ino()))));
        behind.filter(|(_, behind)| *behind > 0).collect()
    }

    /// What a power cut does below a folder, once the process is dead: of so many bytes at the end of a file that are not on
    /// the disk for certain, only as many are left as `kept` says. How many are gone.
    ///
    /// That a new name of a file lasts is taken for granted, and that a disk which says so has it.
    pub fn cut_power(&self, folder: &Path, mut kept: impl FnMut(u64) -> u64) -> u64 {
        let mut gone = 0;
        for (path, behind) in self.not_on_disk(folder) {
            let lost = behind - kept(behind);
            let file = OpenOptions::new().write(true).open(path).expect("a file");
            let length = file.metadata().expect("a file").len();
            file.set_len(length - lost).expect("a file that can be cut");
            gone += lost;
        }
        gone
    }

    fn numbers(&self) -> Vec<u64> {
        let page = std::fs::read(&self.page).expect("the file that is shared");
        page.chunks(8).map(|number| u64::from_ne_bytes(number.try_into().expect("eight bytes"))).collect()
    }

    fn play(&self, change: impl FnOnce(&mut [i64; SAID])) {
        let mut file = self.file.lock().expect("no panic");
        change(&mut file.1);
        let bytes: Vec<u8> = file.1.iter().flat_map(|number| number.to_ne_bytes()).collect();
        file.0.seek(SeekFrom::Start(0)).expect("a file");
        file.0.write_all(&bytes).expect("a file");
    }
}

/// All files in a folder and in those in it. What vanishes meanwhile is not there.
fn files_below(folder: &Path) -> Vec<(PathBuf, Metadata)> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
        match entry.metadata() {
            Ok(about) if about.is_dir() => files.extend(files_below(&entry.path())),
            Ok(about) if about.is_file() => files.push((entry.path(), about)),
            _ => {}
        }
    }
    files
}
