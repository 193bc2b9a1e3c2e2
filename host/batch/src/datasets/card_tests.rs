//! Cards: what is refused, and that nothing made from a dataset allows more than the dataset does.

use arrow::datatypes::DataType;
use proptest::prelude::*;

use super::super::schema::Column;
use super::*;

fn schema(names: &[&str]) -> DatasetSchema {
    let column =
        |name: &&str| Column { name: (*name).to_owned(), data_type: DataType::Int64, nullable: true };
    DatasetSchema { columns: names.iter().map(column).collect() }
}

fn licensed(license: &str) -> DatasetCard {
    DatasetCard { license: Some(license.to_owned()), ..DatasetCard::default() }
}

#[test]
fn licences_are_spdx_expressions() {
    for license in ["CC-BY-4.0", "MIT OR Apache-2.0", "CC0-1.0 AND LicenseRef-internal", "(MIT)"] {
        assert_eq!(licensed(license).check(), Ok(()), "{license}");
    }
    for license in ["", "free", "CC-BY", "MIT AND", "(MIT", "mit", &"MIT AND ".repeat(200)] {
        let error = licensed(license).check().unwrap_err().to_string();
        assert!(error.starts_with("license of the card is "), "{error}");
    }
}

#[test]
fn cards_are_read_strictly() {
    let card: DatasetCard = serde_json::from_str(
        r#"{"license":"CC-BY-4.0","commercial_use":true,"sensitive_columns":["age"],"retention_until":"2030-12-31"}"#,
    )
    .unwrap();
    assert_eq!(card.retention_until, Some(jiff::civil::date(2030, 12, 31)));
    assert_eq!(card.check_columns(&schema(&["age", "x"])), Ok(()));
    assert_eq!(
        card.check_columns(&schema(&["x"])).unwrap_err().to_string(),
        "sensitive_columns of the card names \"age\", which is no column of the dataset"
    );
    for text in [r#"{"licence":"MIT"}"#, r#"{"retention_until":"31.12.2030"}"#, r#"{"commercial_use":"no"}"#]
    {
        assert!(serde_json::from_str::<DatasetCard>(text).is_err(), "{text}");
    }
    let long = DatasetCard { description: Some("x".repeat(MAX_TEXT_BYTES + 1)), ..DatasetCard::default() };
    assert!(long.check().is_err());
}

#[test]
fn the_strictest_terms_are_inherited() {
    let public = DatasetCard {
        license: Some("CC-BY-4.0 OR MIT".to_owned()),
        commercial_use: Some(true),
        source: Some("a".to_owned()),
        sensitive_columns: ["age".to_owned(), "gone".to_owned()].into(),
        retention_until: Some(jiff::civil::date(2031, 1, 1)),
        description: Some("about a".to_owned()),
        ..DatasetCard::default()
    };
    let internal = DatasetCard {
        license: Some("LicenseRef-internal AND CC0-1.0".to_owned()),
        commercial_use: Some(false),
        source: Some("b".to_owned()),
        consent: Some("contract".to_owned()),
        sensitive_columns: ["name".to_owned()].into(),
        retention_until: Some(jiff::civil::date(2030, 1, 1)),
        ..DatasetCard::default()
    };
    let made = DatasetCard::inherited(
        &[&public, &internal, &licensed("CC0-1.0")],
        &schema(&["age", "name", "score"]),
    );
    let expected = DatasetCard {
        license: Some("(CC-BY-4.0 OR MIT) AND LicenseRef-internal AND CC0-1.0".to_owned()),
        commercial_use: Some(false),
        source: Some("a; b".to_owned()),
        consent: Some("contract".to_owned()),
        sensitive_columns: ["age".to_owned(), "name".to_owned()].into(),
        retention_until: Some(jiff::civil::date(2030, 1, 1)),
        description: None,
    };
    assert_eq!(made, expected);
    assert_eq!(made.check(), Ok(()));
}

fn any_card() -> impl Strategy<Value = DatasetCard> {
    let license = prop_oneof![
        Just(None),
        Just(Some("MIT".to_owned())),
        Just(Some("CC-BY-4.0 AND CC0-1.0".to_owned())),
        Just(Some("MIT OR Apache-2.0 WITH LLVM-exception".to_owned())),
        Just(Some("(MIT OR CC0-1.0) AND LicenseRef-x".to_owned())),
        Just(Some("((MIT AND CC0-1.0))".to_owned())),
    ];
    let columns = proptest::collection::btree_set("[a-d]", 0..4);
    let retention = proptest::option::of((2000_i16..2050).prop_map(|year| jiff::civil::date(year, 1, 1)));
    (license, proptest::option::of(any::<bool>()), columns, retention).prop_map(
        |(license, commercial_use, sensitive_columns, retention_until)| DatasetCard {
            license,
            commercial_use,
            sensitive_columns,
            retention_until,
            ..DatasetCard::default()
        },
    )
}

proptest! {
    #[test]
    fn any_text_can_be_a_licence_or_not(license in ".{0,200}") {
        let _ = licensed(&license).check();
    }

    #[test]
    fn what_is_made_allows_no_more(cards in proptest::collection::vec(any_card(), 1..5)) {
        let all: Vec<&DatasetCard> = cards.iter().collect();
        let columns = schema(&["a", "b", "c", "d"]);
        let made = DatasetCard::inherited(&all, &columns);
        prop_assert_eq!(made.check(), Ok(()));
        prop_assert_eq!(made.check_columns(&columns), Ok(()));
        prop_assert!(made.commercial_use != Some(true) || all.iter().all(|card| card.commercial_use == Some(true)));
        for card in &all {
            prop_assert!(card.sensitive_columns.is_subset(&made.sensitive_columns));
            prop_assert!(card.retention_until.is_none() || made.retention_until <= card.retention_until);
            // Whoever may use what is made, by its licence, may use each of the datasets by its own.
            if let (Some(inherited), Some(license)) = (&made.license, &card.license) {
                let inherited = spdx::Expression::parse(inherited).unwrap();
                let license = spdx::Expression::parse(license).unwrap();
                let names: Vec<String> = inherited.requirements().map(|term| term.req.to_string()).collect();
                for choice in 0_u32..1 << names.len().min(10) {
                    let accepts = |term: &spdx::LicenseReq| {
                        let place = names.iter().position(|name| *name == term.to_string());
                        place.is_some_and(|place| choice & (1 << place) != 0)
                    };
                    prop_assert!(!inherited.evaluate(accepts) || license.evaluate(accepts));
                }
            }
        }
        // Made of what was made, once more: nothing is added.
        prop_assert_eq!(DatasetCard::inherited(&[&made, &made], &columns), made);
    }
}
