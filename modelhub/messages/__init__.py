"""What a caller may pass: messages, content blocks and tools, in every accepted form.

The names exported here are the neutral form, which providers read.
"""

from modelhub.messages.blocks import (
    Base64Source,
    ContentBlock,
    FileSource,
    MediaBlock,
    MediaKind,
    Message,
    PathSource,
    Role,
    Source,
    TextBlock,
    ThinkingBlock,
    Tool,
    ToolChoice,
    ToolResultBlock,
    ToolUseBlock,
    UrlSource,
)

__all__ = [
    "Base64Source",
    "ContentBlock",
    "FileSource",
    "MediaBlock",
    "MediaKind",
    "Message",
    "PathSource",
    "Role",
    "Source",
    "TextBlock",
    "ThinkingBlock",
    "Tool",
    "ToolChoice",
    "ToolResultBlock",
    "ToolUseBlock",
    "UrlSource",
]
