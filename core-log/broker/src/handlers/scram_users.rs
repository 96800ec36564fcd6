//! DescribeUserScramCredentials and AlterUserScramCredentials (KIP-554).

use std::collections::BTreeMap;
use std::sync::Arc;

use bytestring::ByteString;
use highwater_cluster::decide::{self, ScramAlteration, ScramChange};
use highwater_cluster::{MetadataImage, MetadataRecord, SecretBytes};
use highwater_wire::ErrorCode;
use highwater_wire::messages::alter_user_scram_credentials_response::AlterUserScramCredentialsResult;
use highwater_wire::messages::describe_user_scram_credentials_response::{
    CredentialInfo, DescribeUserScramCredentialsResult,
};
use highwater_wire::messages::{
    AlterUserScramCredentialsRequest, AlterUserScramCredentialsResponse, DescribeUserScramCredentialsRequest,
    DescribeUserScramCredentialsResponse,
};

use crate::broker::Broker;
use crate::error::ApiError;
use crate::scram_keys::scram_keys;

/// The mechanisms and rounds of some users, or of all; never the credentials themselves.
pub(crate) fn describe(
    broker: &Broker,
    request: DescribeUserScramCredentialsRequest,
) -> DescribeUserScramCredentialsResponse {
    let image = broker.image();
    let named = request.users.unwrap_or_default();
    let results = if named.is_empty() {
        let users = image.scram_users().keys();
        users
            .map(|user| described(&image, user.as_str().into(), 1))
            .collect()
    } else {
        let mut mentions: BTreeMap<ByteString, usize> = BTreeMap::new();
        for user in named {
            *mentions.entry(user.name).or_default() += 1;
        }
        let users = mentions.into_iter();
        users
            .map(|(user, count)| described(&image, user, count))
            .collect()
    };
    DescribeUserScramCredentialsResponse {
        error_message: None,
        results,
        ..Default::default()
    }
}

fn described(image: &MetadataImage, user: ByteString, mentions: usize) -> DescribeUserScramCredentialsResult {
    let credentials = image.scram_users().get(&*user).filter(|_| mentions == 1);
    let (code, message) = match credentials {
        Some(_) => (ErrorCode::None, None),
        None if mentions > 1 => (
            ErrorCode::DuplicateResource,
            Some("the request names this user more than once".into()),
        ),
        None => (
            ErrorCode::ResourceNotFound,
            Some("this user has no SCRAM credential".into()),
        ),
    };
    let infos = credentials
        .into_iter()
        .flatten()
        .map(|(mechanism, credential)| CredentialInfo {
            mechanism: mechanism.code(),
            iterations: i32::try_from(credential.iterations).unwrap_or(i32::MAX),
        });
    DescribeUserScramCredentialsResult {
        credential_infos: infos.collect(),
        user,
        error_code: code.code(),
        error_message: message,
    }
}

/// Gives and takes credentials; one answer per user.
pub(crate) async fn alter(
    broker: &Arc<Broker>,
    request: AlterUserScramCredentialsRequest,
) -> AlterUserScramCredentialsResponse {
    let deletions = request.deletions.into_iter().map(|deletion| ScramAlteration {
        user: deletion.name.to_string(),
        mechanism: deletion.mechanism,
        change: ScramChange::Delete,
    });
    let upsertions = request.upsertions.into_iter().map(|upsertion| ScramAlteration {
        user: upsertion.name.to_string(),
        mechanism: upsertion.mechanism,
        change: ScramChange::Set {
            iterations: upsertion.iterations,
            salt: SecretBytes(upsertion.salt.to_vec()),
            salted_password: SecretBytes(upsertion.salted_password.to_vec()),
        },
    });
    let alterations: Vec<ScramAlteration> = deletions.chain(upsertions).collect();
    let decide = |image: &MetadataImage| {
        let outcomes = decide::alter_scram_credentials(image, &alterations, scram_keys);
        let good = outcomes.iter().filter_map(|outcome| outcome.result.as_ref().ok());
        let records: Vec<MetadataRecord> = good.flatten().cloned().collect();
        (outcomes, records)
    };
    let results = match broker.commit(decide).await {
        Ok(outcomes) => outcomes
            .into_iter()
            .map(|outcome| {
                result(
                    outcome.subject,
                    outcome.result.map(|_| ()).map_err(ApiError::from),
                )
            })
            .collect(),
        Err(error) => {
            // One answer per user, as in the other case.
            let users: BTreeMap<String, ()> = alterations.into_iter().map(|one| (one.user, ())).collect();
            users
                .into_keys()
                .map(|user| result(user, Err(error.clone())))
                .collect()
        }
    };
    AlterUserScramCredentialsResponse {
        results,
        ..Default::default()
    }
}

fn result(user: String, result: Result<(), ApiError>) -> AlterUserScramCredentialsResult {
    let (code, message) = match result {
        Ok(()) => (ErrorCode::None, None),
        Err(error) => (error.code, Some(error.message.into())),
    };
    AlterUserScramCredentialsResult {
        user: user.into(),
        error_code: code.code(),
        error_message: message,
    }
}
