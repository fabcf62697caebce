# Runs one lookup plugin of the operator's: what it is given comes on standard input as JSON, what it gives leaves as JSON.
import importlib.util
import json
import sys
import types


class AnsibleError(Exception):
    pass


class LookupBase:
    def __init__(self, loader=None, templar=None, **kwargs):
        self._loader, self._templar, self._options = loader, templar, {}

    def set_options(self, task_keys=None, var_options=None, direct=None):
        self._options = dict(direct or {})

    def get_option(self, option, hostvars=None):
        return self._options.get(option)


class Display:
    def __getattr__(self, name):
        return lambda *args, **kwargs: None


def module(name, **names):
    made = types.ModuleType(name)
    made.__path__ = []
    made.__dict__.update(names)
    sys.modules[name] = made


def text(value, *args, **kwargs):
    return value.decode() if isinstance(value, bytes) else str(value)


module("ansible")
module("ansible.plugins")
module("ansible.plugins.lookup", LookupBase=LookupBase)
module("ansible.errors", AnsibleError=AnsibleError, AnsibleLookupError=AnsibleError, AnsibleOptionsError=AnsibleError)
module("ansible.utils")
module("ansible.utils.display", Display=Display)
module("ansible.module_utils")
module("ansible.module_utils.common")
module("ansible.module_utils.common.text")
module("ansible.module_utils.common.text.converters", to_text=text, to_native=text)

given = json.load(sys.stdin)
spec = importlib.util.spec_from_file_location("plugin", given["path"])
plugin = importlib.util.module_from_spec(spec)
try:
    spec.loader.exec_module(plugin)
    out = plugin.LookupModule().run(given["terms"], variables=given["variables"], **given["options"])
    json.dump({"out": out}, sys.stdout)
except Exception as error:
    json.dump({"error": str(error) or type(error).__name__}, sys.stdout)
