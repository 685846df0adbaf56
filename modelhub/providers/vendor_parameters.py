"""The vendors' own names of parameters: by them it is known whose a name is that the called model does not know.

A name that is another vendor's is left out for a model; a name that stands in no list is sent as it is. The lists are
those of the official SDKs' request types.
"""

from __future__ import annotations

from typing import Final

__all__ = ["VENDOR_PARAMETERS", "owner_of"]


def _names(*lines: str) -> frozenset[str]:
    return frozenset(name for line in lines for name in line.split())


VENDOR_PARAMETERS: Final[dict[str, frozenset[str]]] = {
    "openai": _names(
        "audio frequency_penalty function_call functions logit_bias logprobs max_completion_tokens max_tokens metadata",
        "modalities moderation n parallel_tool_calls prediction presence_penalty prompt_cache_key prompt_cache_options",
        "prompt_cache_retention reasoning_effort response_format safety_identifier seed service_tier stop store",
        "stream_options temperature tool_choice tools top_logprobs top_p user verbosity web_search_options",
        # of the SDK, for any request
        "extra_body extra_headers extra_query timeout",
    ),
    "responses": _names(
        "background context_management conversation include instructions max_output_tokens max_tool_calls",
        "previous_response_id prompt reasoning text truncation",
    ),
    "anthropic": _names(
        "betas cache_control container context_management diagnostics inference_geo max_tokens mcp_servers metadata",
        "output_config output_format service_tier speed stop_sequences system temperature thinking tool_choice tools",
        "top_k top_p user_profile_id workspace_id extra_body extra_headers extra_query timeout",
    ),
    "gemini": _names(
        "audio_timestamp audio_transcription_config automatic_continuation automatic_function_calling cached_content",
        "candidate_count continuation_token enable_enhanced_civic_answers frequency_penalty generation_output_config",
        "http_options image_config labels logprobs max_output_tokens media_resolution model_armor_config",
        "model_selection_config presence_penalty response_json_schema response_logprobs response_mime_type",
        "response_modalities response_schema routing_config safety_settings seed service_tier",
        "should_return_http_response speech_config stop_sequences store system_instruction temperature thinking_config",
        "tool_config tools top_k top_p generation_config",
    ),
    "dashscope": _names(
        "enable_code_interpreter enable_search enable_thinking incremental_output logprobs max_input_tokens max_tokens",
        "n ocr_options parallel_tool_calls presence_penalty repetition_penalty response_format result_format",
        "search_options seed stop temperature thinking_budget tool_choice tools top_k top_logprobs top_p",
        "translation_options vl_enable_image_hw_output vl_high_resolution_images",
    ),
    "ollama": _names(
        "enable_thinking format keep_alive logprobs options shift think top_logprobs truncate",
        # `options`
        "draft_num_predict embedding_only f16_kv frequency_penalty logits_all low_vram main_gpu min_p mirostat",
        "mirostat_eta mirostat_tau num_batch num_ctx num_gpu num_keep num_predict num_thread numa penalize_newline",
        "presence_penalty repeat_last_n repeat_penalty seed stop temperature tfs_z top_k top_p typical_p use_mlock",
        "use_mmap vocab_only",
    ),
    "compatible": _names(
        # of servers that speak like OpenAI: vLLM, SGLang, llama.cpp, LM Studio
        "add_generation_prompt allowed_token_ids bad_words best_of chat_template chat_template_kwargs",
        "continue_final_message documents dry_multiplier dynatemp_range early_stopping echo grammar guided_choice",
        "guided_grammar guided_json guided_regex id_slot ignore_eos include_stop_str_in_output json_schema",
        "length_penalty min_keep min_p min_tokens mirostat mm_processor_kwargs n_predict n_probs priority",
        "prompt_logprobs regex repetition_penalty repeat_penalty repeat_last_n samplers separate_reasoning",
        "skip_special_tokens spaces_between_special_tokens stop_token_ids structured_outputs stream_reasoning top_a",
        "top_k top_n_sigma truncate_prompt_tokens ttl typical_p use_beam_search vllm_xargs xtc_probability",
        # of OpenRouter, DeepSeek, Moonshot, Z.ai, DashScope's compatible mode, Groq, xAI, Mistral, Perplexity, Together
        "models plugins preset provider reasoning route transforms usage web_search thinking do_sample request_id",
        "tool_stream enable_thinking thinking_budget enable_search search_options vl_high_resolution_images",
        "translation_options compound_custom disable_tool_validation include_reasoning reasoning_format deferred",
        "search_parameters prompt_mode random_seed safe_prompt return_images return_related_questions",
        "search_domain_filter search_recency_filter safety_model context_length_exceeded_behavior",
    ),
}
"""The names by the vendor; `responses` are those of OpenAI's Responses API alone, `compatible` those of the servers
that speak like OpenAI."""

_TITLES: Final = {
    "openai": "OpenAI",
    "responses": "OpenAI's Responses API",
    "anthropic": "Anthropic",
    "gemini": "Gemini",
    "dashscope": "DashScope",
    "ollama": "Ollama",
    "compatible": "servers that speak like OpenAI",
}


def owner_of(name: str) -> str | None:
    """Return who calls a parameter *name*, as a text shows it; None if no list has it."""
    return next((_TITLES[vendor] for vendor, names in VENDOR_PARAMETERS.items() if name in names), None)
