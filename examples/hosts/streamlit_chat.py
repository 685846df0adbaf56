"""Streamlit: one hub for all sessions, and an answer that is written while it comes.

streamlit run streamlit_chat.py
"""

from collections.abc import Iterator
from pathlib import Path

import streamlit as st

from modelhub import CallError, ChatResponse, Hub


@st.cache_resource
def open_hub() -> Hub:
    return Hub.from_yaml(Path(__file__).with_name("models.yaml"))


def write_answer(stream: Iterator[ChatResponse]) -> str:
    """Write an answer as it comes. A restart clears what was written: the text before it is void."""
    place = st.empty()
    snapshot = next(stream, None)

    def deltas(restarts: int) -> Iterator[str]:
        nonlocal snapshot
        while snapshot is not None and snapshot.restarts == restarts:
            yield snapshot.delta
            snapshot = next(stream, None)

    text = ""
    while snapshot is not None:
        text = place.container().write_stream(deltas(snapshot.restarts))
    return text


for message in st.session_state.setdefault("messages", []):
    st.chat_message(message["role"]).write(message["content"])

if question := st.chat_input("Ask"):
    messages = [*st.session_state.messages, {"role": "user", "content": question}]
    st.chat_message("user").write(question)
    with st.chat_message("assistant"):
        try:
            with open_hub().get("primary").sync(messages, stream=True) as reply:
                answer = write_answer(reply)
        except CallError as error:
            st.error(f"No answer: {error.kind}")
        else:
            st.session_state.messages = [*messages, {"role": "assistant", "content": answer}]
