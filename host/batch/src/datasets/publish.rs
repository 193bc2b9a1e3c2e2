//! From finished files to a version: put in their place under their digests, then recorded. All of it or nothing.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use modelhost_core::{DatasetName, Digest, ErrorCode, VersionNumber};
use modelhost_registry::{digest_of, durable};

use super::card::DatasetCard;
use super::schema::DatasetSchema;
use super::version::{DataFile, DataFormat, DatasetVersion, FileLocation, Lineage};
use super::{Datasets, Shared};
use crate::Error;

/// A version that is to be made. What is in the files is known: nothing reads them to find out.
#[derive(Clone, Debug)]
pub struct NewVersion {
    /// Of which dataset; made where there is none of this name.
    pub name: DatasetName,
    /// Who makes it, where that is known.
    pub by: Option<String>,
    /// What all of the files are.
    pub format: DataFormat,
    /// Their columns.
    pub schema: DatasetSchema,
    /// What may be done with it.
    pub card: DatasetCard,
    /// What it is made of, where a job makes it.
    pub lineage: Option<Lineage>,
    /// The files, in their order.
    pub files: Vec<NewFile>,
}

/// A file of a version that is to be made.
#[derive(Clone, Debug)]
pub struct NewFile {
    /// What it is called.
    pub name: String,
    /// Its rows.
    pub rows: u64,
    /// Its bytes.
    pub bytes: u64,
    /// Where it is.
    pub origin: Origin,
}

/// Where a file of a version that is to be made is.
#[derive(Clone, Debug)]
pub enum Origin {
    /// A finished file in the data folder. It is linked to its place and stays where it is, so that whoever made it
    /// can publish it again after a crash, and removes it afterwards. It must not be changed any more.
    Local {
        /// Where.
        path: PathBuf,
        /// Of its bytes, where it is known; else it is computed.
        digest: Option<Digest>,
    },
    /// A file that has its place already: that of another version, or an object that stays where it is.
    InPlace(FileLocation),
}

/// What became of a version that was to be made.
#[derive(Clone, Debug)]
pub struct Published {
    /// The version, new or not.
    pub version: DatasetVersion,
    /// False where it was there already.
    pub created: bool,
}

impl Datasets {
    /// Makes a version. The same files again under the same card are the version that is there already, where it is the
    /// latest, or made by the same job: after a crash a job may publish once more.
    ///
    /// # Errors
    /// A card that does not fit the columns, and failures of the disk; then nothing was made.
    pub async fn commit_version(&self, new: NewVersion) -> Result<Published, Error> {
        let shared = self.shared.clone();
        self.work.block(move || shared.publish(new)).await
    }
}

impl Shared {
    fn publish(&self, new: NewVersion) -> Result<Published, Error> {
        check(&new)?;
        let files = new.files.iter().map(located).collect::<Result<Vec<_>, Error>>()?;
        // Takes long, and nobody has to wait for it.
        for path in new.files.iter().filter_map(NewFile::local_path) {
            File::open(path).and_then(|file| file.sync_all())?;
        }
        let version = DatasetVersion {
            number: VersionNumber(0),
            created: Timestamp::now(),
            rows: files.iter().map(|file| file.rows).sum(),
            bytes: files.iter().map(|file| file.bytes).sum(),
            name: new.name,
            by: new.by,
            format: new.format,
            schema: new.schema,
            card: new.card,
            lineage: new.lineage,
            files,
        };
        // Deletions wait, so that no file is removed before the record that needs it is there.
        let _changing = self.changing.lock();
        if let Some(same) = self.present(&version)? {
            return Ok(Published { version: same, created: false });
        }
        let added = self.place_all(&new.files, &version).and_then(|()| self.catalogue.add(version));
        match added {
            Ok(version) => Ok(Published { version, created: true }),
            Err(error) => {
                self.take_back();
                Err(error)
            }
        }
    }

    /// The version that this one would only repeat. A job may publish once more after a crash, whatever was made
    /// meanwhile; for everybody else, what was the latest once is made the latest again by putting it there again.
    fn present(&self, new: &DatasetVersion) -> Result<Option<DatasetVersion>, Error> {
        let mut candidates = self.catalogue.versions(&new.name)?;
        if new.lineage.is_none() {
            candidates.drain(..candidates.len().saturating_sub(1));
        }
        Ok(candidates.into_iter().find(|present| is_same(present, new)))
    }

    /// Second names for files, under their digests, durably.
    fn place_all(&self, files: &[NewFile], version: &DatasetVersion) -> Result<(), Error> {
        for (new, file) in files.iter().zip(&version.files) {
            if let (Some(path), FileLocation::Stored { digest }) = (new.local_path(), &file.location) {
                match fs::hard_link(path, self.stored_path(digest, version.format)) {
                    // The same bytes are there already, perhaps from an attempt that failed before it was durable.
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                    linked => linked?,
                }
            }
        }
        Ok(durable::sync_dir(&self.folder)?)
    }

    /// Removes the files of a version that was not made. Where the registry stopped, its record may be there after a
    /// restart: it needs its files, and the next start removes them where it is not.
    fn take_back(&self) {
        if self.catalogue.is_stopped() {
            return;
        }
        if let Err(error) = self.sweep() {
            tracing::warn!(%error, "the files of a dataset that was not made cannot be removed");
        }
    }
}

impl NewFile {
    /// The file that gets its place.
    fn local_path(&self) -> Option<&Path> {
        match &self.origin {
            Origin::Local { path, .. } => Some(path),
            Origin::InPlace(_) => None,
        }
    }
}

fn check(new: &NewVersion) -> Result<(), Error> {
    let unprocessable = |problem: String| Err(Error::new(ErrorCode::Unprocessable, problem));
    if new.files.is_empty() {
        return unprocessable(format!("dataset \"{}\" has no file", new.name));
    }
    if let Some(problem) = new.schema.problem() {
        return unprocessable(format!("dataset \"{}\" cannot be stored: {problem}", new.name));
    }
    let checked = new.card.check().and_then(|()| new.card.check_columns(&new.schema));
    checked.or_else(|error| unprocessable(error.to_string()))
}

fn located(new: &NewFile) -> Result<DataFile, Error> {
    let location = match &new.origin {
        Origin::Local { digest: Some(digest), .. } => FileLocation::Stored { digest: *digest },
        Origin::Local { path, digest: None } => FileLocation::Stored { digest: digest_of(path)? },
        Origin::InPlace(location) => location.clone(),
    };
    Ok(DataFile { name: new.name.clone(), rows: new.rows, bytes: new.bytes, location })
}

fn is_same(present: &DatasetVersion, new: &DatasetVersion) -> bool {
    let job = |version: &DatasetVersion| version.lineage.as_ref().map(|lineage| lineage.job.clone());
    let locations =
        |version: &DatasetVersion| version.files.iter().map(|file| file.location.clone()).collect::<Vec<_>>();
    present.format == new.format
        && present.schema == new.schema
        && present.card == new.card
        && job(present) == job(new)
        && locations(present) == locations(new)
}
