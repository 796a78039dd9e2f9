//! The directory of a broker: logs as files, one folder a partition, one file a segment.
//!
//! The names are Kafka's: `orders-0/00000000000000000042.log`. A write is in the system's hands before it is answered, so what
//! was acknowledged survives the death of the process; the loss of power survives what was flushed. A second process on the
//! same directory is refused by a lock, which the system takes back when its owner dies.
//!
//! Invariant: a file ends where the last complete append ended, or the segment takes no more until it was cut there.

use crate::core::log::storage::{Storage, Storages};
use bytes::{Bytes, BytesMut};
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Files that stay open between two appends, of all partitions; a process may have a thousand or so by default.
const OPEN_MAX: usize = 400;

/// The directory, as long as this process has it.
#[derive(Debug)]
pub(crate) struct Directory {
    root: PathBuf,
    open: Arc<AtomicUsize>,
    /// Locked until it is closed.
    _lock: File,
}

impl Directory {
    /// Takes the directory, and makes it if it is not there.
    ///
    /// # Errors
    /// Of the kind `WouldBlock` when another process has it.
    pub(crate) fn open(root: &Path) -> io::Result<Self> {
        fs::create_dir_all(root)?;
        let lock = OpenOptions::new().create(true).truncate(false).write(true).open(root.join(".lock"))?;
        lock.try_lock().map_err(|error| match io::Error::from(error) {
            error if error.kind() == ErrorKind::WouldBlock => {
                io::Error::new(error.kind(), "another process uses it")
            }
            error => error,
        })?;
        Ok(Self { root: root.to_path_buf(), open: Arc::default(), _lock: lock })
    }
}

impl Storages for Directory {
    fn open(&self, topic: &str, index: i32) -> Box<dyn Storage> {
        let folder = self.root.join(format!("{topic}-{index}"));
        Box::new(Files { folder, open: self.open.clone(), last: None, copy: BytesMut::new() })
    }

    fn name(&self) -> String {
        self.root.display().to_string()
    }

    fn is_durable(&self) -> bool {
        true
    }
}

/// The segments of one partition. A folder comes into being with its first file.
#[derive(Debug)]
struct Files {
    folder: PathBuf,
    /// How many files are open, of all partitions.
    open: Arc<AtomicUsize>,
    /// The segment that was appended to last.
    last: Option<Tail>,
    /// Room for the copy of a batch that is stamped.
    copy: BytesMut,
}

#[derive(Debug)]
struct Tail {
    segment: i64,
    file: File,
    /// What belongs to the segment; the file may be longer after a write that failed.
    length: u64,
    /// A part of a batch stands behind the end.
    torn: bool,
    _counted: Counted,
}

/// Counts a file as open for as long as it lives.
#[derive(Debug)]
struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Files {
    fn path(&self, segment: i64) -> PathBuf {
        self.folder.join(format!("{segment:020}.log"))
    }

    /// The open file of a segment, to be appended to.
    fn tail(&mut self, segment: i64) -> io::Result<&mut Tail> {
        if self.last.as_ref().is_none_or(|tail| tail.segment != segment) {
            fs::create_dir_all(&self.folder)?;
            let file = OpenOptions::new()
                .create(true)
                .truncate(false)
                .read(true)
                .write(true)
                .open(self.path(segment))?;
            let length = file.metadata()?.len();
            self.open.fetch_add(1, Ordering::Relaxed);
            let counted = Counted(self.open.clone());
            self.last = Some(Tail { segment, file, length, torn: false, _counted: counted });
        }
        self.last.as_mut().ok_or_else(|| ErrorKind::NotFound.into())
    }
}

impl Tail {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.torn {
            self.cut()?;
        }
        self.file.seek(SeekFrom::Start(self.length))?;
        if let Err(error) = self.file.write_all(bytes) {
            self.torn = true;
            // If it cannot be cut now, the next append tries again before it writes.
            let _ = self.cut();
            return Err(error);
        }
        self.length += bytes.len() as u64;
        Ok(())
    }

    fn cut(&mut self) -> io::Result<()> {
        self.file.set_len(self.length)?;
        self.torn = false;
        Ok(())
    }
}

impl Storage for Files {
    fn segments(&self) -> io::Result<BTreeMap<i64, u64>> {
        let mut segments = BTreeMap::new();
        let entries = match fs::read_dir(&self.folder) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(segments),
            entries => entries?,
        };
        for entry in entries {
            let entry = entry?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            match name.strip_suffix(".log").and_then(|stem| stem.parse().ok()) {
                Some(segment) => _ = segments.insert(segment, entry.metadata()?.len()),
                // A rewrite that was not finished.
                None if name.ends_with(".cleaned") => fs::remove_file(entry.path())?,
                None => {}
            }
        }
        Ok(segments)
    }

    fn create(&mut self, segment: i64) -> io::Result<()> {
        self.tail(segment).map(|_| ())
    }

    fn append(&mut self, segment: i64, batch: &[u8], stamp: &mut dyn FnMut(&mut [u8])) -> io::Result<()> {
        let mut copy = std::mem::take(&mut self.copy);
        copy.clear();
        copy.extend_from_slice(batch);
        stamp(&mut copy);
        let appended = self.tail(segment).and_then(|tail| tail.append(&copy));
        if self.open.load(Ordering::Relaxed) > OPEN_MAX {
            self.last = self.last.take().filter(|tail| tail.torn);
        }
        // A large one is rare, and there may be many partitions.
        if copy.capacity() <= 64 * 1024 {
            self.copy = copy;
        }
        appended
    }

    fn read(&mut self, segment: i64, position: u64, length: usize) -> io::Result<Bytes> {
        let mut bytes = vec![0; length];
        let mut read = |file: &mut File| {
            file.seek(SeekFrom::Start(position))?;
            file.read_exact(&mut bytes)
        };
        match self.last.as_mut().filter(|tail| tail.segment == segment) {
            Some(tail) => read(&mut tail.file)?,
            None => read(&mut File::open(self.path(segment))?)?,
        }
        Ok(bytes.into())
    }

    fn truncate(&mut self, segment: i64, length: u64) -> io::Result<()> {
        let tail = self.tail(segment)?;
        tail.length = length;
        tail.cut()
    }

    fn flush(&mut self, segment: i64) -> io::Result<()> {
        let tail = self.tail(segment)?;
        tail.file.sync_data()?;
        File::open(&self.folder)?.sync_all()
    }

    fn replace(&mut self, segment: i64, batches: &[Bytes]) -> io::Result<()> {
        let path = self.path(segment);
        let cleaned = path.with_extension("cleaned");
        let mut file = File::create(&cleaned)?;
        let written =
            batches.iter().try_for_each(|batch| file.write_all(batch)).and_then(|()| file.sync_data());
        if let Err(error) = written.and_then(|()| fs::rename(&cleaned, &path)) {
            // What is left is deleted when the log is opened again.
            let _ = fs::remove_file(&cleaned);
            return Err(error);
        }
        self.last = self.last.take().filter(|tail| tail.segment != segment);
        Ok(())
    }

    fn remove(&mut self, segment: i64) -> io::Result<()> {
        self.last = self.last.take().filter(|tail| tail.segment != segment);
        absent_is_fine(fs::remove_file(self.path(segment)))
    }

    fn remove_all(&mut self) -> io::Result<()> {
        self.last = None;
        absent_is_fine(fs::remove_dir_all(&self.folder))
    }
}

fn absent_is_fine(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        result => result,
    }
}
