"""Which of Alibaba Cloud's gateways is asked, and as which workspace."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from modelhub.providers.endpoint import Endpoint, Site, resolve_endpoint

__all__ = ["Account", "find_endpoint"]

_SITE = Site(
    "",  # it depends on the account
    ("aliyuncs.com",),
    ("DASHSCOPE_API_KEY",),
    ("DASHSCOPE_BASE_URL", "DASHSCOPE_HTTP_BASE_URL"),
)
_HOSTS = {"cn-beijing": "dashscope.aliyuncs.com", "cn-hongkong": "cn-hongkong.dashscope.aliyuncs.com"}
_INTERNATIONAL_HOST = "dashscope-intl.aliyuncs.com"


class Account(NamedTuple):
    """The region, and the workspace, if one is named."""

    region: str
    workspace: str | None

    @property
    def address(self) -> str:
        """The address of the gateway, as the SDK has it."""
        if self.workspace:
            return f"https://{self.workspace}.{self.region}.maas.aliyuncs.com/api/v1"
        return f"https://{_HOSTS.get(self.region, _INTERNATIONAL_HOST)}/api/v1"


def find_endpoint(
    base_url: str | None, api_key: str | None, client_args: Mapping[str, Any], environ: Mapping[str, str]
) -> tuple[Endpoint, Account]:
    """Return the endpoint and the account that these settings and *environ* mean.

    The environment's region and workspace go with its key, as its address does.
    """
    address = str(base_url or client_args.get("base_url") or "")
    endpoint = resolve_endpoint(environ, _SITE, address=address, api_key=api_key)
    defaults = environ if endpoint.from_environment else {}
    account = Account(
        client_args.get("region") or defaults.get("DASHSCOPE_REGION") or "cn-beijing",
        client_args.get("workspace") or defaults.get("DASHSCOPE_WORKSPACE") or None,
    )
    return (endpoint if endpoint.address else replace(endpoint, address=account.address)), account
