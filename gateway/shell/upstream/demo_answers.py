"""What the demo upstream says: extractive answers, made of nothing but the prompt it was given.

Pure and deterministic: no clock, no randomness, no answer written down beforehand. It knows a fact only if
the fact is still in the prompt: what a compaction lost, its answers lack. It does not reason or translate.

Invariants, each with a test:
  1. Apart from a short opening, every sentence of an answer or a summary stands in the prompt.
  2. A question is never its own answer; without a match the answer says so.
  3. A summary costs at most max_tokens; lines of an earlier brief go in first.
"""

import hashlib
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import msgspec

from gateway.core.context.summary import SECTIONS

Count = Callable[[str], int]

FOUND, NOTED = "From what I was given: ", "Noted: "
NOTHING = "I find nothing about that in what I was given."
JSON_SHARE = 0.7  # of a summary's tokens, what its lines may take: quotes and keys take the rest
TITLES = frozenset(f"{title}:" for title in SECTIONS.values())
SUMMARY_TOKENS = 1000  # when the request names no maximum
SUMMARY_FILL = 0.6  # of the maximum: who asks for a summary may set something beside it
PRIOR_SHARE = 0.75  # of that, for lines of an earlier brief
PASSAGE_WORDS = 40  # in a user's text of so many words, the question stands at its beginning or end
ENOUGH = 0.5  # share of the question's weight that one matching word must carry; two words may carry less

WORD = re.compile(r"[぀-ヿ㐀-鿿]|[^\W_]+(?:['’][^\W_]+)*")
SENTENCE_END = re.compile(
    r"(?<!\b[A-HJ-Z]\.)(?<!\bMr\.)(?<!\bDr\.)(?<!\bSt\.)(?<!\bMs\.)(?<!\bMrs\.)(?<!e\.g\.)(?<!i\.e\.)"
    r"(?:(?<=[.!?…])|(?<=[.!?…][’”\"')\]]))\s+(?=[\"“‘'(]*[A-Z0-9])|(?<=[。！？])"
)
ASKS = re.compile(
    r"\?[’”\"')]*$|^\W*(?:please\s+)?(?:(?:tell|give|list|name|say|explain|describe|find|show|remind|repeat|"
    r"recall|retell|summari[sz]e|sum up|recap)\b|"
    r"(?:what|who|whose|where|when|which|why|how|do|does|did|is|are|can|could)\b[^.!,;]*$)",
    re.I,
)
RETELL = re.compile(r"what happens|summari[sz]|sum up|retell|recap|in short|key point|main point|gist|tl;?dr", re.I)
LABEL = re.compile(
    r"^[\s#*<(\[-]*(?:(?:turn|message)?\s*#?\d+[\s,.:|)\]-]*)?"
    r"(system|developer|user|assistant|tool)\b[\s\d)\]>*]*(?::|$|(?<=[\])>*])\s)[\s*]*",
    re.I,
)
BRIEF_HEAD = re.compile(r"^[\s#*<\[(-]*(?:[\w-]+\s){0,3}brief\b[^.!?]*[:>\])]?\s*$|^\W*brief so far\b", re.I)
SECTION_HEAD = re.compile(r"^\s*(?:</|#|<\w|\[/|---)|^[^.!?]*\b(?:turns|messages|conversation)\b[^.!?]*[:\]]\s*$", re.I)
RULE = re.compile(
    r"^\W*(?:please|always|never|do not|don['’]t|remember)\b|\b(?:my|mine|our|i am|i['’]m|call me)\b|"
    r"\bwe meet\b|\bmust\b(?! be| have)|\bi (?:live|work|want|wish|need|prefer|like|hate|have|own|would)\b",
    re.I,
)
DATE = re.compile(
    r"\b(?:mon|tues|wednes|thurs|fri|satur|sun)days?\b|\b(?:january|february|march|april|june|july|august|"
    r"september|october|november|december|noon|midnight|tomorrow|o['’]clock)\b",
    re.I,
)
STOP = frozenset(
    re.findall(
        r"\w+",
        "a about again all also am an and any are as at be been before being but by can could did do does "
        "doing down each else even ever few for from get give given go had has have having he her here "
        "him his how i if in into is it its know let like list me mention mentioned more most much my no "
        "nor not now of off on once one only or other our out over own please recall remember remind repeat "
        "said same say see she should show so some still such tell than that the their them then there these "
        "they this those through to told too under up upon us user very was we well were what when where "
        "which while who whose why will with would yes you your yours earlier anything something thing again "
        "ago",
    )
)


@dataclass(frozen=True, slots=True)
class Said:
    """One message: who said it and its text."""

    role: str
    text: str


@dataclass(frozen=True, slots=True)
class Line:
    """One sentence of a prompt, and what a summary weighs it by."""

    text: str
    role: str = ""
    is_prior: bool = False
    is_own: bool = False


def stem(word: str) -> str:
    """A crude English stem: `meets`, `meeting` and `meet` are one word; words with digits stay whole."""
    word = word.lower().replace("’", "'").removesuffix("'s")
    if not word.isalpha():
        return word
    for ending in ("ing", "ies", "ed", "es", "s"):
        if word.endswith(ending) and len(word) - len(ending) >= 3 and not word.endswith("ss"):
            word = word[: -len(ending)] + ("y" if ending == "ies" else "")
            break
    return word.removesuffix("e") if len(word) > 3 else word


@lru_cache(maxsize=8192)  # a chat is resent each turn
def features(text: str) -> frozenset[str]:
    """Content words, and `my x` pairs: a question about my dog is about what was called my dog."""
    words = WORD.findall(text.lower())
    pairs = {f"my {stem(b)}" for a, b in pairwise(words) if a == "my" and b not in STOP}
    return frozenset(stem(w) for w in words if w not in STOP) | pairs


@lru_cache(maxsize=512)
def split_sentences(text: str) -> tuple[str, ...]:
    """Sentences of a text, in order; a line's end always ends one. List marks are dropped."""
    lines = (re.sub(r"^\s*(?:[-*•>]+\s+|#+\s*)", "", line).strip() for line in text.splitlines())
    return tuple(part.strip() for line in lines for part in SENTENCE_END.split(line) if part and part.strip())


def weigh(sentences: Iterable[str]) -> Callable[[str], float]:
    """How much a feature says: rare in these sentences is heavy, unseen is heaviest (BM25's idf)."""
    seen = [features(s) for s in sentences]
    counts = Counter(f for one in seen for f in one)
    total = len(seen)
    return lambda f: math.log(1 + (total - counts[f] + 0.5) / (counts[f] + 0.5)) * (0.5 if f[:3] == "my " else 1)


def answer(messages: Sequence[Said], count: Count, max_tokens: int | None) -> str:
    """The demo model's whole answer to a chat.

    Args:
        messages: the chat as sent, oldest first.
        count: text to tokens.
        max_tokens: the request's limit on the answer; it shapes summaries, cutting is the server's work.
    """
    heads = [m for m in messages if m.role in ("system", "developer")]
    users = [m for m in messages if m.role == "user"]
    if not users:
        return NOTHING
    if heads and "running brief" in heads[0].text.lower() and 1 + len(heads) == len(messages):
        return as_sections(summarise(users[0].text, count, int((max_tokens or SUMMARY_TOKENS) * JSON_SHARE)))
    last = users[-1]
    earlier = [plain(s) for m in messages if m is not last for s in split_sentences(m.text)]
    passage, request = split_request(last.text)
    pool = [s for s in earlier if s and not s.startswith(NOTHING) and not ASKS.search(s)]
    if passage and (not request or RETELL.search(request)):
        return NOTED + most_central(passage, pool)
    found = best_matches(request, pool)
    return FOUND + " ".join(found) if found else NOTHING


def plain(sentence: str) -> str:
    """The sentence without a speaker's label and without the openings that this module itself writes."""
    text = LABEL.sub("", sentence, count=1)
    for opening in (FOUND, NOTED):
        text = text.removeprefix(opening)
    return text.strip()


def split_request(text: str) -> tuple[list[str], str]:
    """A user's message as (sentences to read, what is asked); nothing asked means: take note."""
    parts = split_sentences(text)
    edges = [*parts[:2], *parts[-2:]] if len(WORD.findall(text)) >= PASSAGE_WORDS else parts
    asked = list(dict.fromkeys(s for s in edges if ASKS.search(s)))
    return [s for s in parts if s not in asked], " ".join(asked)


def most_central(sentences: Sequence[str], earlier: Sequence[str]) -> str:
    """The sentence whose words the others share most, rare words of the chat weighing more."""
    weight = weigh([*earlier, *sentences])
    shared = Counter(f for s in sentences for f in features(s))

    def score(sentence: str) -> float:
        words = len(WORD.findall(sentence))
        total = sum(shared[f] * weight(f) for f in features(sentence))
        return total / (10 + words + max(0, words - 40) * 2) / (3 if words < 4 or sentence[-1] in "?:" else 1)

    return max(sentences, key=score)


def best_matches(request: str, pool: Sequence[str], limit: int = 2) -> list[str]:
    """The sentences that best match each clause of a request, at most `limit`; ties go to the later one."""
    weight = weigh(pool)
    clauses = [c for c in re.split(r"[,;]?\s+and\s+(?=\w+\s)|[?!.;]\s+", request) if features(c)]
    found: list[str] = []
    for clause in [c for c in clauses if len(features(c)) > 1] or clauses or [request]:
        wanted = features(clause)
        whole = sum(map(weight, wanted)) or 1.0
        ranked: list[tuple[float, int]] = []
        for at, sentence in enumerate(pool):
            hit = wanted & features(sentence)
            share = sum(map(weight, hit)) / whole
            if share >= ENOUGH or (len(hit) >= 2 and share >= ENOUGH / 2):
                ranked.append((round(share, 6), at))
        ranked.sort(reverse=True)
        take = [r for r in ranked[:limit] if r[0] >= ranked[0][0] * 0.8]
        for _, at in take if len(clauses) < 2 else ranked[:1]:
            if not any(features(pool[at]) <= features(f) for f in found):
                found.append(pool[at])
    return found[:limit]


def summarise(text: str, count: Count, max_tokens: int) -> str:
    """An extractive brief of a text: its telling sentences in their order, one a line, within max_tokens."""
    lines = read_lines(text)
    weight = weigh(line.text for line in lines)
    order = sorted(range(len(lines)), key=lambda i: (-salience(lines[i], weight), i))
    room = min(max_tokens, max(200, count(text) // 3)) * SUMMARY_FILL
    taken: list[int] = []
    spent = 0
    for at in order:
        cost = count(f"- {lines[at].text}\n")
        if spent + cost <= room * (PRIOR_SHARE if lines[at].is_prior else 1):
            taken.append(at)
            spent += cost
    while taken and count(render(lines, taken)) > max_tokens:
        taken.pop()
    return render(lines, taken) or cut("Nothing to record.", count, max_tokens)


def as_sections(summary: str) -> str:
    """A summary as the JSON object that the gateway's summariser is asked for."""
    lines = [line.removeprefix("- ") for line in summary.splitlines()]
    return msgspec.json.encode({key: lines if key == "facts" else [] for key in SECTIONS}).decode()


def render(lines: Sequence[Line], kept: Sequence[int]) -> str:
    return "\n".join(f"- {lines[i].text}" for i in sorted(kept))


def read_lines(text: str) -> list[Line]:
    """Sentences of a transcript with speaker, place in an earlier brief and quotation; repeated ones once."""
    found: dict[str, Line] = {}
    role, in_brief = "", False
    for raw in text.splitlines():
        label = LABEL.match(raw)
        if raw in TITLES:
            continue
        if len(raw) < 200 and (BRIEF_HEAD.match(raw) or SECTION_HEAD.match(raw)):
            in_brief, role = bool(BRIEF_HEAD.match(raw)) and "</" not in raw, ""
            continue
        if label and not (in_brief and raw.lstrip()[:1] in "-*•"):
            role, in_brief = label[1].lower(), False
        if in_brief and raw.strip():
            prior = re.sub(r"^\s*[-*•]\s+", "", raw).strip()
            own = prior.startswith("User: ")
            found.setdefault(plain(prior), Line(prior, is_prior=True, is_own=own))
            continue
        for sentence in split_sentences(LABEL.sub("", raw, count=1)):
            bare = plain(sentence)
            if bare and not bare.startswith(NOTHING):
                states = RULE.search(bare) and not ASKS.search(bare) and not is_in_quotes(raw, sentence)
                own = bool(states) and role in ("", "user")
                found.setdefault(bare, Line(f"User: {bare}" if own and role else bare, role, is_own=own))
    return list(found.values())


def is_in_quotes(line: str, sentence: str) -> bool:
    """Does somebody in a story say this sentence, rather than the writer?"""
    before = line[: max(0, line.find(sentence))]
    closed = [m.start() for m in re.finditer(r"’(?!\w)", before)]
    if before.rfind("‘") > (closed[-1] if closed else -1) or before.count('"') % 2:
        return True
    return bool(re.search(r"[‘“\"]|[’”]$", sentence)) or before.count("“") > before.count("”")


def salience(line: Line, weight: Callable[[str], float]) -> float:
    """Prior lines first, then the user's own facts, wishes and rules, then numbers, dates and names."""
    words: list[str] = WORD.findall(line.text)
    score = sum(map(weight, features(line.text))) / (12 + len(words))
    score += 3.0 * line.is_own + 100.0 * line.is_prior
    score += 0.8 * any(c.isdigit() for c in line.text) + 0.6 * bool(DATE.search(line.text))
    score += 0.2 * min(3, sum(w[0].isupper() and w not in ("I", "O") for w in words[1:]))
    score -= 2.0 * (len(words) < 3 or line.text.endswith(":")) + 0.3 * (line.role == "assistant")
    return score - 4.0 * bool(ASKS.search(line.text))


def cut(text: str, count: Count, max_tokens: int | None) -> str:
    """The longest beginning of a text that costs at most max_tokens."""
    if max_tokens is None or count(text) <= max_tokens:
        return text
    low, high = 0, len(text) - 1
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if count(text[:middle]) <= max_tokens else (low, middle - 1)
    return text[:low]


def embed(text: str, dimensions: int = 256) -> list[float]:
    """A bag of hashed stems as a unit vector: the same text gives the same vector on every machine."""
    vector = [0.0] * dimensions
    for word, times in Counter(stem(w) for w in WORD.findall(text.lower())).items():
        digest = int.from_bytes(hashlib.blake2b(word.encode(), digest_size=8).digest(), "big")
        vector[digest % dimensions] += (1 + math.log(times)) * (1 if digest >> 63 else -1)
    length = math.sqrt(sum(v * v for v in vector))
    return [v / length for v in vector] if length else [1.0] + [0.0] * (dimensions - 1)
