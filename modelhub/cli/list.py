"""`modelhub list`: the names a file has."""

from __future__ import annotations

from modelhub.cli.options import AsJson, ConfigFile
from modelhub.cli.output import columns, print_json, say
from modelhub.cli.report import reported

__all__ = ["list_names"]


def list_names(as_json: AsJson = False, file: ConfigFile = None) -> None:
    """List the models and chains.

    One a line: its name, its provider, the vendor's name of the model; of a chain, the order of its models.

    \b
    Examples:
      modelhub list
      modelhub list --json | jq -r '.[].name'
    """
    with reported(as_json=as_json):
        from modelhub.cli.model_status import entries
        from modelhub.config.load import load_file
        from modelhub.hub import find_config_file

        found = list(entries(load_file(find_config_file(file))))
        if as_json:
            print_json([{key: value for key, value in entry.as_dict().items() if key != "missing"} for entry in found])
        else:
            say(*columns([[(entry.name, "bold"), *entry.what] for entry in found], indent=0))
