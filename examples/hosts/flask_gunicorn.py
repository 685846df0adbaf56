"""Flask under gunicorn: one hub for all threads, made before the workers are forked.

pip install flask gunicorn
gunicorn --preload --workers 2 --threads 8 flask_gunicorn:app
"""

import json
from collections.abc import Iterator
from pathlib import Path

from flask import Flask, Response, jsonify, request

from modelhub import CallError, Hub

hub = Hub.from_yaml(Path(__file__).with_name("models.yaml"))  # every worker has connections of its own
app = Flask(__name__)


@app.errorhandler(CallError)
def explain(error: CallError) -> tuple[Response, int]:
    return jsonify(error=error.kind), 502


@app.get("/ask")
def ask() -> Response:
    with hub.tags(path=request.path), hub.deadline("20s"):
        reply = hub.get("primary").sync(request.args["text"], stream=False)
    return jsonify(text=reply.text, model=reply.model)  # not the reply itself: its attempts are nobody else's business


@app.get("/stream")
def stream() -> Response:
    reply = hub.get("primary").sync(request.args["text"], stream=True)

    def lines() -> Iterator[str]:
        with reply:
            try:
                for snapshot in reply:
                    yield json.dumps({"text": snapshot.text, "done": snapshot.is_last}) + "\n"
            except CallError as error:  # the status has been sent long ago
                yield json.dumps({"error": error.kind, "done": True}) + "\n"

    return Response(lines(), mimetype="application/x-ndjson")
