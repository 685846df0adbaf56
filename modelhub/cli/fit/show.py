"""Print what models make of calls: as tables, or as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from modelhub.cli.output import align_columns, format_count, make_line, print_json, print_lines

if TYPE_CHECKING:
    from modelhub.cli.fit.compare import Fit, MemberFit
    from modelhub.cli.fit.shape import CallShape

__all__ = ["print_fits"]

_STYLES = {"as it is": "green", "spelled": "green", "rounded": "yellow", "dropped": "yellow", "refused": "bold red"}


def print_fits(fits: Sequence[tuple[str, CallShape, list[MemberFit]]], *, as_json: bool) -> None:
    """Print *fits*: the name that is called, the shape of the call, and what each model makes of it."""
    if as_json:
        print_json(
            [
                {"name": name, "call": shape.name, "models": [_as_dict(member) for member in members]}
                for name, shape, members in fits
            ]
        )
        return
    has_names = len({name for name, *_ in fits}) > 1
    for number, (name, shape, members) in enumerate(fits):
        heading = ": ".join(part for part in (name if has_names else "", shape.name) if part)
        print_lines(*([""] if number else []), *([make_line((heading, "bold"))] if heading else []))
        _show(members)


def _show(members: list[MemberFit]) -> None:
    asked = list(dict.fromkeys(key for member in members for key in member.fits))
    header = [("model", "bold"), *((key, "bold") for key in asked)]
    rows = [[(member.model, "bold"), *(_cell(member.fits.get(key)) for key in asked)] for member in members]
    print_lines(*align_columns([header, *rows], indent=0, labels=["", *asked]))
    changes = [
        f"{member.model}: `{key}` is {each.verdict}: {each.detail}"
        for member in members
        for key, each in member.fits.items()
        if each.verdict in ("dropped", "refused")
    ]
    refusing = [member.model for member in members if member.refuses]
    number = format_count(len(members), "model")
    print_lines(
        "",
        *changes,
        f"{number}: {', '.join(refusing)} would refuse the call" if refusing else f"{number}: none refuses",
    )


def _cell(each: Fit | None) -> tuple[str, str]:
    if each is None:
        return "-", "dim"
    return each.detail if each.verdict in ("spelled", "rounded") else each.verdict, _STYLES[each.verdict]


def _as_dict(member: MemberFit) -> dict[str, Any]:
    fits = {key: {"verdict": each.verdict, "detail": each.detail or None} for key, each in member.fits.items()}
    return {"model": member.model, "provider": member.provider, "refuses": member.refuses, "fits": fits}
