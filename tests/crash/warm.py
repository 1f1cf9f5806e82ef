"""Imports what a run needs, so that whoever is forked from here has it; see `forks`."""

import pkgutil
from importlib import import_module

import selfinstruct

LATE = ("anyio", "httpcore2", "jinja2", "numpy", "orjson", "rapidfuzz.distance", "rich.console", "tomli_w", "yaml")
"""What the package imports only when it is needed."""

for module in pkgutil.walk_packages(selfinstruct.__path__, "selfinstruct."):
    if not module.name.endswith(("__main__", "llamacpp_server")):
        import_module(module.name)
for name in LATE:
    import_module(name)
