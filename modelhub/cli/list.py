"""`modelhub list`: the names of models and chains."""

from __future__ import annotations

from modelhub.cli.options import AsJson, ConfigFile, Profile, load_config
from modelhub.cli.output import align_columns, print_json, print_lines
from modelhub.cli.report import report_errors

__all__ = ["list_names"]


def list_names(as_json: AsJson = False, file: ConfigFile = None, profile: Profile = None) -> None:
    """List the models and chains.

    One line for each: its name, provider and vendor's model name, or for a chain, the order of its models.

    \b
    Examples:
      modelhub list
      modelhub list --json | jq -r '.[].name'
    """
    with report_errors(as_json=as_json):
        from modelhub.cli.model_status import Entry, list_entries

        entries = list(list_entries(load_config(file, profile)))
        if as_json:
            shown = ("name", "kind", "provider", "model_name", "models")
            print_json([{key: entry[key] for key in shown if key in entry} for entry in map(Entry.as_dict, entries)])
        else:
            print_lines(*align_columns([[(entry.name, "bold"), *entry.cells] for entry in entries], indent=0))
