"""How vendors say that a prompt does not fit, as their users have reported it (or as their sources have it).

Collected 2026-11. `source` names the report or the source file in which the wording stands; numbers are those of the
report, but where it leaves them out.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from gateway.core.routing.windows import Exceeded


class Wording(NamedTuple):
    """One refusal: its status and body, and what it says."""

    status: int
    body: Any
    expected: Exceeded
    source: str


def openai(message: str, code: Any = None, param: str | None = None) -> Any:
    """OpenAI's form."""
    return {"error": {"message": message, "type": "invalid_request_error", "param": param, "code": code}}


def anthropic(message: str) -> Any:
    return {"type": "error", "error": {"type": "invalid_request_error", "message": message}, "request_id": "req_011"}


def vllm(message: str) -> Any:
    """vLLM's older form, and SGLang's."""
    return {"object": "error", "message": message, "type": "BadRequestError", "param": None, "code": 400}


def google(message: str) -> Any:
    return [{"error": {"code": 400, "message": message, "status": "INVALID_ARGUMENT"}}]


def litellm(message: str) -> Any:
    """LiteLLM's proxy."""
    return {"error": {"message": message, "type": None, "param": None, "code": "400"}}


LONG = "context_length_exceeded"
FETCHING = "Encountered an error when fetching new request"
WORDINGS: dict[str, Wording] = {
    "OpenAI, messages and completion": Wording(
        400,
        openai(
            "This model's maximum context length is 8192 tokens. However, you requested 9000 tokens (8000 in the "
            "messages, 1000 in the completion). Please reduce the length of the messages or completion.",
            LONG,
            "messages",
        ),
        Exceeded(8192, 8000, 1000),
        "platform.openai.com error codes; The-Vibe-Company/quivr#505",
    ),
    "OpenAI, messages alone": Wording(
        400,
        openai(
            "This model's maximum context length is 4097 tokens. However, your messages resulted in 7575 tokens. "
            "Please reduce the length of the messages.",
            LONG,
            "messages",
        ),
        Exceeded(4097, 7575),
        "smol-ai/developer#7",
    ),
    "OpenAI, functions": Wording(
        400,
        openai(
            "This model's maximum context length is 8192 tokens. However, you requested 8213 tokens (6683 in the "
            "messages, 730 in the functions, and 800 in the completion). Please reduce the length of the messages, "
            "functions, or completion.",
            LONG,
            "messages",
        ),
        Exceeded(8192, 7413, 800),
        "FoundationAgents/OpenManus#62",
    ),
    "OpenAI, completions": Wording(
        400,
        openai(
            "This model's maximum context length is 4097 tokens, however you requested 4322 tokens (4066 in your "
            "prompt; 256 for the completion). Please reduce your prompt; or completion length."
        ),
        Exceeded(4097, 4066, 256),
        "nicknochnack/LangchainDocuments#2",
    ),
    "OpenAI, of 2022": Wording(
        400,
        openai(
            "This model's maximum context length is 2049 tokens, however you requested 2054 tokens (2049 in your "
            "prompt, 5 for the completion). Please reduce your prompt or completion length."
        ),
        Exceeded(2049, 2049, 5),
        "stanford-crfm/helm#94",
    ),
    "OpenAI, embeddings": Wording(
        400,
        openai(
            "This model's maximum context length is 8192 tokens, however you requested 25701 tokens (25701 in your "
            "prompt; 0 for the completion). Please reduce your prompt; or completion length."
        ),
        Exceeded(8192, 25701),
        "sugarforever/chat-ollama#130",
    ),
    "OpenAI, embeddings, newer": Wording(
        400,
        openai("Invalid 'input': maximum context length is 8192 tokens."),
        Exceeded(8192, is_prompt_limit=True),
        "comments in clients' sources that quote it (find: \"'input': maximum context length\")",
    ),
    "OpenAI, embeddings of many": Wording(
        400,
        openai("Invalid 'input[12]': maximum input length is 8192 tokens."),
        Exceeded(8192, is_prompt_limit=True),
        "as above",
    ),
    "OpenAI, input limit": Wording(
        400,
        openai(
            "Input tokens exceed the configured limit of 272000 tokens. Your messages resulted in 305127 tokens. "
            "Please reduce the length of the messages.",
            LONG,
            "messages",
        ),
        Exceeded(272000, 305127, is_prompt_limit=True),
        "BerriAI/litellm#18927",
    ),
    "OpenAI, responses": Wording(
        400,
        openai(
            "Your input exceeds the context window of this model. Please adjust your input and try again.",
            LONG,
            "input",
        ),
        Exceeded(),
        "recorded answers of api.openai.com",
    ),
    "a code, and words that nobody knows": Wording(
        400,
        openai("Zu lang, bitte kürzen.", "Context_Length_Exceeded"),
        Exceeded(),
        "made up: the code alone is enough",
    ),
    "Azure": Wording(
        400,
        openai(
            "This model's maximum context length is 128000 tokens. However, your messages resulted in 204308 tokens. "
            "Please reduce the length of the messages.",
            LONG,
            "messages",
        ),
        Exceeded(128000, 204308),
        "webtimemachine/wtm2#579",
    ),
    "DeepSeek": Wording(
        400,
        openai(
            "This model's maximum context length is 131072 tokens. However, you requested 131134 tokens (122942 in the "
            "messages, 8192 in the completion). Please reduce the length of the messages or completion.",
            "invalid_request_error",
        ),
        Exceeded(131072, 122942, 8192),
        "evalstate/fast-agent#621",
    ),
    "Anthropic, prompt": Wording(
        400,
        anthropic("prompt is too long: 208310 tokens > 200000 maximum"),
        Exceeded(200000, 208310),
        "anthropics/claude-code#12186",
    ),
    "Anthropic, with the answer": Wording(
        400,
        anthropic(
            "input length and `max_tokens` exceed context limit: 178959 + 64000 > 200000, decrease input length or "
            "`max_tokens` and try again"
        ),
        Exceeded(200000, 178959, 64000),
        "docker/docker-agent#569",
    ),
    "Gemini": Wording(
        400,
        google("The input token count (1200293) exceeds the maximum number of tokens allowed (1048576)."),
        Exceeded(1048576, 1200293, is_prompt_limit=True),
        "google-gemini/gemini-cli#6678",
    ),
    "Gemini 2.5": Wording(
        400,
        google("The input token count exceeds the maximum number of tokens allowed (1048576)."),
        Exceeded(1048576, is_prompt_limit=True),
        "BerriAI/litellm#18282",
    ),
    "Gemini, wrapped twice": Wording(
        400,
        {
            "error": {
                "message": json.dumps(
                    {
                        "error": {
                            "code": 400,
                            "message": "The input token count (3475108) exceeds the maximum number of tokens allowed "
                            "(1048576).",
                        }
                    },
                    indent=2,
                ),
                "code": 400,
                "status": "Bad Request",
            }
        },
        Exceeded(1048576, 3475108, is_prompt_limit=True),
        "google-gemini/gemini-cli#4231",
    ),
    "Vertex": Wording(
        400,
        google(
            "Unable to submit request because the input token count is 135538 but model only supports up to 32768. "
            "Reduce the input token count and try again."
        ),
        Exceeded(32768, 135538, is_prompt_limit=True),
        'clients\' tests that quote it (find: "but model only supports up to")',
    ),
    "Mistral": Wording(
        400,
        {
            "object": "error",
            "message": "Prompt contains 40000 tokens and 0 draft tokens, too large for model with 32768 maximum "
            "context length",
            "type": "invalid_request_prompt",
            "code": "3051",
        },
        Exceeded(32768, 40000),
        "BerriAI/litellm#21647",
    ),
    "vLLM": Wording(
        400,
        vllm(
            "This model's maximum context length is 16384 tokens. However, you requested 122946 tokens (112946 in the "
            "messages, 10000 in the completion). Please reduce the length of the messages or completion."
        ),
        Exceeded(16384, 112946, 10000),
        "vllm-project/vllm#20409",
    ),
    "vLLM, messages alone": Wording(
        400,
        vllm(
            "This model's maximum context length is 131072 tokens. However, you requested 219523 tokens in the "
            "messages, Please reduce the length of the messages."
        ),
        Exceeded(131072, 219523),
        "bytedance/deer-flow#326",
    ),
    "vLLM, what is left for the answer": Wording(
        400,
        vllm(
            "'max_tokens' or 'max_completion_tokens' is too large: 43148. This model's maximum context length is 65536 "
            "tokens and your request has 24632 input tokens (43148 > 65536 - 24632)."
        ),
        Exceeded(65536, 24632, 43148),
        "stepfun-ai/Step-Audio-R1#3",
    ),
    "vLLM, decoder prompt": Wording(
        400,
        vllm(
            "The decoder prompt (length 140000) is longer than the maximum model length of 131072. Make sure that "
            "`max_model_len` is no smaller than the number of text tokens."
        ),
        Exceeded(131072, 140000),
        'clients\' tests that quote it (find: "longer than the maximum model length")',
    ),
    "vLLM of 2026": Wording(
        400,
        {
            "error": {
                "message": "You passed 99073 input tokens and requested 32000 output tokens. However, the model's "
                "context length is only 131072 tokens, resulting in a maximum input length of 99072 tokens. Please "
                "reduce the length of the input prompt. (parameter=input_tokens, value=99073)",
                "type": "BadRequestError",
                "param": "input_tokens",
                "code": 400,
            }
        },
        Exceeded(131072, 99073, 32000),
        'logs that quote it (find: "context length is only"); vllm-project/vllm#33418',
    ),
    "vLLM of 2026, later": Wording(
        400,
        {
            "error": {
                "message": "This model's maximum context length is 8192 tokens. However, you requested 64 output "
                "tokens and your prompt contains at least 8129 input tokens, for a total of at least 8193 tokens. "
                "Please reduce the length of the input prompt or the number of requested output tokens.",
                "type": "BadRequestError",
                "code": 400,
            }
        },
        Exceeded(8192, 8129, 64),
        "vllm-project/vllm#36197",
    ),
    "llama.cpp": Wording(
        400,
        {
            "error": {
                "code": 400,
                "message": "the request exceeds the available context size. try increasing the context size or enable "
                "context shift",
                "type": "exceed_context_size_error",
                "n_prompt_tokens": 14429,
                "n_ctx": 8192,
            }
        },
        Exceeded(8192, 14429),
        "oobabooga/textgen#7257; ggml-org/llama.cpp#15780",
    ),
    "llama.cpp, older": Wording(
        400,
        {
            "error": {
                "code": 400,
                "message": "the request exceeds the available context size, try increasing it",
                "type": "invalid_request_error",
            }
        },
        Exceeded(),
        "continuedev/continue#9797",
    ),
    "llama.cpp, newer": Wording(
        400,
        {
            "error": {
                "code": 400,
                "message": "request (66202 tokens) exceeds the available context size (65536 tokens), try "
                "increasing it",
                "type": "exceed_context_size_error",
                "n_prompt_tokens": 66202,
                "n_ctx": 65536,
            }
        },
        Exceeded(65536, 66202),
        'clients\' tests that quote it (find: "exceeds the available context size (")',
    ),
    "llama-cpp-python": Wording(
        400,
        openai("Requested tokens (2285) exceed context window of 2048", LONG),
        Exceeded(2048, 2285),
        "fedora-copr/logdetective-website#193",
    ),
    "llama-cpp-python, older": Wording(
        500,
        openai("Requested tokens exceed context window of 512"),
        Exceeded(512),
        "abetlen/llama-cpp-python#120",
    ),
    "Ollama": Wording(
        400,
        {"error": "prompt too long; exceeded max context length by 4096 tokens"},
        Exceeded(),
        "clients' tables that quote it",
    ),
    "Ollama, embeddings": Wording(
        500,
        {"error": "the input length exceeds the context length"},
        Exceeded(),
        'clients\' tests that quote it (find: "the input length exceeds the context length")',
    ),
    "Ollama, from its runner": Wording(
        400,
        {
            "error": json.dumps(
                {
                    "error": {
                        "code": 400,
                        "message": "request (40000 tokens) exceeds the available context size (32768 tokens), try "
                        "increasing it",
                        "type": "exceed_context_size_error",
                        "n_prompt_tokens": 40000,
                        "n_ctx": 32768,
                    }
                }
            )
        },
        Exceeded(32768, 40000),
        "clients' tests that quote it",
    ),
    "TGI": Wording(
        422,
        {
            "error": "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4096. Given: 3474 `inputs` "
            "tokens and 1024 `max_new_tokens`",
            "error_type": "validation",
        },
        Exceeded(4096, 3474, 1024),
        "huggingface/llm-vscode#94",
    ),
    "TGI, inputs": Wording(
        422,
        {
            "error": "Input validation error: `inputs` must have less than 512 tokens. Given: 745",
            "error_type": "Validation",
        },
        Exceeded(512, 745, is_prompt_limit=True),
        "opea-project/GenAIExamples#340",
    ),
    "Together": Wording(
        422,
        openai(
            "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 2048. Given: 2019 `inputs` tokens "
            "and 30 `max_new_tokens`"
        ),
        Exceeded(2048, 2019, 30),
        "stanford-crfm/helm#2079",
    ),
    "Together, newer": Wording(
        400,
        openai("The input (1000016 tokens) is longer than the model's context length (131072 tokens)."),
        Exceeded(131072, 1000016),
        "QwenLM/Qwen3#1321",
    ),
    "SGLang": Wording(
        400,
        vllm("The input (61709 tokens) is longer than the model's context length (40960 tokens)."),
        Exceeded(40960, 61709),
        "QwenLM/Qwen3#1321",
    ),
    "SGLang, with the answer": Wording(
        400,
        vllm(
            "Requested token count exceeds the model's maximum context length of 202752 tokens. You requested a total "
            "of 202941 tokens: 170941 tokens from the input messages and 32000 tokens for the completion. Please "
            "reduce the number of tokens in the input messages or the completion to fit within the limit."
        ),
        Exceeded(202752, 170941, 32000),
        "anomalyco/opencode#25230",
    ),
    "SGLang, memory": Wording(
        400,
        vllm("Input length (160062 tokens) exceeds the maximum allowed length (59862 tokens). Use a shorter input."),
        Exceeded(59862, 160062, is_prompt_limit=True),
        "sgl-project/sglang#4048",
    ),
    "behind OpenRouter, input length": Wording(
        400,
        openai("Input length 300000 exceeds the maximum allowed input length of 262144 tokens.", 400),
        Exceeded(262144, 300000, is_prompt_limit=True),
        'clients\' tests that quote it (find: "maximum prompt length is 131072")',
    ),
    "DeepInfra": Wording(
        400,
        openai("Input length (265330) exceeds model's maximum context length (262144)."),
        Exceeded(262144, 265330),
        "as above",
    ),
    "Groq": Wording(
        400,
        openai("Please reduce the length of the messages or completion.", LONG, "messages"),
        Exceeded(),
        "thepersonalaicompany/amurex-backend#51",
    ),
    "Fireworks": Wording(
        400,
        {
            "error": {
                "object": "error",
                "type": "invalid_request_error",
                "code": "invalid_request_error",
                "message": "The prompt is too long: 40177, model maximum context length: 32767",
            }
        },
        Exceeded(32767, 40177),
        "fw-ai/cookbook#134",
    ),
    "xAI": Wording(
        400,
        {
            "code": "Client specified an invalid argument",
            "error": "This model's maximum prompt length is 131072 but the request contains 136973 tokens.",
        },
        Exceeded(131072, 136973, is_prompt_limit=True),
        "cline/cline#3120",
    ),
    "Cohere, of 2022": Wording(
        400,
        {
            "message": "too many tokens: total number of tokens (prompt and prediction) cannot exceed 2048 - received "
            "6354. Try using a shorter prompt or a smaller max_tokens value."
        },
        Exceeded(2048, 6354),
        "cohere-ai/sandbox-topically#4",
    ),
    "Cohere": Wording(
        400,
        {
            "id": "bda42bf8",
            "message": "too many tokens: size limit exceeded by 19296 tokens. Try using shorter or fewer inputs. The "
            "limit for this model is 132000 tokens.",
        },
        Exceeded(132000, 151296, is_prompt_limit=True),
        'docs.cohere.com errors; clients\' tests (find: "too many tokens: size limit exceeded")',
    ),
    "Bedrock": Wording(
        400,
        {"message": "Input is too long for requested model."},
        Exceeded(),
        "aws-samples/bedrock-chat#95",
    ),
    "Bedrock, as a gateway says it": Wording(
        400,
        {
            "detail": "An error occurred (ValidationException) when calling the Converse operation: Input is too long "
            "for requested model."
        },
        Exceeded(),
        "aws-samples/bedrock-chat#95",
    ),
    "Bedrock, Titan": Wording(
        400,
        {
            "message": "ValidationException: 400 Bad Request: Too many input tokens. Max input tokens: 8192, request "
            "input token count: 9279 "
        },
        Exceeded(8192, 9279, is_prompt_limit=True),
        'clients\' tables that quote it (find: "Too many input tokens. Max input tokens")',
    ),
    "OpenRouter": Wording(
        400,
        {
            "error": {
                "message": "This endpoint's maximum context length is 131072 tokens. However, you requested about "
                "141607 tokens (10535 of text input, 131072 in the output). Please reduce the length of either one, or "
                'use the "middle-out" transform to compress your prompt automatically.',
                "code": 400,
                "metadata": {"provider_name": "Chutes"},
            }
        },
        Exceeded(131072, 10535, 131072),
        "Aider-AI/aider#3721",
    ),
    "OpenRouter, tools": Wording(
        400,
        {
            "error": {
                "message": "This endpoint's maximum context length is 32768 tokens. However, you requested about 42832 "
                "tokens (42832 of text input). Please reduce the length of either one.",
                "code": 400,
            }
        },
        Exceeded(32768, 42832),
        "refly-ai/refly#1177",
    ),
    "OpenRouter, the provider's own": Wording(
        400,
        {
            "error": {
                "message": "Provider returned error",
                "code": 400,
                "metadata": {
                    "raw": json.dumps(
                        {
                            "message": "input length and `max_tokens` exceed context limit: 149674 + 64000 > 204658, "
                            "decrease input length or `max_tokens` and try again"
                        }
                    ),
                    "provider_name": "Amazon Bedrock",
                },
            },
            "user_id": "user_2",
        },
        Exceeded(204658, 149674, 64000),
        "egoist/chatwise-releases#917",
    ),
    "LiteLLM, Anthropic": Wording(
        400,
        litellm(
            'litellm.BadRequestError: AnthropicException - b\'{"type":"error","error":{"type":"invalid_request_error",'
            '"message":"input length and `max_tokens` exceed context limit: 179413 + 32768 > 200000, decrease input '
            "length or `max_tokens` and try again\"}}'. Received Model Group=anthropic/claude-sonnet-4"
        ),
        Exceeded(200000, 179413, 32768),
        "BrokkAi/brokk-app#540",
    ),
    "LiteLLM, its own name for it": Wording(
        400,
        litellm(
            'litellm.ContextWindowExceededError: AnthropicError - {"type":"error","error":{"type":'
            '"invalid_request_error","message":"prompt is too long: 209303 tokens > 200000 maximum"}}\nReceived Model '
            "Group=anthropic/claude-3-5-sonnet-20241022"
        ),
        Exceeded(200000, 209303),
        "OpenHands/OpenHands#5350",
    ),
    "LiteLLM, a Python text within": Wording(
        400,
        litellm(
            "litellm.BadRequestError: litellm.ContextWindowExceededError: ContextWindowExceededError: "
            "DeepseekException - Error code: 400 - {'error': {'message': \"This model's maximum context length is "
            "65536 tokens. However, you requested 66056 tokens (66056 in the messages, 0 in the completion). Please "
            "reduce the length of the messages or completion.\", 'type': 'invalid_request_error', 'param': None}}"
        ),
        Exceeded(65536, 66056),
        "HKUDS/AI-Researcher#33",
    ),
    "LiteLLM, vLLM": Wording(
        400,
        litellm(
            'litellm.BadRequestError: OpenAIException - {"error":{"message":"You passed 98305 input tokens and '
            "requested 32768 output tokens. However, the model's context length is only 131072 tokens, resulting in a "
            'maximum input length of 98304 tokens.","type":"BadRequestError"}}'
        ),
        Exceeded(131072, 98305, 32768),
        'reports that quote it (find: "context length is only")',
    ),
    "GitHub Copilot": Wording(
        400,
        {
            "error": {
                "message": "prompt token count of 135355 exceeds the limit of 128000",
                "code": "model_max_prompt_tokens_exceeded",
            }
        },
        Exceeded(128000, 135355, is_prompt_limit=True),
        'clients\' sources that quote it (find: "prompt token count of")',
    ),
    "Kimi": Wording(
        400,
        openai("Invalid request: Your request exceeded model token limit: 262144 (requested: 291351)"),
        Exceeded(262144, 291351),
        'clients\' tests that quote it (find: "exceeded model token limit")',
    ),
    "MiniMax": Wording(
        400,
        openai("invalid params, context window exceeds limit"),
        Exceeded(),
        "clients' tables that quote it",
    ),
    "DashScope": Wording(
        400,
        openai("<400> InternalError.Algo.InvalidParameter: Range of input length should be [1, 258048]"),
        Exceeded(258048, is_prompt_limit=True),
        "Model Studio error codes; QwenLM/qwen-code#3652",
    ),
    "LM Studio": Wording(
        400,
        {
            "error": "Trying to keep the first 10136 tokens when context the overflows. However, the model is loaded "
            "with context length of only 7866 tokens, which is not enough. Try to load the model with a larger context "
            "length, or provide a shorter input."
        },
        Exceeded(7866, 10136),
        "cline/cline#3664",
    ),
    "Perplexity": Wording(
        400,
        openai("The total length of all messages is too long."),
        Exceeded(),
        "BerriAI/litellm#21647",
    ),
    "TensorRT-LLM": Wording(
        400,
        vllm("The sum of prompt length (72417.0), query length (0) should not exceed max_num_tokens (69632)"),
        Exceeded(69632, 72417, is_prompt_limit=True),
        'clients\' tests that quote it (find: "should not exceed max_num_tokens")',
    ),
    "TensorRT-LLM, sequence": Wording(
        500,
        {"error": "Cannot process new request: Prompt length (5056) exceeds maximum sequence length (2048)"},
        Exceeded(2048, 5056),
        "triton-inference-server/tensorrtllm_backend#141",
    ),
    "TensorRT-LLM, input": Wording(
        500,
        {"error": f"{FETCHING}: Prompt length (200) exceeds maximum input length (1)"},
        Exceeded(None, 200, is_prompt_limit=True),
        "triton-inference-server/tensorrtllm_backend#565",
    ),
    "Replicate": Wording(
        400,
        {"detail": "Your input is too long. Max input length is 4096 tokens, but you supplied 5441 tokens."},
        Exceeded(4096, 5441, is_prompt_limit=True),
        "run-llama/llama_index#7974",
    ),
    "with commas": Wording(
        400,
        openai("Prompt has 300,000 tokens, but the configured context size is 131,072 tokens"),
        Exceeded(131072, 300000),
        "clients' tables that quote it (DS4 server)",
    ),
    "RKLLM": Wording(
        400,
        {"error": "Prompt is 11543 tokens but the model context window is 4096 tokens."},
        Exceeded(4096, 11543),
        "jaylfc/taOS#1738",
    ),
    "mlx-serve": Wording(
        400,
        openai("Prompt exceeds maximum context length"),
        Exceeded(),
        "ddalcu/mlx-serve#66",
    ),
    "TGI, as some put it": Wording(
        422,
        {
            "error": "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4096. Given: 5000 and 20",
            "error_type": "validation",
        },
        Exceeded(4096),
        "remembered, 2026-01",
    ),
    "Cohere, in another of its words": Wording(
        400,
        {"message": "too many tokens: total number of tokens in the request cannot exceed 4081 tokens"},
        Exceeded(4081),
        "remembered, 2026-01",
    ),
    "plain text": Wording(
        400, "This model's maximum context length is 2,048 tokens.", Exceeded(2048), "made up: a proxy's plain answer"
    ),
    "another gateway of this kind": Wording(
        400,
        openai(
            "This request needs 9000 tokens (8000 in the prompt, 1000 for the completion), and the token budget's "
            "max_total is 8000. The last user message alone needs 7900.",
            LONG,
            "messages",
        ),
        Exceeded(8000, 8000, 1000),
        "gateway/core/errors.py",
    ),
}

OTHERS: dict[str, tuple[int, Any]] = {
    "an answer that is allowed too much": (
        400,
        openai(
            "max_tokens is too large: 100000. This model supports at most 4096 completion tokens, whereas you provided "
            "100000.",
            None,
            "max_tokens",
        ),
    ),
    "Anthropic's answer that is allowed too much": (
        400,
        anthropic("max_tokens: 8000 > 4096, which is the maximum allowed number of output tokens for claude-3-haiku"),
    ),
    "Bedrock's": (
        400,
        {
            "message": "The maximum tokens you requested exceeds the model limit of 2048. Try again with a maximum "
            "tokens value that is lower than 2048."
        },
    ),
    "Cohere's": (
        400,
        {
            "message": "too many tokens: max tokens must be less than or equal to 4096, the maximum output for this "
            "model - received 8192."
        },
    ),
    "DashScope's": (400, openai("<400> InternalError.Algo.InvalidParameter: Range of max_tokens should be [1, 8192]")),
    "TGI's": (422, {"error": "Input validation error: `max_new_tokens` must be <= 192. Given: 512"}),
    "vLLM's": (400, vllm("max_completion_tokens=131072 cannot be greater than max_model_len=max_total_tokens=65536")),
    "Groq's tokens per minute, as 413": (
        413,
        openai(
            "Request too large for model `llama-3.3-70b-versatile` in organization `org_1` service tier `on_demand` on "
            "tokens per minute (TPM): Limit 6000, Requested 14810, please reduce your message size and try again.",
            "rate_limit_exceeded",
        ),
    ),
    "a limit per minute": (
        429,
        openai("Request too large for gpt-4o on tokens per min (TPM): Limit 30000, Requested 40000.", "tokens"),
    ),
    "a limit per minute with the code of a window": (
        429,
        openai("This model's maximum context length is 8192 tokens.", LONG),
    ),
    "a body that is too large": (
        413,
        {"error": {"type": "request_too_large", "message": "Request exceeds the maximum size"}},
    ),
    "a text that is no error": (
        400,
        {"choices": [{"message": {"content": "prompt is too long: 9 tokens > 5 maximum"}}]},
    ),
    "only a text": (400, '"maximum context length is 8192 tokens"'),
    "a missing field": (400, openai("Missing required parameter: 'messages'.", "missing_required_parameter")),
    "another server's fault": (500, openai("The server had an error processing your request. Sorry about that!")),
    "a page": (413, "<html><body>413 Request Entity Too Large</body></html>"),
    "nothing": (400, ""),
    "a number": (400, 5),
    "of another shape": (400, {"error": {"message": {"error": ["prompt is too long", 7]}, "code": [LONG]}}),
    "a text that is quoted": (
        400,
        openai(
            "Invalid value: 'This model's maximum context length is 5 tokens. However, you requested 9 tokens.'. "
            "Supported values are: 'auto' and 'none'.",
            "invalid_value",
        ),
    ),
    "a message that is quoted as JSON": (
        400,
        openai('Invalid value: {"message": "prompt is too long: 9 tokens > 5 maximum"}.', "invalid_value"),
    ),
    "input that is sent back": (
        422,
        {
            "detail": [
                {
                    "type": "string_type",
                    "msg": "Input should be a valid string",
                    "input": {"message": "prompt is too long: 9 tokens > 5 maximum", "code": LONG},
                }
            ]
        },
    ),
    "moderation that quotes the input": (
        403,
        {
            "error": {
                "code": 403,
                "message": 'a/b requires moderation on Azure. Your input was flagged for "violence".',
                "metadata": {"flagged_input": "prompt is too long: 9 tokens > 5 maximum"},
            }
        },
    ),
}

FILTERED: dict[str, tuple[int, Any]] = {
    # openai/openai-python#331, simonw/research#16
    "Azure": (
        400,
        {
            "error": {
                "message": "The response was filtered due to the prompt triggering Azure OpenAI's content management "
                "policy. Please modify your prompt and retry.",
                "type": None,
                "param": "prompt",
                "code": "content_filter",
                "status": 400,
                "innererror": {"code": "ResponsibleAIPolicyViolation", "content_filter_result": {}},
            }
        },
    ),
    # BerriAI/litellm#16231
    "LiteLLM": (
        400,
        {
            "error": {
                "message": "litellm.BadRequestError: litellm.ContentPolicyViolationError: AzureException - The "
                "response was filtered due to the prompt triggering Azure OpenAI’s content management policy.",
                "code": "400",
                "provider_specific_fields": {"innererror": {"code": "ResponsibleAIPolicyViolation"}},
            }
        },
    ),
    "OpenAI, pictures": (
        400,
        openai("Your request was rejected as a result of our safety system.", "content_policy_violation"),
    ),
    "OpenAI, moderation": (400, openai("Blocked.", "moderation_blocked")),
    # modelcontextprotocol/servers#4031
    "OpenAI, reasoning": (
        400,
        openai(
            "Invalid prompt: your prompt was flagged as potentially violating our usage policy. Please try again with "
            "a different prompt.",
            "invalid_prompt",
        ),
    ),
    "Anthropic": (400, anthropic("Output blocked by content filtering policy")),
    "xAI": (403, {"error": "Content violates usage guidelines. Failed check: SAFETY_CHECK_TYPE_BIO"}),
    "DashScope": (400, openai("Input data may contain inappropriate content.", "data_inspection_failed")),
    "OpenRouter": (
        403,
        {
            "error": {
                "code": 403,
                "message": 'openai/gpt-5 requires moderation on OpenRouter. Your input was flagged for "violence".',
                "metadata": {"reasons": ["violence"], "flagged_input": "..."},
            }
        },
    ),
}
