"""What may go wrong with a call, and what an app does about each: every error says what each model answered."""

import asyncio

from modelhub import AllModelsFailed, CallError, Chain, ContentBlocked, InvalidRequest, ScriptedChatModel


def chain(*failures: str) -> Chain:
    """Return a chain of models that fail with these errors, one after the other."""
    models = [ScriptedChatModel(f"model-{at}", steps=[{"fail": failure}]) for at, failure in enumerate(failures)]
    return Chain("primary", models)


async def ask(primary: Chain, question: str) -> str:
    try:
        return str((await primary(question)).text)
    except InvalidRequest as error:  # our own mistake: no vendor was asked
        return f"wrong for every vendor: {error}"
    except ContentBlocked:  # asking another vendor is for the chain's owner to decide, with `fallback_on`
        return "a model refused the content, and no other was asked"
    except AllModelsFailed as error:
        answers = ", ".join(f"{attempt.model} {attempt.outcome}" for attempt in error.attempts)
        return f"{answers}; act on {type(error.dominant).__name__}"
    except CallError as error:  # the deadline, a budget
        return f"{type(error).__name__} after {len(error.attempts)} attempts"


async def main() -> None:
    print(await ask(chain("RateLimited", "ServerError", "RateLimited"), "Hello"))
    print(await ask(chain("ContentBlocked", "ServerError"), "Hello"))
    print(await ask(chain("ServerError"), ""))


asyncio.run(main())
