"""Topics of reviews in Parquet files, by two Ray workers that keep to one limit and survive each other.

    REDIS_URL=redis://localhost:6379 python reviews.py reviews/ topics/

A worker that is killed loses nothing: Ray retries its batch, and the journal has what was answered.
"""

import sys

import ray

from modelhub.ray import ChatRows

CONFIG = {
    "version": 1,
    "models": {
        "gpt": {"provider": "openai", "model_name": "gpt-5-mini", "api_key": "${OPENAI_API_KEY}", "limit": "tier"},
        "claude": {"provider": "anthropic", "model_name": "claude-sonnet-5", "api_key": "${ANTHROPIC_API_KEY}"},
    },
    "limits": {"tier": {"requests_per_minute": 500, "tokens_per_minute": 200_000}},
    "chains": {"topics": {"models": ["gpt", "claude"], "deadline": "2m"}},
    "shared": {"url": "${REDIS_URL}"},
}


def main(source: str, target: str) -> None:
    reviews = ray.data.read_parquet(source)
    topics = reviews.map_batches(
        ChatRows,
        fn_constructor_kwargs={
            "name": "topics",
            "config": CONFIG,
            "prompt": "Name the topic of this review in one word: {text}",
            "journal": f"{target.rstrip('/')}.journal",
        },
        concurrency=2,
        batch_size=64,
    )
    topics.write_parquet(target)


if __name__ == "__main__":
    main(*sys.argv[1:])
