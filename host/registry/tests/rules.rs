//! What may be changed and what not, one rule a test.
#![allow(clippy::unwrap_used, reason = "a test stops where something is not as it should be")]

mod support;

use std::sync::atomic::{AtomicBool, Ordering};

use modelhost_core::{Digest, ErrorCode, ModelConfiguration};
use modelhost_registry::{DeploymentChange, Registry, RegistryError, TrafficShare};
use support::*;
use tempfile::TempDir;

fn registry() -> (TempDir, Registry) {
    let folder = TempDir::new().unwrap();
    let registry = Registry::open(folder.path()).unwrap();
    (folder, registry)
}

#[test]
fn a_registry_is_shared_between_threads_and_a_reservation_moves_to_one() {
    fn is_shared<T: Send + Sync + 'static>() {}
    is_shared::<Registry>();
    is_shared::<modelhost_registry::Reservation>();
}

#[test]
fn versions_are_numbered_and_the_same_bytes_are_the_same_version() {
    let (_folder, registry) = registry();
    let first = add(&registry, "income", 1);
    assert_eq!((first.version.number, first.created, first.generation), (version(1), true, 1));
    assert_eq!(add(&registry, "income", 2).version.number, version(2));
    let again = add(&registry, "income", 1);
    assert_eq!((again.version, again.created, again.generation), (first.version.clone(), false, 2));
    let elsewhere = add(&registry, "spam", 1);
    assert_eq!((elsewhere.version.number, elsewhere.created), (version(1), true));
    let model = registry.model(&model("income")).unwrap().unwrap();
    assert_eq!(model.versions.len(), 2);
    assert_eq!(model.version(version(1)), Some(&first.version));
    assert_eq!((model.generation, model.next_version), (2, version(3)));
    assert_eq!(registry.models().unwrap().len(), 2);
    assert!(registry.model(&support::model("none")).unwrap().is_none());
}

#[test]
fn a_version_needs_its_files() {
    let (_folder, registry) = registry();
    let (new, reservations) = store(&registry, 1);
    drop(reservations);
    assert!(matches!(registry.add_version(&model("income"), new), Err(RegistryError::Misuse(_))));
    assert!(registry.models().unwrap().is_empty());
}

#[test]
fn an_upload_that_is_given_up_leaves_nothing() {
    let (folder, registry) = registry();
    drop(store(&registry, 1));
    assert_eq!(count_files(&folder.path().join("artifacts")), 0);
    assert_eq!(count_files(&folder.path().join("staging")), 0);
}

#[test]
fn deleting_removes_what_nothing_else_needs() {
    let (folder, registry) = registry();
    // 2 and 3 share a graph; the component 2 is under two models.
    for (name, content) in [("income", 2), ("income", 3), ("spam", 2)] {
        add(&registry, name, content);
    }
    let two = Digest::of(&component_of(2));
    let graphs = || count_files(&folder.path().join("artifacts/graphs"));
    registry.delete_version(&model("income"), version(1), None).unwrap();
    assert!(registry.artifacts().component_path(&two).exists());
    registry.delete_version(&model("spam"), version(1), None).unwrap();
    assert!(!registry.artifacts().component_path(&two).exists());
    assert!(!registry.artifacts().compiled_path(SETTINGS, &two).exists());
    assert_eq!(graphs(), 1);
    registry.delete_version(&model("income"), version(2), None).unwrap();
    assert_eq!(count_files(&folder.path().join("artifacts")), 0);
}

#[test]
fn a_deletion_leaves_the_files_of_an_upload_on_its_way() {
    let (_folder, registry) = registry();
    add(&registry, "income", 1);
    let (new, reservations) = store(&registry, 1);
    registry.delete_version(&model("income"), version(1), None).unwrap();
    let path = registry.artifacts().component_path(&new.digest);
    assert!(path.exists());
    assert_eq!(registry.add_version(&model("income"), new).unwrap().version.number, version(2));
    drop(reservations);
    assert!(path.exists());
}

#[test]
fn numbers_are_never_used_again_and_an_empty_model_is_not_seen() {
    let (folder, registry) = registry();
    add(&registry, "income", 1);
    registry.delete_version(&model("income"), version(1), None).unwrap();
    assert!(registry.models().unwrap().is_empty());
    assert!(registry.model(&model("income")).unwrap().is_none());
    assert!(registry.revisions(&model("income")).unwrap().is_empty());
    assert!(matches!(deploy(&registry, "income", 1), Err(RegistryError::NotFound { .. })));
    drop(registry);
    let registry = Registry::open(folder.path()).unwrap();
    let back = add(&registry, "income", 1);
    assert_eq!((back.version.number, back.generation), (version(2), 3));
}

#[test]
fn a_configuration_replaces_the_whole_one_before() {
    let (folder, registry) = registry();
    let income = model("income");
    let missing = registry.configure(&income, weighing(2), None).unwrap_err();
    assert_eq!(missing.code(), ErrorCode::NotFound);
    add(&registry, "income", 1);
    assert!(registry.model(&income).unwrap().unwrap().configuration.is_default());
    assert_eq!(registry.configure(&income, weighing(2), Some(1)).unwrap(), 2);
    assert_eq!(registry.configure(&income, weighing(2), None).unwrap(), 2, "nothing changed");
    let stale = registry.configure(&income, weighing(3), Some(1)).unwrap_err();
    assert_eq!(stale.code(), ErrorCode::PreconditionFailed);
    let limited = ModelConfiguration { max_queued_requests: Some(0), ..ModelConfiguration::default() };
    registry.configure(&income, limited.clone(), Some(2)).unwrap();
    assert_eq!(registry.model(&income).unwrap().unwrap().configuration, limited);
    drop(registry);
    let registry = Registry::open(folder.path()).unwrap();
    assert_eq!(registry.model(&income).unwrap().unwrap().configuration, limited);
    registry.delete_version(&income, version(1), None).unwrap();
    assert_eq!(registry.configure(&income, weighing(2), None).unwrap_err().code(), ErrorCode::NotFound);
    add(&registry, "income", 1);
    let again = registry.model(&income).unwrap().unwrap();
    assert!(again.configuration.is_default(), "a model that comes back begins anew");
}

#[test]
fn what_is_deployed_or_has_an_alias_cannot_be_deleted() {
    let (_folder, registry) = registry();
    let income = model("income");
    for content in 1..=3 {
        add(&registry, "income", content);
    }
    deploy(&registry, "income", 1).unwrap();
    registry.set_alias(&income, &alias("champion"), version(2), None).unwrap();
    for number in [1, 2] {
        let refused = registry.delete_version(&income, version(number), None).unwrap_err();
        assert_eq!(refused.code(), ErrorCode::Conflict, "{refused}");
    }
    deploy(&registry, "income", 3).unwrap();
    registry.delete_alias(&income, &alias("champion"), None).unwrap();
    registry.delete_version(&income, version(1), None).unwrap();
    registry.delete_version(&income, version(2), None).unwrap();
    let missing = registry.delete_version(&income, version(2), None).unwrap_err();
    assert_eq!(missing.to_string(), "version 2 of model \"income\" does not exist");
}

#[test]
fn a_deployment_is_one_version_with_all_traffic() {
    let (_folder, registry) = registry();
    add(&registry, "income", 1);
    add(&registry, "income", 2);
    let share = |number, percent| TrafficShare { version: version(number), percent };
    for traffic in
        [vec![], vec![share(1, 99)], vec![share(1, 50), share(2, 50)], vec![share(1, 100), share(2, 0)]]
    {
        let change = DeploymentChange { traffic, by: None, comment: None };
        let refused = registry.deploy(&model("income"), change, None).unwrap_err();
        assert_eq!(refused.code(), ErrorCode::InvalidArgument, "{refused}");
    }
    assert_eq!(deploy(&registry, "income", 9).unwrap_err().code(), ErrorCode::NotFound);
    assert_eq!(deploy(&registry, "spam", 1).unwrap_err().code(), ErrorCode::NotFound);
    let (revision, generation) = deploy(&registry, "income", 2).unwrap();
    assert_eq!((revision.number, generation), (1, 3));
    assert_eq!(revision.traffic, [TrafficShare::all(version(2))]);
    let model = registry.model(&model("income")).unwrap().unwrap();
    assert_eq!(model.deployment, Some(revision));
}

#[test]
fn a_rollback_restores_the_newest_older_revision_that_differs() {
    let (_folder, registry) = registry();
    let income = model("income");
    let back = |to| registry.rollback(&income, to, Some("operator".into()), Some("oh".into()), None);
    for content in 1..=3 {
        add(&registry, "income", content);
    }
    assert_eq!(back(None).unwrap_err().code(), ErrorCode::Conflict);
    deploy(&registry, "income", 1).unwrap();
    assert_eq!(back(None).unwrap_err().code(), ErrorCode::Conflict);
    deploy(&registry, "income", 2).unwrap();
    deploy(&registry, "income", 2).unwrap();
    let (revision, _) = back(None).unwrap();
    assert_eq!((revision.number, revision.restores), (4, Some(1)));
    assert_eq!(revision.traffic, [TrafficShare::all(version(1))]);
    assert_eq!(revision.comment.as_deref(), Some("oh"));
    let (revision, _) = back(Some(2)).unwrap();
    assert_eq!((revision.number, revision.restores), (5, Some(2)));
    assert_eq!(back(Some(6)).unwrap_err().code(), ErrorCode::NotFound);
    assert_eq!(registry.revisions(&income).unwrap().len(), 5);
    registry.delete_version(&income, version(1), None).unwrap();
    let refused = back(Some(1)).unwrap_err();
    assert_eq!(refused.code(), ErrorCode::Conflict);
    assert!(refused.to_string().contains("(1)"), "{refused}");
    assert_eq!(back(None).unwrap_err().code(), ErrorCode::Conflict);
}

#[test]
fn aliases_move_and_name_versions_that_exist() {
    let (_folder, registry) = registry();
    let income = model("income");
    add(&registry, "income", 1);
    add(&registry, "income", 2);
    let set = |number| registry.set_alias(&income, &alias("champion"), version(number), None);
    assert_eq!(set(3).unwrap_err().code(), ErrorCode::NotFound);
    assert_eq!(set(1).unwrap(), 3);
    assert_eq!(set(1).unwrap(), 3, "nothing changes");
    assert_eq!(set(2).unwrap(), 4);
    assert_eq!(registry.model(&income).unwrap().unwrap().aliases[&alias("champion")], version(2));
    assert_eq!(registry.delete_alias(&income, &alias("champion"), None).unwrap(), 5);
    let missing = registry.delete_alias(&income, &alias("champion"), None).unwrap_err();
    assert_eq!(missing.code(), ErrorCode::NotFound);
}

#[test]
fn every_change_can_demand_a_generation() {
    let (_folder, registry) = registry();
    let income = model("income");
    add(&registry, "income", 1);
    add(&registry, "income", 2);
    let champion = alias("champion");
    let stale = Some(1);
    let refusals = [
        registry.deploy(&income, change(1), stale).unwrap_err(),
        registry.rollback(&income, None, None, None, stale).unwrap_err(),
        registry.set_alias(&income, &champion, version(1), stale).unwrap_err(),
        registry.delete_version(&income, version(1), stale).unwrap_err(),
    ];
    for refused in refusals {
        assert!(matches!(refused, RegistryError::PreconditionFailed { expected: 1, actual: 2 }), "{refused}");
    }
    registry.set_alias(&income, &champion, version(1), Some(2)).unwrap();
    assert!(matches!(
        registry.delete_alias(&income, &champion, Some(2)),
        Err(RegistryError::PreconditionFailed { expected: 2, actual: 3 })
    ));
    assert_eq!(registry.deploy(&income, change(1), Some(3)).unwrap().1, 4);
}

#[test]
fn of_two_operators_with_the_same_generation_one_wins() {
    let (_folder, registry) = registry();
    add(&registry, "income", 1);
    add(&registry, "income", 2);
    for _ in 0..20 {
        let generation = registry.model(&model("income")).unwrap().unwrap().generation;
        let outcomes: Vec<bool> = std::thread::scope(|scope| {
            let operators = [1, 2].map(|number| {
                let registry = &registry;
                scope.spawn(move || {
                    registry.deploy(&model("income"), change(number), Some(generation)).is_ok()
                })
            });
            operators.map(|operator| operator.join().unwrap()).into()
        });
        assert_eq!(outcomes.iter().filter(|won| **won).count(), 1);
    }
}

#[test]
fn readers_see_whole_models_while_they_change() {
    let (_folder, registry) = registry();
    let income = model("income");
    add(&registry, "income", 0);
    deploy(&registry, "income", 1).unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let mut newest = 0;
                    while !done.load(Ordering::Relaxed) {
                        let model = registry.model(&income).unwrap().unwrap();
                        assert!(model.generation >= newest);
                        newest = model.generation;
                        let deployed = model.deployment.as_ref().unwrap().traffic[0].version;
                        assert!(model.version(deployed).is_some());
                        assert!(model.aliases.values().all(|number| model.version(*number).is_some()));
                    }
                    newest
                })
            })
            .collect();
        for content in 1..40 {
            let number = add(&registry, "income", content).version.number;
            registry.set_alias(&income, &alias("newest"), number, None).unwrap();
            deploy(&registry, "income", number.0).unwrap();
            registry.delete_version(&income, version(number.0 - 1), None).unwrap();
        }
        done.store(true, Ordering::Relaxed);
        for reader in readers {
            assert!(reader.join().unwrap() > 2);
        }
    });
}

#[test]
fn messages_for_clients_name_no_paths() {
    let (folder, registry) = registry();
    add(&registry, "income", 1);
    deploy(&registry, "income", 1).unwrap();
    let income = model("income");
    let errors = [
        deploy(&registry, "none", 1).unwrap_err(),
        deploy(&registry, "income", 2).unwrap_err(),
        registry.delete_version(&income, version(1), None).unwrap_err(),
        registry.deploy(&income, change(1), Some(7)).unwrap_err(),
        registry.rollback(&income, Some(9), None, None, None).unwrap_err(),
    ];
    for error in errors {
        assert!((400..500).contains(&error.code().http_status()), "{error}");
        assert!(!error.to_string().contains(folder.path().to_str().unwrap()), "{error}");
    }
}
