"""An answer that fits a pydantic model.

Each vendor is asked in the way it knows best; the answer is validated, and one that does not fit is asked for again.
"""

import asyncio
from pathlib import Path

from pydantic import BaseModel

from modelhub import Hub

CONFIG = Path(__file__).with_name("models.yaml")


class Invoice(BaseModel):
    vendor: str
    total: float
    currency: str
    paid: bool


async def main() -> None:
    async with Hub.from_yaml(CONFIG) as hub:
        reply = await hub.get("reader")("Acme asks for 128.50 euros, due on Friday.", structured_model=Invoice)
        invoice = reply.output  # an `Invoice`, as type checkers know
        print(f"{invoice.vendor}: {invoice.total:.2f} {invoice.currency}, {'paid' if invoice.paid else 'open'}")


asyncio.run(main())
