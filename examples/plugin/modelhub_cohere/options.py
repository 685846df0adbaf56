"""What the file says of a model of the provider `cohere`."""

from typing import ClassVar, Literal

from modelhub.providers import ProviderOptions, Secret
from modelhub_cohere.provider import SITE, CohereChatModel


class CohereOptions(ProviderOptions):
    """A model of Cohere's platform."""

    provider: Literal["cohere"] = "cohere"
    """Cohere's chat API."""
    api_key: Secret | None = None
    """The API key; if not given, CO_API_KEY, which is sent to Cohere's own address only."""
    base_url: str | None = None
    """Another address than https://api.cohere.com."""

    key_variables: ClassVar[tuple[str, ...]] = SITE.key_variables

    def connect(self) -> CohereChatModel:
        """Return the model. Opens nothing."""
        return CohereChatModel(**self.arguments())
