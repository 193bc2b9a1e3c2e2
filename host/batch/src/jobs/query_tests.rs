use arrow::array::{Int64Array, StringArray, UInt64Array};
use arrow::datatypes::{Int64Type, UInt64Type};

use super::*;

fn dataset() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("age", DataType::Int64, true),
        Field::new("Work Class", DataType::Utf8, true),
    ]))
}

fn query(filter: Option<&str>, columns: Option<&[&str]>) -> Result<Query, Error> {
    let columns = columns.map(|columns| columns.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>());
    Query::new(&SessionContext::new(), &dataset(), filter, columns.as_deref())
}

#[test]
fn only_expressions_over_the_columns_are_taken() {
    for filter in [
        "age > 30",
        "age BETWEEN 1 AND 2 OR \"Work Class\" IN ('a', 'b')",
        "\"Work Class\" LIKE 'P%'",
        "lower(\"Work Class\") = 'private' AND age IS NOT NULL",
        "regexp_like(\"Work Class\", '^P.*e$') OR strpos(\"Work Class\", 'x') > 0 OR \"Work Class\" ~ 'y'",
        "CASE WHEN age > 3 THEN true ELSE false END",
        "coalesce(age, 3) = nvl(age, 3) OR nvl2(age, 1, 2) = nullif(age, 1)",
    ] {
        query(Some(filter), None).unwrap_or_else(|error| panic!("{filter}: {error}"));
    }
    for filter in [
        "",
        "age",
        "age >",
        "height > 3",
        "age > 3; DROP TABLE x",
        "SELECT 1",
        "age IN (SELECT 1)",
        "EXISTS (SELECT 1)",
        "age > (SELECT max(age) FROM x)",
        "count(*) > 1",
        "repeat('x', 1000000000) = 'x'",
        "replace(\"Work Class\", '', 'x') = 'x'",
        "regexp_replace(\"Work Class\", 'a', 'b') = 'x'",
        "regexp_match(\"Work Class\", 'a') IS NULL",
        "translate(\"Work Class\", 'a', 'b') = 'x'",
        "levenshtein(\"Work Class\", 'a') > 1",
        "arrow_cast(age, 'FixedSizeList(1000000000, Int64)') IS NULL",
        "CAST(age AS INT[1000000000]) IS NULL",
        "TRY_CAST(age AS INT[]) IS NULL",
        "regexp_like('a', \"Work Class\")",
        "'a' ~ \"Work Class\"",
        "'a' SIMILAR TO \"Work Class\"",
        "strpos('a', \"Work Class\") > 1",
        "random() > 0.5",
        "age > $1",
        "age = @@version",
        "age + 'x' > 3 AND",
        "other.age > 3",
    ] {
        let error = query(Some(filter), None).err().unwrap_or_else(|| panic!("{filter}"));
        assert_eq!(error.code, ErrorCode::InvalidArgument, "{filter}: {error}");
        assert!(!error.message.contains('\n'), "{error}");
    }
}

#[test]
fn columns_have_names_and_say_what_they_need() {
    let made = query(None, Some(&["age", "upper(\"Work Class\") AS class"])).unwrap();
    assert_eq!(made.schema().field_with_name("class").unwrap().data_type(), &DataType::Utf8);
    assert_eq!(made.needed(&["class".into()]), ["Work Class"]);
    let filtered = query(Some("age > 3"), None).unwrap();
    assert_eq!(filtered.needed(&["Work Class".into()]), ["age", "Work Class"]);
    assert!(query(None, Some(&["age", "age + 1 AS age"])).is_err());
}

#[tokio::test]
async fn rows_keep_their_numbers() {
    let query = query(Some("age > 30"), Some(&["upper(\"Work Class\") AS class"])).unwrap();
    let dataset = dataset();
    let fields =
        dataset.fields().iter().cloned().chain([Arc::new(Field::new(ROW_NUMBER, DataType::UInt64, false))]);
    let read: SchemaRef = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    let batch = RecordBatch::try_new(
        read.clone(),
        vec![
            Arc::new(Int64Array::from(vec![Some(29), Some(31), None, Some(40)])),
            Arc::new(StringArray::from(vec!["a", "b", "c", "d"])),
            Arc::new(UInt64Array::from(vec![7, 8, 9, 10])),
        ],
    );
    let unreadable = FailedRow { row: 11, key: None, code: "type".into(), reason: "x".into() };
    let rows = Rows { batch: batch.unwrap(), failed: vec![unreadable.clone()] };
    let failed = Arc::new(Mutex::new(Vec::new()));
    let stream = stream::iter([Ok(rows)]).boxed();
    let mut found = query.run(stream, read, &["class".into()], failed.clone()).await.unwrap();
    let batch = found.next().await.unwrap().unwrap();
    assert!(found.next().await.is_none());
    let shown =
        |column: usize, row| arrow::util::display::array_value_to_string(batch.column(column), row).unwrap();
    assert_eq!(
        (batch.num_rows(), shown(0, 0), shown(1, 0), shown(1, 1)),
        (2, "B".into(), "8".into(), "10".into())
    );
    assert_eq!(*failed.lock(), [unreadable]);
}

/// Rows of the dataset, numbered from 0.
fn rows(ages: Vec<Option<i64>>, classes: &[&str]) -> RecordBatch {
    let numbers = UInt64Array::from_iter_values(0..ages.len() as u64);
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from(ages)),
        Arc::new(StringArray::from_iter_values(classes)),
        Arc::new(numbers),
    ];
    let fields = dataset().fields().iter().cloned().collect::<Vec<_>>();
    let number = Arc::new(Field::new(ROW_NUMBER, DataType::UInt64, false));
    let schema = Schema::new(fields.into_iter().chain([number]).collect::<Vec<_>>());
    RecordBatch::try_new(Arc::new(schema), columns).unwrap()
}

/// What comes of batches, and which rows failed.
async fn results(
    query: &Query,
    batches: Vec<RecordBatch>,
    wanted: &[&str],
) -> (Vec<RecordBatch>, Vec<FailedRow>) {
    let read = batches[0].schema();
    let wanted: Vec<String> = wanted.iter().map(|name| (*name).to_owned()).collect();
    let failed = Arc::new(Mutex::new(Vec::new()));
    let batches = batches.into_iter().map(|batch| Ok(Rows { batch, failed: vec![] }));
    let found = query.run(stream::iter(batches).boxed(), read, &wanted, failed.clone()).await.unwrap();
    let found = found.try_collect().await.unwrap();
    let failed = failed.lock().clone();
    (found, failed)
}

fn numbers(batches: &[RecordBatch], column: &str) -> Vec<u64> {
    let values = |batch: &RecordBatch| {
        batch.column_by_name(column).unwrap().as_primitive::<UInt64Type>().values().to_vec()
    };
    batches.iter().flat_map(values).collect()
}

#[tokio::test]
async fn a_row_without_a_value_fails_alone() {
    let query =
        query(Some("100 / age > 3"), Some(&["CAST(\"Work Class\" AS BIGINT) AS class", "age AS key"]));
    let query = query.unwrap().in_batches(100, Some("key".into()));
    let batch =
        rows(vec![Some(1), Some(0), None, Some(50), Some(2), Some(3)], &["1", "2", "3", "x", "y", "6"]);
    let (found, failed) = results(&query, vec![batch], &["class"]).await;
    // The third is null and the fourth is not wanted: what its other columns are does not matter.
    assert_eq!(numbers(&found, ROW_NUMBER), [0, 5]);
    let classes: Vec<i64> = found
        .iter()
        .flat_map(|batch| batch.column(0).as_primitive::<Int64Type>().values().to_vec())
        .collect();
    assert_eq!(classes, [1, 6]);
    let told: Vec<_> = failed.iter().map(|row| (row.row, row.key.clone(), row.code.as_str())).collect();
    assert_eq!(told, [(1, Some(0.into()), "expression"), (4, Some(2.into()), "expression")]);
    assert!(failed[0].reason.starts_with("where cannot be worked out: "), "{}", failed[0].reason);
    assert!(failed[1].reason.starts_with("columns cannot be worked out: "), "{}", failed[1].reason);
    assert!(failed[1].reason.contains('y'), "{}", failed[1].reason);
}

#[tokio::test]
async fn every_function_that_is_there_can_be_worked_out() {
    for filter in [
        "coalesce(age, 3) = 3 AND nvl(age, 4) = 4 AND ifnull(age, 5) = 5",
        "nvl2(age, 1, 2) = 2 AND nullif(age, 1) IS NULL AND greatest(age, 2) = 2 AND least(age, 2) = 2",
        "date_part('year', to_timestamp(0)) = 1970 AND to_char(to_date('2020-01-02'), '%Y') = '2020'",
        "date_trunc('day', to_timestamp(1)) = to_timestamp(0) AND make_date(2020, 1, 2) = to_date('2020-01-02')",
        "concat_ws('-', \"Work Class\", 'b') = 'a-b' AND \"Work Class\" || 'b' = 'ab' AND substr('abc', 2) = 'bc'",
        "split_part('a-b', '-', 2) = 'b' AND initcap('ab') = 'Ab' AND btrim(' a ') = 'a' AND reverse('ab') = 'ba'",
        "\"Work Class\" LIKE 'a%' AND \"Work Class\" IN ('a', 'x', 'y', 'z', 'q') AND starts_with('ab', \"Work Class\")",
        "regexp_count('aba', 'a') = 2 AND position('b' IN 'ab') = 2 AND extract(month FROM to_timestamp(0)) = 1",
    ] {
        let query = query(Some(filter), None).unwrap_or_else(|error| panic!("{filter}: {error}"));
        let (found, failed) = results(&query, vec![rows(vec![None], &["a"])], &["age"]).await;
        assert_eq!((numbers(&found, ROW_NUMBER), failed), (vec![0], vec![]), "{filter}");
    }
}

#[tokio::test]
async fn what_is_left_of_many_batches_is_put_together() {
    let query = query(Some("age = 7"), None).unwrap().in_batches(10, None);
    let batch = |number: u64| {
        let batch = rows((0..10).map(Some).collect(), &["a"; 10]);
        let numbers = UInt64Array::from_iter_values((0..10).map(|row| 10 * number + row));
        let columns = [batch.column(0).clone(), batch.column(1).clone(), Arc::new(numbers)];
        RecordBatch::try_new(batch.schema(), columns.to_vec()).unwrap()
    };
    let (found, failed) = results(&query, (0..23).map(batch).collect(), &["age"]).await;
    assert_eq!(found.iter().map(RecordBatch::num_rows).collect::<Vec<_>>(), [5, 5, 5, 5, 3]);
    assert!(numbers(&found, ROW_NUMBER).into_iter().eq((0..23).map(|batch| 10 * batch + 7)));
    assert!(failed.is_empty());
}

#[tokio::test]
async fn texts_that_would_become_too_large_are_worked_out_of_fewer_rows_or_not_at_all() {
    let twelve = format!("concat({}) AS class", ["\"Work Class\""; 12].join(", "));
    let query = query(None, Some(&[&twelve])).unwrap().in_batches(100, None);
    let (large, small) = ("x".repeat(4 << 20), "y".repeat(20 << 20));
    let classes: Vec<&str> = std::iter::repeat_n(large.as_str(), 7).chain([small.as_str()]).collect();
    let (found, failed) = results(&query, vec![rows(vec![None; 8], &classes)], &["class"]).await;
    assert!(found.len() > 2, "{} batches", found.len());
    assert!(numbers(&found, ROW_NUMBER).into_iter().eq(0..7));
    let lengths = found.iter().flat_map(|batch| {
        batch.column(0).as_string::<i32>().iter().flatten().map(str::len).collect::<Vec<_>>()
    });
    assert!(lengths.into_iter().all(|length| length == 12 * (4 << 20)));
    assert_eq!(failed.iter().map(|row| row.row).collect::<Vec<_>>(), [7]);
    assert!(failed[0].reason.contains("more than 134217728 bytes"), "{}", failed[0].reason);
}

#[test]
fn growth_is_counted_through_what_makes_texts() {
    let growth = |text: &str| {
        let query = query(None, Some(&[&format!("{text} AS made")])).unwrap();
        Growth::of(&query.columns.unwrap()[0]).times
    };
    assert_eq!(growth("age"), 0);
    assert_eq!(growth("lower(\"Work Class\")"), 1);
    assert_eq!(growth("\"Work Class\" || 'x' || \"Work Class\""), 2);
    assert_eq!(growth("concat_ws(\"Work Class\", 'a', 'b', 'c', \"Work Class\")"), 5 + 1);
    assert_eq!(growth("to_char(to_timestamp(age), \"Work Class\")"), 32);
}

/// Expressions of so many operators within one another.
fn deep(depth: usize) -> Vec<String> {
    let nested = |open: &str, close: &str, levels: usize| {
        format!("{}age{} IS NOT NULL", open.repeat(levels), close.repeat(levels))
    };
    vec![
        format!("age{} > 3", " + age".repeat(depth - 1)),
        format!("age{} > 3", " - age * age".repeat(depth / 2 - 1)),
        format!("age = 1{}", " OR age = 1".repeat(depth / 2 - 1)),
        format!("age > 1{}", " IS NULL".repeat(depth / 2 - 1)),
        format!("\"Work Class\"{} = 'x'", " || \"Work Class\"".repeat(depth - 1)),
        nested("(", ")", 40.min(depth)),
        nested("abs(", ")", 40.min(depth)),
    ]
}

#[test]
fn an_expression_may_not_be_so_deep_that_there_is_no_stack_for_it() {
    for depth in [1_000, 5_000] {
        for text in deep(depth).into_iter().take(5) {
            let error = query(Some(&text), None).err().unwrap_or_else(|| panic!("{text}"));
            assert!(error.message.contains("operators and keywords within one another"), "{error}");
        }
    }
    let nested = format!("{}age{} > 1", "(".repeat(300), ")".repeat(300));
    assert!(query(Some(&nested), None).is_err());
}

#[test]
fn what_doubles_with_every_level_is_refused() {
    let levels = |open: &str, close: &str, levels: usize| {
        format!("{}age{} IS NULL", open.repeat(levels), close.repeat(levels))
    };
    let within = |open: &str, close: &str| levels(open, close, 30);
    for text in [
        within("coalesce(", ", 1)"),
        within("nvl(", ", 1)"),
        within("nvl2(", ", 1, 2)"),
        levels("CASE WHEN ", " IS NULL THEN age > 1 ELSE age > 2 END", 16),
        format!("age > 1{}", " BETWEEN false AND true".repeat(40)),
        format!("age > 1{}", " IN (true, false, age > 2)".repeat(40)),
        format!("{}age > 1{}", "(".repeat(30), " = true)".repeat(30)),
        format!("{}age{} ~ 'a|b'", "CAST(".repeat(30), " ~ 'a|b' AS VARCHAR)".repeat(30)),
    ] {
        let error = query(Some(&text), None).err().unwrap_or_else(|| panic!("{text}"));
        assert_eq!(error.code, ErrorCode::InvalidArgument);
        assert!(error.message.contains("steps for a row"), "{text}: {error}");
    }
    let many = format!("age IN ({}1)", "1, ".repeat(4_000));
    query(Some(&many), None).unwrap_or_else(|error| panic!("{error}"));
    let branches: String = (0..80).map(|age| format!("WHEN {age} THEN 'c{age}' ")).collect();
    query(Some(&format!("CASE age {branches} END = 'c7'")), None).unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn half_the_stack_of_a_thread_is_enough_for_the_deepest_expression() {
    for text in deep(255) {
        let work = move || {
            let query = query(Some(&text), None).unwrap_or_else(|error| panic!("{text}: {error}"));
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let batch = rows(vec![Some(1), None], &["a", "b"]);
            let (_, failed) = runtime.block_on(results(&query, vec![batch], &["age"]));
            assert!(failed.is_empty(), "{text}: {failed:?}");
        };
        // A thread of tokio has twice as much.
        let thread = std::thread::Builder::new().stack_size(1 << 20).spawn(work).unwrap();
        thread.join().unwrap();
    }
}
