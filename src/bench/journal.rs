//! The journal of a bench: a file that grows by a line for everything measured, so that nothing is measured twice.
//!
//! Invariant: lines are only added. A line that was cut off by the end of the process is dropped and measured again.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use crate::bench::record::{Begun, Cell, ClipRecord, Entry, RunRecord};
use crate::error::{Error, Refusal};

/// What has been measured, in memory and on disk.
pub struct Journal {
    path: PathBuf,
    file: File,
    entries: Vec<Entry>,
}

/// What to do with a journal that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    /// Refuse.
    Refuse,
    /// Go on from where it ends.
    Resume,
    /// Begin anew.
    Replace,
}

impl Journal {
    /// The journal in `folder`, which is made where it is not there.
    ///
    /// # Errors
    /// [`Refusal::Output`] for a journal that is there, or that was measured under other conditions; [`Error::Write`].
    pub fn open(folder: &Path, existing: Existing, begun: &Begun) -> Result<Self, Error> {
        let path = folder.join(NAME);
        let failed = |source| Error::Write { path: path.clone(), source };
        std::fs::create_dir_all(folder).map_err(failed)?;
        if existing == Existing::Refuse && path.exists() {
            let why = "holds an earlier bench: --resume goes on with it, -y replaces it".to_owned();
            return Err(Refusal::Output { path: path.display().to_string(), why }.into());
        }
        let mut options = OpenOptions::new();
        options.read(true).create(true).write(true).truncate(existing != Existing::Resume);
        let mut file = options.open(&path).map_err(failed)?;
        let mut text = String::new();
        file.read_to_string(&mut text).map_err(failed)?;
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        file.set_len(whole as u64).map_err(failed)?;
        drop(file);
        let entries = read(&text[..whole], &path)?;
        let file = OpenOptions::new().append(true).open(&path).map_err(failed)?;
        let mut journal = Journal { path, file, entries };
        journal.same_conditions(begun)?;
        if journal.begun().is_none() {
            journal.add(Entry::Begun(Box::new(begun.clone())))?;
        }
        Ok(journal)
    }

    /// Everything measured so far.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Writes a line down.
    ///
    /// # Errors
    /// [`Error::Write`].
    pub fn add(&mut self, entry: Entry) -> Result<(), Error> {
        let mut line = serde_json::to_string(&entry).expect("plain data with text keys always serialises");
        line.push('\n');
        let written = self.file.write_all(line.as_bytes()).and_then(|()| self.file.sync_data());
        written.map_err(|source| Error::Write { path: self.path.clone(), source })?;
        self.entries.push(entry);
        Ok(())
    }

    /// Whether this repetition of a cell has been timed.
    #[must_use]
    pub fn has_run(&self, cell: &Cell, run: u16) -> bool {
        self.runs().any(|record| record.run == run && record.cell == *cell)
    }

    /// Whether the quality of a cell has been measured.
    #[must_use]
    pub fn has_quality(&self, cell: &Cell) -> bool {
        self.entries.iter().any(|entry| matches!(entry, Entry::Quality(record) if record.cell == *cell))
    }

    /// The clip of this name as it was decoded before.
    #[must_use]
    pub fn clip(&self, name: &str) -> Option<&ClipRecord> {
        self.entries.iter().find_map(|entry| match entry {
            Entry::Clip(clip) if clip.name == name => Some(clip),
            _ => None,
        })
    }

    fn runs(&self) -> impl Iterator<Item = &RunRecord> {
        self.entries.iter().filter_map(|entry| match entry {
            Entry::Run(record) => Some(record),
            _ => None,
        })
    }

    fn begun(&self) -> Option<&Begun> {
        self.entries.iter().find_map(|entry| match entry {
            Entry::Begun(begun) => Some(&**begun),
            _ => None,
        })
    }

    /// Times from two machines, or under two settings, do not belong into one table.
    fn same_conditions(&self, now: &Begun) -> Result<(), Refusal> {
        let Some(before) = self.begun() else { return Ok(()) };
        let refused = |what: &str| Refusal::Output {
            path: self.path.display().to_string(),
            why: format!("was measured with {what}: use another folder, or -y to begin anew"),
        };
        let (one, other) = (&before.machine, &now.machine);
        // More encoders may take part now, so only libraries that both name are compared.
        let changed = one.libraries.iter().any(|(name, file)| other.libraries.get(name).is_some_and(|now| now != file));
        if changed || one.versions != other.versions || one.libvmaf != other.libvmaf || one.repass != other.repass {
            return Err(refused("other versions"));
        }
        if (&one.cpu, one.cpus) != (&other.cpu, other.cpus) {
            return Err(refused("another processor"));
        }
        let runs = now.settings.runs;
        let same = crate::bench::record::Settings { runs, ..before.settings.clone() };
        if same != now.settings {
            return Err(refused("other threads, metrics, filters or options"));
        }
        Ok(())
    }
}

fn read(text: &str, path: &Path) -> Result<Vec<Entry>, Refusal> {
    let line = |line: &str| {
        serde_json::from_str(line).map_err(|error| Refusal::Output {
            path: path.display().to_string(),
            why: format!("is not a journal of this version: {error}"),
        })
    };
    text.lines().filter(|text| !text.trim().is_empty()).map(line).collect()
}

/// Its name in the report's folder.
pub const NAME: &str = "journal.jsonl";
