//! What jobs and tables rely on: publishing, holding, reading.

use std::mem::ManuallyDrop;
use std::os::fd::{FromRawFd as _, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, DictionaryArray, Int64Array, RecordBatch, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int32Type};
use jiff::Timestamp;
use modelhost_registry::{RecordKind, RecordUpdate, Registry};
use modelhost_serving::BackgroundThreads;
use object_store::ObjectStoreExt as _;

use super::*;

struct Desk {
    folder: TempDir,
    datasets: Arc<Datasets>,
}

impl Desk {
    async fn new() -> Desk {
        Desk::at(TempDir::new().unwrap()).await
    }

    async fn at(folder: TempDir) -> Desk {
        let registry = Arc::new(Registry::open(folder.path()).unwrap());
        let settings = BatchSettings::default();
        let work = Work::start(BackgroundThreads::of_share(100)).unwrap();
        let leftovers = Leftovers::at_start(&registry).unwrap();
        let executable = Path::new("modelhost");
        let datasets = Datasets::open(registry, &settings, executable, &leftovers, work).await.unwrap();
        Desk { folder, datasets }
    }

    /// What a job publishes: files of its own in the data folder.
    fn new_version(&self, job: Option<&str>, texts: &[&str]) -> NewVersion {
        let file = |(index, text): (usize, &&str)| {
            let path = self.folder.path().join(format!("part-{index}.csv"));
            // Not over what was published under this name before, which has a second one.
            let _ = fs::remove_file(&path);
            fs::write(&path, text).unwrap();
            let rows = text.lines().count() as u64 - 1;
            let origin = Origin::Local { path, digest: None };
            NewFile { name: format!("part-{index}.csv"), rows, bytes: text.len() as u64, origin }
        };
        let column = Column { name: "n".to_owned(), data_type: DataType::Int64, nullable: true };
        let lineage = job.map(|job| Lineage {
            input: "input@1".parse().unwrap(),
            model: "m".parse().unwrap(),
            model_version: VersionNumber(1),
            model_digest: Digest::of(b"m"),
            job: job.to_owned(),
            by: None,
            began: None,
            time: Timestamp::now(),
        });
        NewVersion {
            name: "output".parse().unwrap(),
            by: None,
            format: DataFormat::Csv,
            schema: DatasetSchema { columns: vec![column] },
            card: DatasetCard::default(),
            lineage,
            files: texts.iter().enumerate().map(file).collect(),
        }
    }

    fn stored(&self) -> usize {
        self.folder.path().join(FOLDER).read_dir().unwrap().count()
    }
}

#[tokio::test]
async fn a_job_may_publish_again_what_it_published() {
    let desk = Desk::new().await;
    let datasets = &desk.datasets;
    let first = datasets.commit_version(desk.new_version(Some("1"), &["n\n1\n2\n", "n\n3\n"])).await.unwrap();
    assert!(first.created);
    assert_eq!((first.version.rows, first.version.bytes, first.version.files.len()), (3, 10, 2));
    let again = datasets.commit_version(desk.new_version(Some("1"), &["n\n1\n2\n", "n\n3\n"])).await.unwrap();
    assert!(!again.created);
    assert_eq!(again.version, first.version);
    // Another job that makes the same makes another version, of the same files.
    let other = datasets.commit_version(desk.new_version(Some("2"), &["n\n1\n2\n", "n\n3\n"])).await.unwrap();
    assert!(other.created && other.version.number == VersionNumber(2));
    assert_eq!(desk.stored(), 2);
    assert!(desk.folder.path().join("part-0.csv").exists());
}

#[tokio::test]
async fn what_does_not_fit_together_is_not_published() {
    let desk = Desk::new().await;
    let new = || desk.new_version(None, &["n\n1\n"]);
    let sensitive = DatasetCard { sensitive_columns: ["x".to_owned()].into(), ..DatasetCard::default() };
    let columnless = DatasetSchema { columns: Vec::new() };
    let missing = Origin::Local { path: desk.folder.path().join("missing"), digest: None };
    let mut without_file = new();
    without_file.files[0].origin = missing;
    for wrong in [
        NewVersion { card: sensitive, ..new() },
        NewVersion { schema: columnless, ..new() },
        NewVersion { files: Vec::new(), ..new() },
        without_file,
    ] {
        assert!(desk.datasets.commit_version(wrong).await.is_err());
    }
    assert_eq!(desk.stored(), 0);
    assert!(desk.datasets.all().unwrap().is_empty());
}

#[tokio::test]
async fn files_stay_where_the_record_may_be_there_after_a_restart() {
    let desk = Desk::new().await;
    let Desk { folder, datasets } = &desk;
    // No room for the line, and no way to take it back: whether it is there is not known.
    replace_with_a_full_device(&folder.path().join("journal.jsonl"));
    let refused = datasets.commit_version(desk.new_version(None, &["n\n1\n"])).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::StorageFull, "{refused}");
    assert_eq!(desk.stored(), 1);
    let refused = datasets.commit_version(desk.new_version(None, &["n\n2\n"])).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::Unavailable, "{refused}");
    let Desk { folder, datasets } = desk;
    drop(datasets);
    let reopened = Desk::at(folder).await;
    assert_eq!(reopened.stored(), 0, "it was not there");
}

/// Everything that is written to a file that this process has open fails from now on.
fn replace_with_a_full_device(path: &Path) {
    let path = path.canonicalize().unwrap();
    let descriptors = fs::read_dir("/proc/self/fd").unwrap().map(|entry| entry.unwrap().path());
    let open: Vec<PathBuf> =
        descriptors.filter(|link| fs::read_link(link).is_ok_and(|target| target == path)).collect();
    assert_eq!(open.len(), 1, "{open:?}");
    let number = open[0].file_name().unwrap().to_str().unwrap().parse().unwrap();
    let full = fs::File::options().append(true).open("/dev/full").unwrap();
    // SAFETY: the descriptor is open, in the journal of this test alone, and is not closed here.
    let mut descriptor = ManuallyDrop::new(unsafe { OwnedFd::from_raw_fd(number) });
    rustix::io::dup2(&full, &mut descriptor).unwrap();
}

#[tokio::test]
async fn what_is_held_is_not_deleted() {
    let desk = Desk::new().await;
    let datasets = &desk.datasets;
    let version = datasets.commit_version(desk.new_version(None, &["n\n1\n"])).await.unwrap().version;
    let hold = datasets.hold(&version, "job 7").unwrap();
    let refused = datasets.delete(version.name.clone(), version.number).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::Conflict);
    assert_eq!(refused.message, "version 1 of dataset \"output\" is needed by job 7");
    drop(hold);
    datasets.delete(version.name.clone(), version.number).await.unwrap();
    assert_eq!(datasets.hold(&version, "job 8").err().map(|error| error.code), Some(ErrorCode::NotFound));
    assert_eq!(desk.stored(), 0);
    assert!(datasets.table_provider(&version).is_ok(), "what it says is found when it is read");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_version_is_held_or_deleted_and_never_both() {
    let desk = Desk::new().await;
    let mut both_ways = [0, 0];
    for round in 0..200 {
        let text = format!("n\n{round}\n");
        let new = desk.new_version(None, &[&text]);
        let version = desk.datasets.commit_version(new).await.unwrap().version;
        let (datasets, held) = (desk.datasets.clone(), version.clone());
        let holding = tokio::task::spawn_blocking(move || datasets.hold(&held, "job 1"));
        let deleted = desk.datasets.delete(version.name.clone(), version.number).await;
        let hold = holding.await.unwrap();
        match (&hold, &deleted) {
            (Ok(_), Err(error)) | (Err(error), Ok(())) => {
                assert!(matches!(error.code, ErrorCode::Conflict | ErrorCode::NotFound), "{error}");
            }
            _ => panic!("held: {}, deleted: {}", hold.is_ok(), deleted.is_ok()),
        }
        both_ways[usize::from(deleted.is_ok())] += 1;
        drop(hold);
    }
    println!("held and deleted: {both_ways:?}");
}

#[tokio::test]
async fn nothing_is_left_of_a_version_of_which_one_file_fails() {
    let desk = Desk::new().await;
    let mut new = desk.new_version(None, &["n\n1\n", "n\n2\n", "n\n3\n"]);
    // A folder has no second name.
    let path = desk.folder.path().join("folder");
    fs::create_dir(&path).unwrap();
    new.files[1].origin = Origin::Local { path, digest: Some(Digest::of(b"x")) };
    assert!(desk.datasets.commit_version(new).await.is_err());
    assert_eq!(desk.stored(), 0);
}

#[tokio::test]
async fn what_was_the_latest_once_is_the_latest_again() {
    let desk = Desk::new().await;
    let put = async |job, text: &str| {
        let published = desk.datasets.commit_version(desk.new_version(job, &[text])).await.unwrap();
        (published.version.number.0, published.created)
    };
    assert_eq!(put(None, "n\n1\n").await, (1, true));
    assert_eq!(put(None, "n\n2\n").await, (2, true));
    assert_eq!(put(None, "n\n1\n").await, (3, true));
    assert_eq!(put(None, "n\n1\n").await, (3, false));
    // A job that publishes again after a crash has published already, whatever came in between.
    assert_eq!(put(Some("7"), "n\n1\n").await, (4, true));
    assert_eq!(put(None, "n\n2\n").await, (5, true));
    assert_eq!(put(Some("7"), "n\n1\n").await, (4, false));
}

#[tokio::test]
async fn a_record_that_cannot_be_read_keeps_no_other_from_being_read() {
    let desk = Desk::new().await;
    let well = desk.datasets.commit_version(desk.new_version(None, &["n\n1\n"])).await.unwrap().version;
    let Desk { folder, datasets } = desk;
    drop(datasets);
    let registry = Registry::open(folder.path()).unwrap();
    let key = format!("broken@{:020}", 1);
    let odd = RecordUpdate::put(RecordKind::DatasetVersion, &key, serde_json::json!({ "of": "later" }), None);
    registry.update(vec![odd]).unwrap();
    drop(registry);
    fs::write(folder.path().join(FOLDER).join("perhaps-its.csv"), "").unwrap();
    let desk = Desk::at(folder).await;
    assert_eq!(desk.stored(), 2, "what it needs is not known");
    let names: Vec<DatasetName> = desk.datasets.all().unwrap().into_keys().collect();
    assert_eq!(names, std::slice::from_ref(&well.name));
    assert_eq!(desk.datasets.versions(&well.name).unwrap(), [well]);
    let broken = desk.datasets.versions(&"broken".parse().unwrap()).unwrap_err();
    assert_eq!(broken.code, ErrorCode::Internal);
}

#[tokio::test]
async fn after_a_rebuild_files_without_records_are_set_aside() {
    let desk = Desk::new().await;
    desk.datasets.commit_version(desk.new_version(None, &["n\n1\n"])).await.unwrap();
    let Desk { folder, datasets } = desk;
    drop(datasets);
    fs::write(folder.path().join(FOLDER).join("lost.csv"), "n\n2\n").unwrap();
    // As a rebuild leaves it.
    fs::write(folder.path().join("journal-was-rebuilt"), "").unwrap();
    let desk = Desk::at(folder).await;
    assert_eq!(desk.stored(), 1);
    let aside = desk.folder.path().join("files-without-records/1").join(FOLDER).join("lost.csv");
    assert_eq!(fs::read_to_string(aside).unwrap(), "n\n2\n");
}

/// A Parquet file of these columns, as a version.
async fn parquet_version(desk: &Desk, batch: &RecordBatch) -> DatasetVersion {
    let path = desk.folder.path().join("made.parquet");
    let _ = fs::remove_file(&path);
    let mut writer =
        parquet::arrow::ArrowWriter::try_new(fs::File::create(&path).unwrap(), batch.schema(), None).unwrap();
    writer.write(batch).unwrap();
    writer.close().unwrap();
    let (rows, bytes) = (batch.num_rows() as u64, fs::metadata(&path).unwrap().len());
    let file = NewFile {
        name: "made.parquet".to_owned(),
        rows,
        bytes,
        origin: Origin::Local { path, digest: None },
    };
    let new = NewVersion {
        format: DataFormat::Parquet,
        schema: DatasetSchema::of(&batch.schema()),
        files: vec![file],
        ..desk.new_version(None, &[])
    };
    desk.datasets.commit_version(new).await.unwrap().version
}

#[tokio::test]
async fn columns_of_every_type_have_a_profile() {
    let desk = Desk::new().await;
    let numbers = Int64Array::from(vec![Some(1), None, Some(3), Some(3)]);
    let types: Vec<DataType> = [
        "Int8",
        "Int16",
        "Int32",
        "Int64",
        "UInt8",
        "UInt16",
        "UInt32",
        "UInt64",
        "Float32",
        "Float64",
        "Decimal128(10, 2)",
        "Decimal256(40, 2)",
        "Duration(s)",
        "Duration(ms)",
        "Duration(µs)",
        "Duration(ns)",
        "Time32(s)",
        "Time32(ms)",
        "Time64(µs)",
        "Time64(ns)",
        "Date32",
        "Date64",
        "Timestamp(s)",
        "Timestamp(ns)",
        "Timestamp(µs, \"Europe/Lisbon\")",
        "Utf8",
        "LargeUtf8",
        "Utf8View",
        "Binary",
        "Dictionary(Int32, Utf8)",
        "Dictionary(Int8, Int64)",
        "Dictionary(UInt16, LargeUtf8)",
        "List(Int64)",
        "Boolean",
    ]
    .iter()
    .map(|text| text.parse().unwrap_or_else(|error| panic!("{text}: {error}")))
    .collect();
    let columns: Vec<(String, ArrayRef)> = types
        .iter()
        .map(|data_type| {
            let texts = || cast(&numbers, &DataType::Utf8).unwrap();
            let values = cast(&numbers, data_type)
                .or_else(|_| cast(&cast(&numbers, &DataType::Int32).unwrap(), data_type))
                .or_else(|_| cast(&texts(), data_type));
            (data_type.to_string(), values.unwrap_or_else(|error| panic!("{data_type}: {error}")))
        })
        .collect();
    let version = parquet_version(&desk, &RecordBatch::try_from_iter(columns).unwrap()).await;
    let profile = desk.datasets.profile(&version).await.unwrap();
    for column in &profile.columns {
        let data_type = &column.column.data_type;
        // A list that is made of a missing value is a list.
        assert_eq!(column.nulls, u64::from(!matches!(data_type, DataType::List(_))), "{data_type}");
        if !matches!(data_type, DataType::Binary | DataType::List(_) | DataType::Boolean) {
            assert_eq!(column.distinct, Some(2), "{data_type}");
            assert_eq!((column.top[0].count, column.top.len()), (2, 2), "{data_type}");
            assert!(!column.min.is_null() && !column.max.is_null(), "{data_type}");
        }
    }
    let shown =
        |name: &str| profile.columns.iter().find(|column| column.column.name == name).unwrap().max.clone();
    assert_eq!(shown("Dictionary(Int32, Utf8)"), "3");
    assert_eq!(shown("Dictionary(Int8, Int64)"), 3);
    desk.datasets.preview(&version, 10).await.unwrap();
}

#[tokio::test]
async fn a_preview_is_not_decoded_far_beyond_what_it_shows() {
    let desk = Desk::new().await;
    // One value of a mebibyte that comes in every row.
    let value = Arc::new(StringArray::from(vec!["x".repeat(1 << 20)]));
    let texts = DictionaryArray::<Int32Type>::new(vec![0; 200].into(), value);
    let batch = RecordBatch::try_from_iter([("t", Arc::new(texts) as ArrayRef)]).unwrap();
    let mut version = parquet_version(&desk, &batch).await;
    // As whoever wrote it without Arrow's own schema would have it read.
    version.schema.columns[0].data_type = DataType::Utf8;
    let two = desk.datasets.preview(&version, 2).await.unwrap();
    assert!(two.get().len() > 2 << 20);
    let refused = desk.datasets.preview(&version, 1_000).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::TooLarge);
}

#[tokio::test]
async fn bytes_that_were_changed_are_an_error_and_not_a_failure_of_the_host() {
    let desk = Desk::new().await;
    let numbers = Int64Array::from_iter_values(0..1_000);
    let batch = RecordBatch::try_from_iter([("n", Arc::new(numbers) as ArrayRef)]).unwrap();
    let version = parquet_version(&desk, &batch).await;
    let FileLocation::Stored { digest } = &version.files[0].location else { panic!("{version:?}") };
    let path = desk.folder.path().join(FOLDER).join(stored_name(digest, DataFormat::Parquet));
    let mut bytes = fs::read(&path).unwrap();
    bytes[4..200].fill(0x55);
    fs::write(&path, bytes).unwrap();
    for failed in [
        desk.datasets.preview(&version, 3).await.map(drop).unwrap_err(),
        desk.datasets.profile(&version).await.map(drop).unwrap_err(),
    ] {
        assert_eq!(failed.code, ErrorCode::Unprocessable, "{failed}");
        assert!(failed.message.starts_with("dataset output@1 cannot be read: "), "{failed}");
    }
}

#[tokio::test]
async fn files_and_tables_are_read_in_their_order() {
    let desk = Desk::new().await;
    let datasets = &desk.datasets;
    let texts: Vec<String> = (0..20).map(|file| format!("n\n{file}\n")).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let version = datasets.commit_version(desk.new_version(None, &texts)).await.unwrap().version;
    let files = datasets.files(&version).unwrap();
    for (file, text) in files.iter().zip(&texts) {
        let bytes = file.store.get(&file.path).await.unwrap().bytes().await.unwrap();
        assert_eq!(bytes, text.as_bytes());
        assert_eq!(file.store.head(&file.path).await.unwrap().size, file.file.bytes);
        assert_eq!(file.store.get_range(&file.path, 2..3).await.unwrap(), text.as_bytes()[2..3]);
    }
    let preview = datasets.preview(&version, 20).await.unwrap();
    let rows: Vec<serde_json::Value> = serde_json::from_str(preview.get()).unwrap();
    let numbers: Vec<i64> = rows.iter().map(|row| row["n"].as_i64().unwrap()).collect();
    assert_eq!(numbers, (0..20).collect::<Vec<_>>());
    let session = datasets.session();
    session.register_table("t", datasets.table_provider(&version).unwrap()).unwrap();
    let sum = session.sql("SELECT sum(n) AS sum FROM t").await.unwrap().collect().await.unwrap();
    let sum = arrow::util::display::array_value_to_string(sum[0].column(0), 0).unwrap();
    assert_eq!(sum, "190");
}

#[tokio::test]
async fn a_check_finds_what_was_damaged() {
    let desk = Desk::new().await;
    let one = desk.datasets.commit_version(desk.new_version(None, &["n\n1\n"])).await.unwrap().version;
    let two = desk.datasets.commit_version(desk.new_version(None, &["n\n2\n"])).await.unwrap().version;
    let Desk { folder, datasets } = desk;
    drop(datasets);
    let check = || {
        let records = Registry::check(folder.path()).unwrap().records;
        check_datasets(folder.path(), &records).unwrap()
    };
    let sound = check();
    assert_eq!((sound.versions, sound.files, sound.findings.len(), sound.notes.len()), (2, 2, 0, 0));
    let path = |version: &DatasetVersion| {
        let FileLocation::Stored { digest } = &version.files[0].location else { panic!("{version:?}") };
        folder.path().join(FOLDER).join(stored_name(digest, DataFormat::Csv))
    };
    fs::write(path(&one), "n\n9\n").unwrap();
    fs::remove_file(path(&two)).unwrap();
    fs::write(folder.path().join(FOLDER).join("stray"), "").unwrap();
    let damaged = check();
    assert_eq!((damaged.findings.len(), damaged.notes.len()), (2, 1), "{damaged:?}");
    assert!(
        damaged.findings[0].starts_with("dataset output@1: ") && damaged.findings[0].contains("is damaged")
    );
}
