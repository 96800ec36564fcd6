//! `highwater acl`: access rules.

use anyhow::Result;
use clap::{Args, Subcommand};
use highwater_client::Client;
use highwater_client::admin::{
    AclBinding, AclFilter, AclOperation, AclPermission, PatternFilter, PatternType, ResourceType,
};
use highwater_types::ByteString;
use serde_json::{Value, json};

use crate::output::{Output, line};

/// The name of the one cluster there is.
const CLUSTER_NAME: &str = "kafka-cluster";

/// What to do with access rules.
#[derive(Debug, Subcommand)]
pub(crate) enum AclCommand {
    /// List rules: all of them, or those that apply to what is named.
    List(ListArgs),
    /// Allow or deny something. A rule that is there already is left as it is.
    #[command(after_help = "\
Examples:
  highwater acl add --principal alice --allow read --topic prices --group dashboards
  highwater acl add --principal bob --allow write,create --topic sensors- --prefixed
  highwater acl add --principal '*' --deny all --topic secrets --host 192.0.2.7

Reading, writing, deleting and altering include describing. A consumer needs read on its topics and on its group, a
producer write on its topics. Rules count only on nodes that have an authorizer: see authorizer.class.name in the node's
configuration.")]
    Add(AddArgs),
    /// Remove rules, and print those that were removed.
    #[command(after_help = "\
Examples:
  highwater acl remove --principal alice --topic prices
  highwater acl remove --principal alice               all rules of alice
  highwater acl remove --topic sensors- --prefixed     all rules on topics that begin with sensors-

A rule is removed if it fits everything that is said. Names are taken as they stand: --topic prices leaves rules on '*'
and on prefixes alone.")]
    Remove(RemoveArgs),
}

/// Resources by type and name.
#[derive(Debug, Args)]
pub(crate) struct Resources {
    /// A topic, or `*` for all; may be given several times.
    #[arg(long, value_name = "NAME")]
    topic: Vec<String>,
    /// A consumer group, or `*` for all; may be given several times.
    #[arg(long, value_name = "NAME")]
    group: Vec<String>,
    /// A transactional id, or `*` for all; may be given several times.
    #[arg(long, value_name = "ID")]
    transactional_id: Vec<String>,
    /// The cluster itself.
    #[arg(long)]
    cluster: bool,
    /// The owner of delegation tokens; may be given several times.
    #[arg(long, value_name = "PRINCIPAL")]
    user: Vec<String>,
    /// A delegation token; may be given several times.
    #[arg(long, value_name = "ID")]
    delegation_token: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    resources: Resources,
    /// Only rules for this principal, such as User:alice; without a type it is a user.
    #[arg(long, value_parser = principal)]
    principal: Option<String>,
}

#[derive(Debug, Args)]
#[command(group(clap::ArgGroup::new("what").required(true).args(["allow", "deny"])))]
#[command(group(clap::ArgGroup::new("resource").required(true).multiple(true)
    .args(["topic", "group", "transactional_id", "cluster", "user", "delegation_token"])))]
pub(crate) struct AddArgs {
    #[command(flatten)]
    resources: Resources,
    /// For whom, such as User:alice; without a type it is a user. `*` is everybody. May be given several times.
    #[arg(long, required = true, value_parser = principal)]
    principal: Vec<String>,
    /// Operations to allow, separated by commas: all, read, write, create, delete, alter, describe, describe-configs,
    /// alter-configs, cluster-action, idempotent-write, create-tokens, describe-tokens, two-phase-commit.
    #[arg(long, value_delimiter = ',', value_name = "OPERATIONS")]
    allow: Vec<AclOperation>,
    /// Operations to deny, whatever else allows them.
    #[arg(long, value_delimiter = ',', value_name = "OPERATIONS")]
    deny: Vec<AclOperation>,
    /// The address they connect from.
    #[arg(long, default_value = "*", value_name = "ADDRESS")]
    host: Vec<String>,
    /// Names are what names of resources begin with.
    #[arg(long)]
    prefixed: bool,
}

#[derive(Debug, Args)]
#[command(group(clap::ArgGroup::new("some").required(true).multiple(true)
    .args(["principal", "topic", "group", "transactional_id", "cluster", "user", "delegation_token", "everything"])))]
pub(crate) struct RemoveArgs {
    #[command(flatten)]
    resources: Resources,
    /// Only rules for this principal, such as User:alice; without a type it is a user.
    #[arg(long, value_parser = principal)]
    principal: Option<String>,
    /// Only rules about this operation.
    #[arg(long)]
    operation: Option<AclOperation>,
    /// Only rules that `allow`, or only rules that `deny`.
    #[arg(long)]
    permission: Option<AclPermission>,
    /// Only rules about this address.
    #[arg(long, value_name = "ADDRESS")]
    host: Option<String>,
    /// Names are those of rules about prefixes.
    #[arg(long)]
    prefixed: bool,
    /// Remove all rules there are.
    #[arg(long = "all-rules", id = "everything", conflicts_with_all = ["principal", "topic", "group", "transactional_id", "cluster", "user", "delegation_token"])]
    everything: bool,
}

/// A principal; most are users.
fn principal(text: &str) -> Result<String, String> {
    match text {
        "" => Err("name somebody, such as User:alice".to_owned()),
        typed if typed.contains(':') => Ok(typed.to_owned()),
        user => Ok(format!("User:{user}")),
    }
}

impl Resources {
    fn named(self) -> Vec<(ResourceType, ByteString)> {
        let Resources {
            topic,
            group,
            transactional_id,
            cluster,
            user,
            delegation_token,
        } = self;
        let of =
            |kind: ResourceType, names: Vec<String>| names.into_iter().map(move |name| (kind, name.into()));
        let users = user
            .into_iter()
            .map(|user| principal(&user).unwrap_or(user))
            .collect();
        let cluster = cluster.then(|| CLUSTER_NAME.to_owned()).into_iter().collect();
        of(ResourceType::Topic, topic)
            .chain(of(ResourceType::Group, group))
            .chain(of(ResourceType::TransactionalId, transactional_id))
            .chain(of(ResourceType::Cluster, cluster))
            .chain(of(ResourceType::User, users))
            .chain(of(ResourceType::DelegationToken, delegation_token))
            .collect()
    }

    /// One filter for each resource, or one for all if none is named.
    fn filters(self, all: AclFilter, pattern: PatternFilter) -> Vec<AclFilter> {
        let named = self.named();
        if named.is_empty() {
            return vec![all];
        }
        let of = |(kind, name)| AclFilter {
            resource_type: Some(kind),
            name: Some((name, pattern)),
            ..all.clone()
        };
        named.into_iter().map(of).collect()
    }
}

pub(crate) async fn run(command: AclCommand, client: &Client, output: &Output) -> Result<()> {
    match command {
        AclCommand::List(args) => list(args, client, output).await,
        AclCommand::Add(args) => add(args, client, output).await,
        AclCommand::Remove(args) => remove(args, client, output).await,
    }
}

async fn list(args: ListArgs, client: &Client, output: &Output) -> Result<()> {
    let all = AclFilter {
        principal: args.principal.map(Into::into),
        ..AclFilter::default()
    };
    let admin = client.admin();
    let mut rules = Vec::new();
    for filter in args.resources.filters(all, PatternFilter::Match) {
        rules.extend(admin.describe_acls(&filter).await?);
    }
    rules.sort();
    rules.dedup();
    let row = |rule: &AclBinding| {
        vec![
            json!(&*rule.principal),
            json!(&*rule.host),
            json!(rule.permission.word()),
            json!(rule.operation.word()),
            json!(rule.resource_type.word()),
            json!(&*rule.name),
            json!(rule.pattern.word()),
        ]
    };
    let headings = [
        "principal",
        "host",
        "permission",
        "operation",
        "resource",
        "name",
        "pattern",
    ];
    output.rows(&headings, rules.iter().map(row).collect())
}

async fn add(args: AddArgs, client: &Client, output: &Output) -> Result<()> {
    let (permission, operations) = match args.allow.is_empty() {
        false => (AclPermission::Allow, args.allow),
        true => (AclPermission::Deny, args.deny),
    };
    let mut rules = Vec::new();
    for (resource_type, name) in args.resources.named() {
        for principal in &args.principal {
            for host in &args.host {
                rules.extend(operations.iter().map(|operation| AclBinding {
                    resource_type,
                    name: name.clone(),
                    pattern: match args.prefixed && resource_type != ResourceType::Cluster {
                        true => PatternType::Prefixed,
                        false => PatternType::Literal,
                    },
                    principal: principal.as_str().into(),
                    host: host.as_str().into(),
                    operation: *operation,
                    permission,
                }));
            }
        }
    }
    let mut refused = None;
    for (rule, answer) in client.admin().create_acls(rules).await? {
        match answer {
            Ok(()) => output.done(&format!("added {rule}"), facts(&rule, "added"))?,
            // The others have been made: they are told before the command fails.
            Err(error) => refused = refused.or(Some(error)),
        }
    }
    refused.map_or(Ok(()), |error| Err(error.into()))
}

async fn remove(args: RemoveArgs, client: &Client, output: &Output) -> Result<()> {
    let all = AclFilter {
        principal: args.principal.map(Into::into),
        host: args.host.map(Into::into),
        operation: args.operation,
        permission: args.permission,
        ..AclFilter::default()
    };
    let pattern = match args.prefixed {
        true => PatternFilter::Prefixed,
        false => PatternFilter::Literal,
    };
    let filters = args.resources.filters(all, pattern);
    let mut is_any = false;
    let mut refused = None;
    for answer in client.admin().delete_acls(filters).await? {
        match answer {
            Ok(rules) => {
                for rule in rules {
                    is_any = true;
                    output.done(&format!("removed {rule}"), facts(&rule, "removed"))?;
                }
            }
            Err(error) => refused = refused.or(Some(error)),
        }
    }
    if let Some(error) = refused {
        return Err(error.into());
    }
    if !is_any && !output.is_json() {
        line("nothing removed: no rule fits; `highwater acl list` shows those there are")?;
    }
    Ok(())
}

fn facts(rule: &AclBinding, what: &str) -> Value {
    json!({
        "principal": &*rule.principal,
        "host": &*rule.host,
        "permission": rule.permission.word(),
        "operation": rule.operation.word(),
        "resource": rule.resource_type.word(),
        "name": &*rule.name,
        "pattern": rule.pattern.word(),
        what: true,
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(subcommand)]
        command: AclCommand,
    }

    fn parse(line: &str) -> Result<AclCommand, String> {
        let words = std::iter::once("acl").chain(line.split_whitespace());
        Line::try_parse_from(words)
            .map(|line| line.command)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn a_name_without_a_type_is_a_user() {
        assert_eq!(principal("alice"), Ok("User:alice".to_owned()));
        assert_eq!(principal("*"), Ok("User:*".to_owned()));
        assert_eq!(principal("User:CN=a,O=b"), Ok("User:CN=a,O=b".to_owned()));
        principal("").unwrap_err();
    }

    #[test]
    fn what_would_do_nothing_or_everything_by_mistake_is_refused() {
        parse("add --principal alice --allow read,describe --topic t --topic u --group g").unwrap();
        for line in [
            "add --principal alice --topic t",
            "add --principal alice --allow read",
            "add --allow read --topic t",
            "add --principal alice --allow read --deny write --topic t",
            "add --principal alice --allow reed --topic t",
            "remove",
            "remove --operation read",
            "remove --all-rules --topic t",
        ] {
            parse(line).expect_err(line);
        }
        parse("remove --all-rules").unwrap();
        parse("remove --principal alice --operation read").unwrap();
    }
}
