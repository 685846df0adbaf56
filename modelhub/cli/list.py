"""`modelhub list`: the names of models and chains."""

from __future__ import annotations

from modelhub.cli.options import AsJson, ConfigFile, Profile
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
        from modelhub.cli.model_status import list_entries
        from modelhub.config.load import load_file
        from modelhub.hub import find_config_file

        entries = list(list_entries(load_file(find_config_file(file), profile=profile, runs_commands=False)))
        if as_json:
            print_json(
                [
                    {
                        key: value
                        for key, value in entry.as_dict().items()
                        if key not in {"missing", "missing_keys", "call_key", "unchecked"}
                    }
                    for entry in entries
                ]
            )
        else:
            print_lines(*align_columns([[(entry.name, "bold"), *entry.cells] for entry in entries], indent=0))
