//! Access rules: who may, or must not, do what with which resources (KIP-11, KIP-290).
//!
//! Refuses: to leave out a rule that this client cannot read, since whoever looks at rules relies on seeing all.

use std::{fmt, str::FromStr};

use highwater_types::ByteString;
use highwater_wire::{
    ApiKey, ErrorCode,
    messages::{
        CreateAclsRequest, CreateAclsResponse, DeleteAclsRequest, DeleteAclsResponse, DescribeAclsRequest,
        create_acls_request::AclCreation, delete_acls_request::DeleteAclsFilter,
        delete_acls_response::DeleteAclsMatchingAcl,
    },
};

use super::Admin;
use crate::ClientError;

/// In a filter: whatever it is.
const ANY: i8 = 1;

/// A word that names none of the things there are.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{word}` is none of {known}")]
pub struct UnknownWord {
    word: String,
    known: String,
}

/// The kind with this number.
fn of_code<T: Copy>(all: &[T], number: impl Fn(T) -> i8, code: i8) -> Option<T> {
    all.iter().copied().find(|kind| number(*kind) == code)
}

/// Kinds with Kafka's numbers and words.
macro_rules! kinds {
    ($(#[$about:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $code:literal $word:literal,)* }) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name {
            $($(#[$doc])* $variant,)*
        }

        impl $name {
            /// All there are.
            pub const ALL: &[$name] = &[$($name::$variant,)*];

            /// Its word, as it is shown and read.
            pub const fn word(self) -> &'static str {
                match self { $($name::$variant => $word,)* }
            }

            const fn code(self) -> i8 {
                match self { $($name::$variant => $code,)* }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.word())
            }
        }

        impl FromStr for $name {
            type Err = UnknownWord;

            /// Takes every way in which Kafka's tools write it: `describe-configs`, `DescribeConfigs`, `DESCRIBE_CONFIGS`.
            fn from_str(word: &str) -> Result<Self, UnknownWord> {
                let bare = |word: &str| word.replace(['-', '_'], "").to_lowercase();
                let wanted = bare(word);
                let found = Self::ALL.iter().copied().find(|kind| bare(kind.word()) == wanted);
                found.ok_or_else(|| UnknownWord {
                    word: word.to_owned(),
                    known: Self::ALL.iter().map(|kind| kind.word()).collect::<Vec<_>>().join(", "),
                })
            }
        }
    };
}

kinds! {
    /// What a rule is about.
    ResourceType {
        /// A topic.
        Topic = 2 "topic",
        /// A consumer group.
        Group = 3 "group",
        /// The cluster, whose name is `kafka-cluster`.
        Cluster = 4 "cluster",
        /// A transactional id.
        TransactionalId = 5 "transactional-id",
        /// A delegation token.
        DelegationToken = 6 "delegation-token",
        /// A user, as the owner of tokens.
        User = 7 "user",
    }
}

kinds! {
    /// How the name of a rule's resource is meant.
    PatternType {
        /// The resource of this name; `*` is all of them.
        Literal = 3 "literal",
        /// Resources whose names begin so.
        Prefixed = 4 "prefixed",
    }
}

kinds! {
    /// Which names a filter finds.
    PatternFilter {
        /// Rules of any pattern with exactly this name.
        Any = 1 "any",
        /// Rules that apply to the resource of this name.
        Match = 2 "match",
        /// Literal rules with exactly this name.
        Literal = 3 "literal",
        /// Prefixed rules with exactly this name.
        Prefixed = 4 "prefixed",
    }
}

kinds! {
    /// What is done to a resource.
    AclOperation {
        /// Everything.
        All = 2 "all",
        /// Reading records; taking part in a group. Includes describing.
        Read = 3 "read",
        /// Writing records. Includes describing.
        Write = 4 "write",
        /// Making it.
        Create = 5 "create",
        /// Deleting it, or records of it. Includes describing.
        Delete = 6 "delete",
        /// Changing it. Includes describing.
        Alter = 7 "alter",
        /// Seeing that and how it is.
        Describe = 8 "describe",
        /// What brokers ask of each other.
        ClusterAction = 9 "cluster-action",
        /// Seeing its configs.
        DescribeConfigs = 10 "describe-configs",
        /// Changing its configs. Includes seeing them.
        AlterConfigs = 11 "alter-configs",
        /// Producing with sequences, to whatever topic.
        IdempotentWrite = 12 "idempotent-write",
        /// Making tokens for others.
        CreateTokens = 13 "create-tokens",
        /// Seeing tokens of others.
        DescribeTokens = 14 "describe-tokens",
        /// Preparing transactions (KIP-939).
        TwoPhaseCommit = 15 "two-phase-commit",
    }
}

kinds! {
    /// Whether a rule gives or takes.
    AclPermission {
        /// Must not, whatever else allows it.
        Deny = 2 "deny",
        /// May.
        Allow = 3 "allow",
    }
}

/// One rule.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AclBinding {
    /// The type of the resource.
    pub resource_type: ResourceType,
    /// Its name, or how its name begins.
    pub name: ByteString,
    /// Which of the two.
    pub pattern: PatternType,
    /// For whom, such as `User:alice`; `User:*` is everybody.
    pub principal: ByteString,
    /// From which address; `*` is every address.
    pub host: ByteString,
    /// What.
    pub operation: AclOperation,
    /// May or must not.
    pub permission: AclPermission,
}

impl fmt::Display for AclBinding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let AclBinding {
            principal,
            host,
            permission,
            operation,
            resource_type,
            ..
        } = self;
        write!(f, "{principal} from {host}: {permission} {operation} on ")?;
        match self.pattern {
            PatternType::Literal => write!(f, "{resource_type} {}", self.name),
            PatternType::Prefixed => write!(f, "{resource_type}s that begin with {}", self.name),
        }
    }
}

/// Which rules are meant; `Default` is all of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AclFilter {
    /// Only those about this type.
    pub resource_type: Option<ResourceType>,
    /// Only those with this name, and how names are compared.
    pub name: Option<(ByteString, PatternFilter)>,
    /// Only those for this principal.
    pub principal: Option<ByteString>,
    /// Only those from this address, `*` meaning the rules from every address.
    pub host: Option<ByteString>,
    /// Only those about this operation.
    pub operation: Option<AclOperation>,
    /// Only those that give, or that take.
    pub permission: Option<AclPermission>,
}

impl From<&AclBinding> for AclFilter {
    /// The filter that finds exactly this rule.
    fn from(rule: &AclBinding) -> Self {
        let pattern = match rule.pattern {
            PatternType::Literal => PatternFilter::Literal,
            PatternType::Prefixed => PatternFilter::Prefixed,
        };
        AclFilter {
            resource_type: Some(rule.resource_type),
            name: Some((rule.name.clone(), pattern)),
            principal: Some(rule.principal.clone()),
            host: Some(rule.host.clone()),
            operation: Some(rule.operation),
            permission: Some(rule.permission),
        }
    }
}

impl Admin {
    /// The rules that `filter` finds.
    ///
    /// # Errors
    /// [`ClientError`] when the cluster refuses or no broker answers within `api_timeout`.
    pub async fn describe_acls(&self, filter: &AclFilter) -> Result<Vec<AclBinding>, ClientError> {
        const API: ApiKey = ApiKey::DescribeAcls;
        let (name, pattern) = name_filter(filter);
        let request = DescribeAclsRequest {
            resource_type_filter: filter.resource_type.map_or(ANY, ResourceType::code),
            resource_name_filter: name,
            pattern_type_filter: pattern,
            principal_filter: filter.principal.clone(),
            host_filter: filter.host.clone(),
            operation: filter.operation.map_or(ANY, AclOperation::code),
            permission_type: filter.permission.map_or(ANY, AclPermission::code),
        };
        let response = self.ask_any(request).await?;
        ClientError::check(API, response.error_code, "access rules", response.error_message)?;
        let mut rules = Vec::new();
        for resource in response.resources {
            for acl in resource.acls {
                let coded = CodedRule {
                    resource_type: resource.resource_type,
                    name: resource.resource_name.clone(),
                    pattern: resource.pattern_type,
                    principal: acl.principal,
                    host: acl.host,
                    operation: acl.operation,
                    permission: acl.permission_type,
                };
                rules.push(coded.read(API)?);
            }
        }
        rules.sort();
        Ok(rules)
    }

    /// Makes rules; one that is there already is no error. Answers in the order of `rules`.
    ///
    /// # Errors
    /// [`ClientError`] when no answer came within `api_timeout`.
    pub async fn create_acls(
        &self,
        rules: impl IntoIterator<Item = AclBinding>,
    ) -> Result<Vec<(AclBinding, Result<(), ClientError>)>, ClientError> {
        const API: ApiKey = ApiKey::CreateAcls;
        let rules: Vec<AclBinding> = rules.into_iter().collect();
        let creation = |rule: &AclBinding| AclCreation {
            resource_type: rule.resource_type.code(),
            resource_name: rule.name.clone(),
            resource_pattern_type: rule.pattern.code(),
            principal: rule.principal.clone(),
            host: rule.host.clone(),
            operation: rule.operation.code(),
            permission_type: rule.permission.code(),
        };
        let request = CreateAclsRequest {
            creations: rules.iter().map(creation).collect(),
        };
        let codes = |r: &CreateAclsResponse| r.results.iter().map(|result| result.error_code).collect();
        let response = self.ask_controller(|_| request.clone(), codes).await?;
        all_answered(API, rules.len(), response.results.len())?;
        let answers = rules.into_iter().zip(response.results).map(|(rule, result)| {
            let resource = format!("the rule {rule}");
            let answer = ClientError::check(API, result.error_code, resource, result.error_message);
            (rule, answer)
        });
        Ok(answers.collect())
    }

    /// Removes the rules that the filters find; answers with them, in the order of `filters`.
    ///
    /// # Errors
    /// [`ClientError`] when no answer came within `api_timeout`.
    pub async fn delete_acls(
        &self,
        filters: impl IntoIterator<Item = AclFilter>,
    ) -> Result<Vec<Result<Vec<AclBinding>, ClientError>>, ClientError> {
        const API: ApiKey = ApiKey::DeleteAcls;
        let coded = |filter: AclFilter| {
            let (resource_name_filter, pattern_type_filter) = name_filter(&filter);
            DeleteAclsFilter {
                resource_type_filter: filter.resource_type.map_or(ANY, ResourceType::code),
                resource_name_filter,
                pattern_type_filter,
                principal_filter: filter.principal,
                host_filter: filter.host,
                operation: filter.operation.map_or(ANY, AclOperation::code),
                permission_type: filter.permission.map_or(ANY, AclPermission::code),
            }
        };
        let filters: Vec<DeleteAclsFilter> = filters.into_iter().map(coded).collect();
        let count = filters.len();
        let request = DeleteAclsRequest { filters };
        let codes =
            |r: &DeleteAclsResponse| r.filter_results.iter().map(|result| result.error_code).collect();
        let response = self.ask_controller(|_| request.clone(), codes).await?;
        all_answered(API, count, response.filter_results.len())?;
        let answers = response.filter_results.into_iter().map(|result| {
            ClientError::check(API, result.error_code, "access rules", result.error_message)?;
            result.matching_acls.into_iter().map(removed).collect()
        });
        Ok(answers.collect())
    }
}

fn name_filter(filter: &AclFilter) -> (Option<ByteString>, i8) {
    match &filter.name {
        Some((name, pattern)) => (Some(name.clone()), pattern.code()),
        None => (None, PatternFilter::Any.code()),
    }
}

fn all_answered(api: ApiKey, asked: usize, answered: usize) -> Result<(), ClientError> {
    if asked == answered {
        return Ok(());
    }
    let missing = format!("one answer for each of {asked}, there are {answered}");
    Err(ClientError::IncompleteResponse { api, missing })
}

fn removed(acl: DeleteAclsMatchingAcl) -> Result<AclBinding, ClientError> {
    const API: ApiKey = ApiKey::DeleteAcls;
    let (code, message) = (acl.error_code, acl.error_message);
    let rule = CodedRule {
        resource_type: acl.resource_type,
        name: acl.resource_name,
        pattern: acl.pattern_type,
        principal: acl.principal,
        host: acl.host,
        operation: acl.operation,
        permission: acl.permission_type,
    };
    let rule = rule.read(API);
    if code != ErrorCode::None.code() {
        let resource = rule.map_or_else(|_| "a rule".to_owned(), |rule| format!("the rule {rule}"));
        ClientError::check(API, code, resource, message)?;
        return Err(ClientError::IncompleteResponse {
            api: API,
            missing: "what became of a rule".to_owned(),
        });
    }
    rule
}

/// A rule as answers have it.
struct CodedRule {
    resource_type: i8,
    name: ByteString,
    pattern: i8,
    principal: ByteString,
    host: ByteString,
    operation: i8,
    permission: i8,
}

impl CodedRule {
    fn read(self, api: ApiKey) -> Result<AclBinding, ClientError> {
        let unknown = |what: &str, code: i8| ClientError::IncompleteResponse {
            api,
            missing: format!(
                "words for {what} {code} of a rule on {}; use a newer client to see and change such rules",
                self.name
            ),
        };
        let resource_type = of_code(ResourceType::ALL, ResourceType::code, self.resource_type)
            .ok_or_else(|| unknown("resource type", self.resource_type))?;
        let pattern = of_code(PatternType::ALL, PatternType::code, self.pattern)
            .ok_or_else(|| unknown("pattern type", self.pattern))?;
        let operation = of_code(AclOperation::ALL, AclOperation::code, self.operation)
            .ok_or_else(|| unknown("operation", self.operation))?;
        let permission = of_code(AclPermission::ALL, AclPermission::code, self.permission)
            .ok_or_else(|| unknown("permission", self.permission))?;
        Ok(AclBinding {
            resource_type,
            pattern,
            operation,
            permission,
            name: self.name,
            principal: self.principal,
            host: self.host,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_as_kafkas_tools_write_them_and_others_are_refused_with_the_list() {
        for word in ["describe-configs", "DescribeConfigs", "DESCRIBE_CONFIGS"] {
            assert_eq!(word.parse(), Ok(AclOperation::DescribeConfigs));
        }
        for kind in AclOperation::ALL {
            assert_eq!(
                of_code(AclOperation::ALL, AclOperation::code, kind.code()),
                Some(*kind)
            );
            assert_eq!(kind.word().parse(), Ok(*kind));
        }
        let refused = "reed"
            .parse::<AclOperation>()
            .expect_err("no such word")
            .to_string();
        assert!(
            refused.starts_with("`reed` is none of all, read, write"),
            "{refused}"
        );
    }

    #[test]
    fn a_rule_that_cannot_be_read_is_not_left_out() {
        let rule = CodedRule {
            resource_type: 2,
            name: "prices".into(),
            pattern: 3,
            principal: "User:alice".into(),
            host: "*".into(),
            operation: 99,
            permission: 3,
        };
        let error = rule.read(ApiKey::DescribeAcls).expect_err("unknown").to_string();
        assert!(error.contains("operation 99 of a rule on prices"), "{error}");
    }
}
