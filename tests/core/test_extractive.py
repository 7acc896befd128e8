"""The extractive brief: it fits, it is the same every time, and what matters is in it."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.context.brief import FoldJob, render_brief
from gateway.core.context.extractive import Turn, extract_brief
from gateway.core.context.fold import fold_extractive, frame_brief
from gateway.core.tokens.profiles import O200K, Profile
from gateway.shell.tokens.counter import TiktokenCounter
from tests.histories import contents, lumpy, per_four_chars, per_word

COUNTER = TiktokenCounter(1.3)
rules = st.sampled_from([per_four_chars, per_word, lumpy])
roles = st.sampled_from(["user", "assistant", "tool"])
turn_lists = st.lists(st.tuples(roles, contents), max_size=12).map(
    lambda found: [Turn(number, role, text) for number, (role, text) in enumerate(found, 1)]
)


def count(text: str) -> int:
    return COUNTER.count_here(Profile(O200K), text)


def count_brief(text: str) -> int:
    return count(text) + 4


@settings(max_examples=150, deadline=None)
@given(turns=turn_lists, earlier=turn_lists, max_tokens=st.integers(0, 600), rule=rules)
def test_it_never_takes_more_than_it_may(
    turns: list[Turn], earlier: list[Turn], max_tokens: int, rule: Callable[[str], int]
) -> None:
    """Line by line it is within the bound, with or without an earlier brief."""
    before = extract_brief("", earlier, max_tokens, rule)
    brief = extract_brief(before, turns, max_tokens, rule)

    assert sum(rule(line + "\n") for line in brief.splitlines()) <= max_tokens


@settings(max_examples=150, deadline=None)
@given(turns=turn_lists, max_tokens=st.integers(50, 600))
def test_every_line_names_its_turn_and_stands_in_it(turns: list[Turn], max_tokens: int) -> None:
    """Nothing is invented, nothing is moved; lines come in the order of the conversation."""
    by_number = {turn.number: turn for turn in turns}
    numbers = []
    for line in extract_brief("", turns, max_tokens, per_four_chars).splitlines():
        anchored = re.match(r"- \[(\d+) (\w+)\] ", line)
        assert anchored is not None
        turn = by_number[int(anchored[1])]
        numbers.append(turn.number)
        assert turn.role == anchored[2]
        assert line[anchored.end() :] in turn.text
    assert numbers == sorted(numbers)


@settings(max_examples=100, deadline=None)
@given(earlier=turn_lists, turns=turn_lists, max_tokens=st.integers(50, 600))
def test_lines_of_an_earlier_brief_keep_their_anchors(earlier: list[Turn], turns: list[Turn], max_tokens: int) -> None:
    """What stays of the brief before stays as it was, unless the same was said again."""
    later = [turn._replace(number=turn.number + len(earlier)) for turn in turns]
    before = extract_brief("", earlier, max_tokens, per_four_chars)
    both = {turn.number: turn.text for turn in [*earlier, *later]}
    for line in extract_brief(before, later, max_tokens, per_four_chars).splitlines():
        number = int(line.removeprefix("- [").split()[0])

        assert number > len(earlier) or line in before.splitlines()
        assert line.partition("] ")[2] in both[number]


def test_lines_without_anchors_are_kept_as_they_are() -> None:
    """A brief that a language model wrote has lines of its own form."""
    written = "Goal: migrate invoices to shard 4417.\nOpen: ask Anna about row 12."

    assert extract_brief(written, [], 100, per_four_chars) == written


def test_the_same_input_gives_the_same_bytes_in_any_process() -> None:
    """The order of sets changes from process to process; the brief does not."""
    script = (
        "from gateway.core.context.extractive import Turn, extract_brief\n"
        "turns = [Turn(n, 'user', f'The {w} of unit {n * 37} was {w}{n}, said Anna; {w} is fine.')"
        " for n in range(1, 120) for w in ('speed', 'weight', 'Länge', '速度')]\n"
        "print(extract_brief('', turns, 300, lambda text: len(text) // 4))\n"
    )
    outputs = set()
    for seed in ("1", "2", "3"):
        environment = {"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path), "PYTHONIOENCODING": "utf-8"}
        command = [sys.executable, "-c", script]
        outputs.add(subprocess.run(command, env=environment, capture_output=True, check=True).stdout)

    assert len(outputs) == 1
    assert len(outputs.pop()) > 500


# What matters is kept. Each chat is small talk in one language, in which facts and rules are planted.

CHATS = {
    "English": (
        [
            "I had a quiet weekend, mostly reading and a long walk by the river.",
            "The weather has been lovely, warm in the day and cool at night.",
            "My sister came over for dinner and we talked about old times.",
            "I have been thinking about learning to paint, maybe next year.",
        ],
        [
            "That sounds really nice! Spending time outside is always good for the mind.",
            "It is wonderful that you enjoy it. What did you like the most about it?",
            "Painting is a great hobby, and it is never too late to start something new.",
        ],
        [
            "Booking reference is QX7-4419, for 3 people.",
            "My passport number is E12345678.",
            "The rent is 1,250 EUR a month.",
        ],
        ["Never call me before 9 am.", "You must not mention this to Robert."],
    ),
    "Chinese": (
        [
            "周末过得很安静,主要是看书,然后在河边散步。",
            "最近天气很好,白天暖和,晚上凉快。",
            "我妹妹来吃饭,我们聊了很多以前的事情。",
            "我一直在想要不要学画画,也许明年吧。",
        ],
        [
            "听起来真不错!多在户外走走对身心都有好处。",
            "你喜欢就好。你最喜欢的是哪一部分呢?",
            "画画是很好的爱好,什么时候开始都不晚。",
        ],
        ["我的护照号码是E12345678。", "订单A-20391的金额是3280元。", "服务器地址是10.0.3.17。"],
        ["绝对不要在周五部署。", "所有报告必须用中文写。"],
    ),
    "Japanese": (
        [
            "週末は静かに過ごしました。本を読んで、川沿いを散歩しました。",
            "最近は天気がよくて、昼は暖かく夜は涼しいです。",
            "妹が夕食に来て、昔の話をたくさんしました。",
            "来年あたり絵を習ってみようかと考えています。",
        ],
        ["それはいいですね!外で過ごすのは心にもいいことです。", "楽しめたようで何よりです。何が一番よかったですか?"],
        ["予約番号はQX7-4419です。", "口座の残高は328000円です。", "会議は4月17日の15時からです。"],
        ["本番のデータは絶対に削除しないでください。", "返事は必ず日本語で書いてください。"],
    ),
    "Spanish": (
        [
            "El fin de semana fue tranquilo, sobre todo leyendo y paseando por el río.",
            "Hace muy buen tiempo, calor de día y fresco por la noche.",
            "Mi hermana vino a cenar y hablamos de los viejos tiempos.",
            "Estoy pensando en aprender a pintar, quizá el año que viene.",
        ],
        [
            "¡Qué bien suena! Pasar tiempo al aire libre siempre ayuda.",
            "Me alegra que lo disfrutes. ¿Qué fue lo que más te gustó?",
        ],
        [
            "El pedido 4471-AX cuesta 380 euros.",
            "Mi número de cliente es 90417.",
            "La cita es el 17 de abril con la doctora Ibarra.",
        ],
        ["Nunca borres la tabla de clientes.", "No uses la cuenta antigua."],
    ),
    "German": (
        [
            "Das Wochenende war ruhig, ich habe viel gelesen und war lange am Fluss spazieren.",
            "Das Wetter ist schön, tagsüber warm und nachts kühl.",
            "Meine Schwester kam zum Essen, und wir haben über alte Zeiten geredet.",
            "Ich überlege, ob ich malen lernen soll, vielleicht im nächsten Jahr.",
        ],
        [
            "Das klingt wirklich schön! Zeit im Freien tut immer gut.",
            "Wie schön, dass es dir gefällt. Was mochtest du am liebsten?",
        ],
        [
            "Die Vertragsnummer ist K-2291-7.",
            "Die Miete beträgt 1.250 Euro.",
            "Der Termin ist am 17.04.2026 bei Frau Özdemir.",
        ],
        ["Bitte ruf den Kunden niemals direkt an.", "Du musst alle Beträge netto angeben."],
    ),
    "Arabic": (
        [
            "كانت عطلة نهاية الأسبوع هادئة، قرأت كثيرا ومشيت قرب النهر.",
            "الطقس جميل هذه الأيام، دافئ في النهار وبارد في الليل.",
            "جاءت أختي للعشاء وتحدثنا عن الأيام القديمة.",
            "أفكر في تعلم الرسم، ربما في السنة القادمة.",
        ],
        ["يبدو ذلك رائعا! قضاء الوقت في الخارج مفيد دائما.", "يسعدني أنك استمتعت. ما أكثر شيء أعجبك؟"],
        ["رقم الحجز هو QX7-4419.", "المبلغ 3280 درهما.", "عنوان الخادم هو 10.0.3.17."],
        ["لا تستخدم الخادم القديم.", "يجب أن تكون كل التقارير بالعربية."],
    ),
    "code": (
        [
            "Can you have a look at this function and tell me what you think of it?",
            "```python\nfor item in items:\n    result.append(item)\n```",
            "It still fails in the same way as before, I am not sure why.",
            "Let us refactor that part later, it is fine for the time being.",
        ],
        [
            "Sure! The function looks fine in general, but it could be simplified a little.",
            "```python\nresult = list(items)\n```\nThis does the same in one line.",
            "Let me look at the output again and think about what could be wrong.",
        ],
        [
            "The failing test is tests/unit/test_parser.py::test_nested_quotes.",
            "Set MAX_RETRY_DELAY to 4500 in config/prod.yaml.",
            "The fix landed in commit 9f3c2ab7.",
        ],
        ["Do not change the public API of parse_header().", "Always run the linter before you commit."],
    ),
}


def chat_with(language: str, turns: int = 240) -> tuple[list[Turn], list[str], list[str]]:
    """A long chat of small talk with the facts, then the rules, planted at even distances; and both."""
    said, answered, facts, rules_ = CHATS[language]
    planted = [*facts, *rules_]
    chat = []
    for number in range(1, turns + 1):
        is_user = number % 2 == 1
        text = said[number // 2 % len(said)] if is_user else answered[number // 2 % len(answered)]
        text = f"{text} {said[(number * 7) % len(said)]}" if is_user else text
        if is_user and (number - 1) % (turns // len(planted)) < 2:
            place = (number - 1) // (turns // len(planted))
            text = f"{text} {planted[place]}" if place < len(planted) else text
        chat.append(Turn(number, "user" if is_user else "assistant", text))
    return chat, facts, rules_


@pytest.mark.parametrize("language", CHATS)
@pytest.mark.parametrize("folds", [1, 8], ids=["at once", "in eight folds"])
def test_facts_and_rules_survive_small_talk(language: str, folds: int) -> None:
    """Numbers, names, paths and rules of the user are in the brief, verbatim, however often it was folded again."""
    chat, facts, rules_ = chat_with(language)
    brief = None
    step = len(chat) // folds
    for start in range(0, len(chat), step):
        job = FoldJob(min(start + step, len(chat)), (), brief, tuple(chat[start : start + step]), 600)
        brief = fold_extractive(job, frame_brief(job, count, count_brief), count, count_brief)
        assert brief.tokens <= 600
    assert brief is not None
    text = render_brief(brief.segments)

    assert [fact for fact in facts if fact not in text] == []
    assert [rule for rule in rules_ if rule not in {quote.text for quote in brief.ledger}] == []


def test_a_pasted_book_does_not_crowd_out_the_conversation() -> None:
    """However long one message is, what was said around it is still told."""
    book = " ".join(
        f"Chapter {number} tells of house {number * 17} and its {number * 3} keepers." for number in range(2000)
    )
    chat = [
        Turn(1, "user", "The deadline is 2026-05-17 at noon."),
        Turn(2, "user", book),
        Turn(3, "assistant", "Read."),
    ]
    brief = extract_brief("", chat, 400, count)

    assert "2026-05-17" in brief


def test_the_time_for_thirty_thousand_tokens() -> None:
    """Printed, not asserted: it depends on the machine."""
    words = [f"{first}{second}" for first in ("re", "un", "over", "mis", "out") for second in ("take", "turn", "read")]
    turns = []
    for number in range(1, 400):
        seen = [words[(number * place * 31 + place) % len(words)] for place in range(1, 60)]
        lines = [
            f"The {' '.join(seen[at : at + 9])} of unit {number * at} was {number * 7919 % 997}."
            for at in range(0, 45, 9)
        ]
        turns.append(Turn(number, "user" if number % 2 else "assistant", " ".join(lines)))
    tokens = sum(count(turn.text) for turn in turns)
    started = time.perf_counter()
    brief = extract_brief("", turns, 1000, count)
    print(f"\nextract of {tokens} tokens in {len(turns)} turns: {(time.perf_counter() - started) * 1e3:.0f} ms")

    assert brief
