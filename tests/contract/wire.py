"""What a request says, read out of each vendor's form: the same for all of them, and back into neutral messages.

`read(kind, body)` is a list of turns, `(role, items)` with the role system, user or assistant; an item is a tuple:
("text", text), ("thinking", text, signature), ("image" | "audio" | "video" | "document", address or data),
("call", id, name, arguments), ("result", id, name, text). Neighbours of one role are one turn. It is written from
the vendors' manuals, and knows nothing of how modelhub writes requests.
"""

import json
import re


def read(kind, body):
    """The turns of *body*, a request to the vendor *kind*."""
    turns = []
    for role, items in _READERS[kind](body):
        items = [item for item in items if item[1:] not in (("",), (None,))]
        if items and turns and turns[-1][0] == role:
            turns[-1][1].extend(items)
        elif items:
            turns.append((role, list(items)))
    return turns


# OpenAI, and DashScope's native form, which is nearly the same


def _openai(body):
    names = {}
    for message in body["messages"]:
        yield from _openai_message(message, names)


def _dashscope(body):
    names = {}
    for message in body["input"]["messages"]:
        yield from _openai_message(message, names)


def _openai_message(message, names):
    role = {"developer": "system", "tool": "user", "function": "user"}.get(message["role"], message["role"])
    content = message.get("content")
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else content or []
    if message["role"] == "tool":
        text = "\n".join(part.get("text", "") for part in parts)
        call_id = message["tool_call_id"]
        yield role, [("result", call_id, names.get(call_id), text)]
        return
    items = []
    if thought := message.get("reasoning_content") or message.get("reasoning"):
        items.append(("thinking", thought, None))
    items += [_openai_part(part) for part in parts]
    if refusal := message.get("refusal"):
        items.append(("text", refusal))
    for call in message.get("tool_calls") or ():
        names[call["id"]] = call["function"]["name"]
        items.append(("call", call["id"], call["function"]["name"], _arguments(call["function"]["arguments"])))
    yield role, items


def _arguments(text):
    try:
        return json.loads(text or "{}")
    except ValueError:
        return text


def _openai_part(part):
    if isinstance(part, str):
        return ("text", part)
    kind = part.get("type") or next(key for key in part if key in ("text", "image", "audio", "video"))
    value = part[kind]
    if kind in ("image_url", "video_url"):
        return (kind.removesuffix("_url"), value["url"] if isinstance(value, dict) else value)
    if kind == "input_audio":
        return ("audio", value["data"])
    if kind == "file":
        return ("document", value["file_data"])
    return ("text" if kind == "refusal" else kind, value)


# OpenAI's Responses


def _openai_responses(body):
    names = {}
    if body.get("instructions"):
        yield "system", [("text", body["instructions"])]
    items = body["input"]
    for item in [{"role": "user", "content": items}] if isinstance(items, str) else items:
        kind = item.get("type", "message")
        if kind == "message":
            role = {"developer": "system"}.get(item["role"], item["role"])
            content = item["content"]
            parts = [{"type": "input_text", "text": content}] if isinstance(content, str) else content
            yield role, [_responses_part(part) for part in parts]
        elif kind == "reasoning":
            texts = [part["text"] for part in [*(item.get("summary") or ()), *(item.get("content") or ())]]
            yield "assistant", [("thinking", "\n\n".join(texts), item.get("encrypted_content"))]
        elif kind in ("function_call", "custom_tool_call"):
            names[item["call_id"]] = item["name"]
            arguments = _arguments(item["arguments"]) if kind == "function_call" else {"input": item["input"]}
            yield "assistant", [("call", item["call_id"], item["name"], arguments)]
        elif kind in ("function_call_output", "custom_tool_call_output"):
            output = item["output"]
            parts = [{"type": "input_text", "text": output}] if isinstance(output, str) else output
            text = "\n".join(part["text"] for part in parts if part["type"] == "input_text")
            yield "user", [("result", item["call_id"], names.get(item["call_id"]), text)]
            yield "user", [_responses_part(part) for part in parts if part["type"] != "input_text"]
        else:
            yield "assistant", [("item", kind)]


def _responses_part(part):
    if part["type"] == "input_image":
        return ("image", part.get("image_url") or part.get("file_id"))
    if part["type"] == "input_file":
        return ("document", part.get("file_data") or part.get("file_url") or part.get("file_id"))
    if part["type"] == "input_audio":
        return ("audio", part["input_audio"]["data"])
    return ("text", part.get("text") or part.get("refusal"))


# Anthropic


def _anthropic(body):
    names, system = {}, body.get("system") or []
    yield "system", [("text", system)] if isinstance(system, str) else [("text", block["text"]) for block in system]
    for message in body["messages"]:
        content = message["content"]
        blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
        names |= {block["id"]: block["name"] for block in blocks if block["type"] == "tool_use"}
        yield message["role"], [_anthropic_block(block, names) for block in blocks]


def _anthropic_block(block, names):
    kind = block["type"]
    if kind == "text":
        return ("text", block["text"])
    if kind == "thinking":
        return ("thinking", block["thinking"], block.get("signature"))
    if kind == "redacted_thinking":
        return ("thinking", "", block["data"])
    if kind == "tool_use":
        return ("call", block["id"], block["name"], block["input"])
    if kind == "tool_result":
        content = block.get("content") or []
        parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
        text = "\n".join(part["text"] for part in parts if part["type"] == "text")
        return ("result", block["tool_use_id"], names.get(block["tool_use_id"]), text)
    source = block["source"]
    data = f"data:{source['media_type']};base64,{source['data']}" if source["type"] == "base64" else source.get("url")
    return (kind, data or source.get("data"))


# Gemini


def _gemini(body):
    system = body.get("systemInstruction") or {"parts": []}
    yield "system", [("text", part["text"]) for part in system["parts"]]
    waiting = []
    for number, content in enumerate(body["contents"]):
        items = []
        for position, part in enumerate(content["parts"]):
            part = {_camel(key): value for key, value in part.items()}
            items.append(_gemini_part(part, f"{number}-{position}", waiting))
        yield {"model": "assistant"}.get(content["role"], "user"), [item for item in items if item is not None]


def _camel(key):
    return re.sub(r"_(.)", lambda match: match[1].upper(), key)


def _gemini_part(part, made, waiting):
    signature = part.get("thoughtSignature")
    if "functionCall" in part:
        call = part["functionCall"]
        call_id = call.get("id") or f"made-{made}"
        waiting.append((call["name"], call_id))
        return ("call", call_id, call["name"], call.get("args") or {}, signature)
    if "functionResponse" in part:
        answer = part["functionResponse"]
        place = next((one for one in waiting if answer["name"] == one[0]), (answer["name"], "?"))
        if place in waiting:
            waiting.remove(place)
        return ("result", place[1], answer["name"], answer["response"])
    if "text" in part:
        kind = "thinking" if part.get("thought") else "text"
        return (kind, part["text"], signature) if kind == "thinking" or signature else (kind, part["text"])
    if "inlineData" in part:
        data = {_camel(key): value for key, value in part["inlineData"].items()}
        kind = data["mimeType"].partition("/")[0]
        return (
            kind if kind in ("image", "audio", "video") else "document",
            f"data:{data['mimeType']};base64,{data['data']}",
        )
    if "fileData" not in part:
        return (next(iter(part)), "")  # the vendor's own tools
    data = {_camel(key): value for key, value in part["fileData"].items()}
    kind, media_type = data.get("mimeType", "document").partition("/")[0], data.get("mimeType")
    return (kind if kind in ("image", "audio", "video") else "document", data["fileUri"], media_type)


# Ollama


def _ollama(body):
    waiting = []
    for number, message in enumerate(body["messages"]):
        role, text = message["role"], message.get("content") or ""
        if role == "tool":
            name = message.get("tool_name") or (waiting[0][0] if waiting else None)
            place = next((one for one in waiting if name == one[0]), (name, "?"))
            if place in waiting:
                waiting.remove(place)
            yield "user", [("result", message.get("tool_call_id") or place[1], name, text)]
            continue
        items = [("thinking", message["thinking"], None)] if message.get("thinking") else []
        items += [("text", text)] if text else []
        items += [("image", image) for image in message.get("images") or ()]
        for position, call in enumerate(message.get("tool_calls") or ()):
            call_id, function = call.get("id") or f"made-{number}-{position}", call["function"]
            waiting.append((function["name"], call_id))
            items.append(("call", call_id, function["name"], function["arguments"]))
        yield role, items


_READERS = {
    "openai": _openai,
    "openai_responses": _openai_responses,
    "anthropic": _anthropic,
    "gemini": _gemini,
    "dashscope": _dashscope,
    "ollama": _ollama,
}


def tools(kind, body):
    """The tools that *body* offers: name to description."""
    if kind == "anthropic":
        found = body.get("tools") or ()
    elif kind == "gemini":
        found = [one for tool in body.get("tools") or () for one in tool.get("functionDeclarations", ())]
    else:
        offered = (body["parameters"] if kind == "dashscope" else body).get("tools") or ()
        found = [tool.get("function", tool) for tool in offered]
    return {tool["name"]: tool.get("description") or "" for tool in found}


# -- and back ----------------------------------------------------------------------------------------------------------


def neutral(kind, body):
    """The messages of *body* as the caller of modelhub would write them."""
    return [_message(kind, role, items) for role, items in read(kind, body)]


def _message(kind, role, items):
    return {"role": role, "content": [_block(kind, item) for item in items]}


def _block(kind, item):
    what = item[0]
    if what == "text":
        signed = {"signature": item[2], "provider": kind} if len(item) > 2 else {}
        return {"type": "text", "text": item[1], **signed}
    if what == "thinking":
        return {
            "type": "thinking",
            "thinking": item[1],
            "provider": kind,
            **({"signature": item[2]} if item[2] else {}),
        }
    if what == "call":
        signed = {"signature": item[4]} if len(item) > 4 and item[4] else {}
        made = {} if item[1].startswith("made-") else {"provider": kind}
        return {
            "type": "tool_use",
            "id": item[1],
            "name": item[2],
            "input": item[3],
            **(signed and {"provider": kind}),
            **made,
            **signed,
        }
    if what == "result":
        failed = {"is_error": True} if isinstance(item[3], dict) and set(item[3]) == {"error"} else {}
        return {"type": "tool_result", "id": item[1], "output": _output(item[3]), **failed}
    match = re.fullmatch(r"data:([^;]+);base64,(.*)", item[1], re.DOTALL)
    if match:
        return {"type": what, "source": {"type": "base64", "media_type": match[1], "data": match[2]}}
    if kind == "ollama":
        return {"type": what, "source": {"type": "base64", "media_type": "image/png", "data": item[1]}}
    told = {"media_type": item[2]} if len(item) > 2 and item[2] else {}
    return {"type": what, "source": {"type": "url", "url": item[1], **told}}


# -- what must be the same ---------------------------------------------------------------------------------------------


def essence(turns):
    """*turns* without what vendors write differently and mean the same.

    The system prompt is one text, wherever it stands; white space does not count; ids become numbers, in the order of
    the calls; thinking, which goes to its own vendor only, is left out.
    """
    system, talk, ids = "", [], {}
    for role, items in turns:
        if role == "system":
            system += "".join(_squeezed(item[1]) for item in items)
            continue
        found = [one for one in (_plain(item, ids) for item in items) if one not in (None, ("text", ""))]
        if found and talk and talk[-1][0] == role:
            talk[-1][1].extend(found)
        elif found:
            talk.append((role, found))
    # Results come first in a turn, in the order of their calls; calls come last.
    return system, [(role, _joined(sorted(items, key=_place))) for role, items in talk]


def _place(item):
    return {"result": 0, "call": 2}.get(item[0], 1), item[1] if item[0] == "result" else 0


def _joined(items):
    """*items* with neighbouring texts as one."""
    found = []
    for item in items:
        if found and item[0] == "text" == found[-1][0]:
            found[-1] = ("text", found[-1][1] + item[1])
        else:
            found.append(item)
    return found


def _squeezed(text):
    return re.sub(r"\s+", "", text)


def _plain(item, ids):
    what = item[0]
    if what == "thinking":
        return None
    if what == "text":
        return ("text", _squeezed(item[1]))
    if what == "call":
        # The latest call of an id is the one that is answered; None counts the calls.
        ids[None] = ids[item[1]] = ids.get(None, -1) + 1
        arguments = item[3]
        if isinstance(arguments, dict) and len(arguments) == 1 and arguments.keys() <= {"INVALID_JSON", "unreadable"}:
            (arguments,) = arguments.values()  # what was no JSON can only be sent as something else
        return ("call", ids[item[1]], item[2], arguments)
    if what == "result":
        return ("result", ids.get(item[1], "?"), _squeezed(_output(item[3])))
    return (what, re.sub(r"^data:[^,]*,", "", item[1]))


def _output(value):
    if isinstance(value, str):
        return value
    if set(value) == {"output"} or set(value) == {"error"}:
        (value,) = value.values()
        return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return json.dumps(value, ensure_ascii=False)
