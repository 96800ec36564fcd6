//! SCRAM credentials in the metadata: who may log in, and where what is kept of passwords does not show.

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use highwater_broker::{Limits, METADATA_FILES, inspect_metadata};
use highwater_cluster::ScramMechanism;
use highwater_storage::StdDisk;
use highwater_wire::ErrorCode;
use highwater_wire::messages::alter_user_scram_credentials_request::{
    ScramCredentialDeletion, ScramCredentialUpsertion,
};
use highwater_wire::messages::describe_user_scram_credentials_request::UserName;
use highwater_wire::messages::{AlterUserScramCredentialsRequest, DescribeUserScramCredentialsRequest};

use crate::support::{Wire, start_with};

fn upsertion(name: &str, iterations: i32, salt: &'static [u8]) -> ScramCredentialUpsertion {
    ScramCredentialUpsertion {
        name: name.into(),
        mechanism: ScramMechanism::Sha256.code(),
        iterations,
        salt: salt.into(),
        salted_password: vec![7; 32].into(),
    }
}

async fn alter(wire: &mut Wire, request: AlterUserScramCredentialsRequest) -> Vec<(String, ErrorCode)> {
    let answer = wire.call(0, request).await;
    let results = answer.results.into_iter();
    results
        .map(|result| (result.user.to_string(), ErrorCode::from_code(result.error_code)))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn users_are_kept_over_restarts_in_files_of_the_owner_and_shown_without_their_keys() {
    let dir = tempfile::tempdir().unwrap();
    let (node, address) = start_with(dir.path(), Limits::default(), &[]).await;
    let mut wire = Wire::connect(address).await;
    let request = AlterUserScramCredentialsRequest {
        upsertions: vec![
            upsertion("ann", 4096, b"some salt"),
            upsertion("bob", 5000, b"more salt"),
        ],
        ..Default::default()
    };
    let created = alter(&mut wire, request).await;
    assert_eq!(
        created,
        [("ann".into(), ErrorCode::None), ("bob".into(), ErrorCode::None)]
    );
    drop(wire);
    node.shutdown().await.unwrap();

    let metadata = dir.path().join("metadata");
    let mut shown = String::new();
    for name in METADATA_FILES {
        let path = metadata.join(name);
        if path.try_exists().unwrap() {
            let mode = path.metadata().unwrap().permissions().mode();
            assert_eq!(mode & 0o077, 0, "{name} has mode {mode:o}");
        }
        let (frames, _) = inspect_metadata(StdDisk::shared(), &metadata, name).unwrap();
        shown.extend(frames.into_iter().map(|(_, value)| value.to_string()));
    }
    assert!(
        shown.contains(r#""user":"ann""#) && shown.contains("[hidden]"),
        "{shown}"
    );
    let salt: String = b"some salt".iter().map(|byte| format!("{byte:02x}")).collect();
    assert!(!shown.contains(&salt), "{shown}");

    let (node, address) = start_with(dir.path(), Limits::default(), &[]).await;
    let image = Arc::clone(&node.image());
    let kept = image.scram_credential("ann", ScramMechanism::Sha256).unwrap();
    assert_eq!((kept.salt.as_slice(), kept.iterations), (&b"some salt"[..], 4096));
    assert_ne!(kept.stored_key, kept.server_key);
    let mut wire = Wire::connect(address).await;
    let all = wire.call(0, DescribeUserScramCredentialsRequest::default()).await;
    let infos: Vec<_> = all
        .results
        .iter()
        .map(|user| {
            (
                &*user.user,
                user.credential_infos[0].mechanism,
                user.credential_infos[0].iterations,
            )
        })
        .collect();
    assert_eq!(infos, [("ann", 1, 4096), ("bob", 1, 5000)]);
    node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_85_credentials_that_protect_nobody_are_refused_one_by_one() {
    let dir = tempfile::tempdir().unwrap();
    let (node, address) = start_with(dir.path(), Limits::default(), &[]).await;
    let mut wire = Wire::connect(address).await;
    let request = AlterUserScramCredentialsRequest {
        deletions: vec![ScramCredentialDeletion {
            name: "nobody".into(),
            mechanism: 2,
        }],
        upsertions: vec![
            upsertion("weak", 1, b"salt"),
            upsertion("endless", i32::MAX, b"salt"),
            upsertion("unsalted", 4096, b""),
            upsertion("good", 4096, b"salt"),
            upsertion("twice", 4096, b"salt"),
            upsertion("twice", 4096, b"other"),
        ],
    };
    let codes = alter(&mut wire, request).await;
    let expected = [
        ("nobody", ErrorCode::ResourceNotFound),
        ("weak", ErrorCode::UnacceptableCredential),
        ("endless", ErrorCode::UnacceptableCredential),
        ("unsalted", ErrorCode::UnacceptableCredential),
        ("good", ErrorCode::None),
        ("twice", ErrorCode::DuplicateResource),
    ];
    assert_eq!(codes, expected.map(|(user, code)| (user.to_owned(), code)));

    let user = |name: &str| UserName { name: name.into() };
    let request = DescribeUserScramCredentialsRequest {
        users: Some(vec![user("good"), user("weak"), user("endless"), user("endless")]),
    };
    let answer = wire.call(0, request).await;
    let codes: Vec<_> = answer
        .results
        .iter()
        .map(|result| (&*result.user, ErrorCode::from_code(result.error_code)))
        .collect();
    let expected = [
        ("endless", ErrorCode::DuplicateResource),
        ("good", ErrorCode::None),
        ("weak", ErrorCode::ResourceNotFound),
    ];
    assert_eq!(codes, expected);
    node.shutdown().await.unwrap();
}
