//! What the store's process believes about time and disk: a small library in front of the system's own, built at
//! set-up (`shim.c`), and the file by which it is told what to play. Linux only, and a C compiler is needed.

use std::fs::{File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

const SOURCE: &str = include_str!("shim.c");

/// The library, built, and its file.
pub struct Shim {
    library: PathBuf,
    page: PathBuf,
    file: Mutex<(File, [i64; 2])>,
}

impl Shim {
    /// Builds it in a folder; `None` where that cannot be done, and then neither clocks nor disks can be played with.
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
        file.write_all(&[0; 16]).ok()?;
        Some(Self { library, page, file: Mutex::new((file, [0; 2])) })
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

    fn play(&self, change: impl FnOnce(&mut [i64; 2])) {
        let mut file = self.file.lock().expect("no panic");
        change(&mut file.1);
        let bytes: Vec<u8> = file.1.iter().flat_map(|number| number.to_ne_bytes()).collect();
        file.0.seek(SeekFrom::Start(0)).expect("a file");
        file.0.write_all(&bytes).expect("a file");
    }
}
