"""What ansible-core makes of inventories and patterns, for many at once: starting it takes most of the time.

Reads a list of {"sources": [...], "patterns": [...], "limits": [...]} as JSON, prints a list of what was made of each.
"""
import json
import os
import sys

os.environ["ANSIBLE_DEPRECATION_WARNINGS"] = "false"
os.environ["ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED"] = "true"

from ansible.errors import AnsibleError
from ansible.inventory.manager import InventoryManager
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.loader import init_plugin_loader
from ansible.vars.manager import VariableManager

INTERNAL = {
    "inventory_dir", "inventory_file", "inventory_hostname", "inventory_hostname_short", "group_names", "groups",
    "omit", "playbook_dir", "ansible_playbook_python", "ansible_config_file", "ansible_version", "ansible_facts",
}


def plain(value):
    if isinstance(value, dict):
        return {key if isinstance(key, str) else json.dumps(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set)):
        return [plain(item) for item in value]
    if value is None or isinstance(value, (bool, int, float)):
        return value
    return str(value)


def one(case):
    try:
        return read(case)
    except Exception as error:
        return {"error": str(error)}


def read(case):
    loader = DataLoader()
    inventory = InventoryManager(loader=loader, sources=case["sources"])
    variables = VariableManager(loader=loader, inventory=inventory)
    out = {"hosts": {}, "groups": {}, "patterns": []}
    for name, host in inventory.hosts.items():
        own = variables.get_vars(host=host, include_hostvars=False, stage="all")
        out["hosts"][name] = {
            "vars": {key: plain(value) for key, value in own.items() if key not in INTERNAL},
            "groups": sorted(group.name for group in host.get_groups()),
        }
    for name, group in inventory.groups.items():
        out["groups"][name] = {
            "hosts": [host.name for host in group.hosts],
            "children": [child.name for child in group.child_groups],
            "all": sorted(host.name for host in group.get_hosts()),
        }
    for pattern in case.get("patterns", []):
        try:
            out["patterns"].append([host.name for host in inventory.get_hosts(pattern)])
        except AnsibleError as error:
            out["patterns"].append({"error": str(error)})
    for limit in case.get("limits", []):
        try:
            inventory.subset(limit)
            out["patterns"].append([host.name for host in inventory.get_hosts("all")])
        except AnsibleError as error:
            out["patterns"].append({"error": str(error)})
        inventory.subset(None)
    return out


init_plugin_loader()
json.dump([one(case) for case in json.load(sys.stdin)], sys.stdout)
