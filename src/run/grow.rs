//! Hosts and groups that come while a run goes on (`add_host`, `group_by`).

use serde_json::{Map, Value};

use crate::failure::{Failure, Kind};
use crate::inventory::Inventory;
use crate::name::{BadName, GroupName, HostName};

fn wrong(error: BadName) -> Failure {
    Failure::new(Kind::Failed, error.to_string())
}

fn groups(names: &[String]) -> Result<Vec<GroupName>, Failure> {
    names.iter().map(|name| name.parse().map_err(wrong)).collect()
}

/// Puts a host into the inventory. True when anything changed.
///
/// # Errors
/// [`Kind::Failed`] for a name that is none; the inventory's own.
pub(super) fn add_host(
    inventory: &mut Inventory,
    name: &str,
    into: &[String],
    vars: &Map<String, Value>,
) -> Result<bool, Failure> {
    let name: HostName = name.parse().map_err(wrong)?;
    inventory.add_host(&name, &groups(into)?, vars)
}

/// Puts a host into a group. True when anything changed.
///
/// # Errors
/// [`Kind::Failed`] for a name that is none; the inventory's own.
pub(super) fn add_to_group(
    inventory: &mut Inventory,
    host: &str,
    key: &str,
    parents: &[String],
) -> Result<bool, Failure> {
    let host: HostName = host.parse().map_err(wrong)?;
    let key: GroupName = key.parse().map_err(wrong)?;
    inventory.group_host(&host, &key, &groups(parents)?)
}
