"""The forms of rules in English, each with the words without which it cannot stand.

Order matters: a sentence has the force of the first form that it has. Forms are written in lower case.
"""

from __future__ import annotations

import re

from gateway.core.context.rules_force import Force, forms_of

_CLAUSE = r"(?:^\W*(?:\d+[.)]\s*)?|[,;:–—] ?|\b(?:please|you|and|but|so|then|should|just|also|no,) )"
_PAST = (
    r"(?:\w+ed|been|went|saw|had|knew|thought|got|was|were|did|said|made|felt|met|found|came|took|slept|heard|read|ate|gave"
    r"|understood|told|left|kept|bought|lost|spent|ran|wrote|began|seen|done|gone)\b"
)
FORMS = forms_of(
    (
        Force.REVISION,
        "scratch mind minds thought thoughts take correction now immediately strike forget ignore disregard drop "
        "cancel undo lift reverse revoke",
        r"\b(?:scratch that|change[d]? (?:my|our) minds?|on second thoughts?|i take (?:that|it) back|correction:"
        r"|from now on|effective immediately|strike that)\b|\b(?:forget|ignore|disregard|drop|cancel|undo|lift"
        r"|reverse|revoke) (?:about )?(?:what i said|(?:that|the|my) (?:\w+ ){0,3}(?:rule|ban|restriction|limit"
        r"|constraint|requirement|instruction|decision|preference|policy))",
    ),
    (
        Force.REVISION,
        "all",
        r"\bafter all\b(?=.*\b(?:use|keep|go|make|do|don['’]t|let['’]s|switch|put|write|answer|can|may|should|must"
        r"|allowed|fine|ok|okay|prefer|want)\b)|\b(?:use|keep|go|make|don['’]t|let['’]s|switch|put|write|answer|can"
        r"|may|should|must|allowed|fine|ok|okay|prefer|want)\b.*\bafter all\b",
    ),
    (
        Force.REVISION,
        "instead actually no wait hmm ok okay",
        r"(?:^\W*|[,;:] )(?:use|keep|go with|make it|let['’]s|switch|put|write|answer|do)\b.*\binstead\b"
        r"|^\W*(?:actually|no|wait|hmm|ok|okay)\b[,.! ]{1,3}(?:(?:no|wait|actually|please|rather|better|just)[,"
        r" ]{1,2}){0,3}(?:use|keep|go with|go back|make it|let['’]s|switch|do(?:n['’]t| not)?\b|you (?:can|may"
        r"|should|must)|i(?:['’]d)? (?:prefer|want|rather)|we(?:['’]ll| will| should)? (?:use|go|switch)|never"
        r"|always|drop|back to)\b",
    ),
    (
        Force.REVISION,
        "you longer not allowed fine ok okay permitted",
        r"\byou (?:can|may|are allowed to)\b(?! not).*\b(?:now|again|after all|from now on)\b|\b(?:no longer"
        r"|not)\b.{0,40}\b(?:appl(?:y|ies)|required|needed|necessary|forbidden|matters?)\b(?: any ?more)?|\b(?:is"
        r"|are) (?:now |again )?(?:allowed|fine|ok|okay|permitted) (?:now|again|after all|from)\b",
    ),
    (
        Force.ORDER,
        "never always only do don avoid make ensure be remember at no refrain stop under stick keep use leave limit "
        "treat answer reply respond write comment",
        _CLAUSE
        + (
            r"(?:never(?! ?mind\b)|always|only(?! (?:then|once|after|recently|one|\d|two|three|if|when|because))|do"
            r" not|don['’]t(?! (?:know|remember|have|think|understand|mind|see|feel|worry|get me wrong|you|we|they"
            r"|want|like))|avoid|make sure|ensure|be sure to|remember (?:to|that)|at most|no more than|refrain from"
            r"|stop \w+ing|under no|stick (?:to|with)|keep (?!going|on\b|up\b|me posted|in touch|track"
            r"|an? (?:close )?eye)|use (?!to\b)|leave"
            r" \w+.{0,30}\balone|limit|treat|(?:answer|reply|respond|write|comment)\b[\w ]{0,40} in \w+)\b"
        ),
    ),
    (
        Force.ORDER,
        "must mustn",
        r"(?<!\bi )(?<!['’]ve )\bmust(?:n['’]t| not)?\b(?! (?:have|['’]ve)\b)(?! be (?:so|very|really|quite|such"
        r"|nice|hard|tough|fun|great|tired|proud|kidding|joking|exhaust\w+|lonely|difficult|wonderful|amazing"
        r"|mistaken|wrong|right|crazy|hungry)\b)",
    ),
    (
        Force.ORDER,
        "circumstances allowed permitted forbidden prohibited mandatory off required never exceptions hands nothing "
        "nobody no none",
        r"\b(?:under no circumstances|not allowed|not permitted|forbidden|prohibited|(?:is|are) (?:mandatory|off[-"
        r" ]limits|required)|(?:is|are) never to be|no exceptions|hands off)\b|\b(?:nothing|nobody|no one|none)"
        r" (?:[\w ]{0,30})?\b(?:may|must|should|shall|can be)\b",
    ),
    (
        Force.ORDER,
        "you",
        r"\byou (?:shall|should(?:n['’]t| not| never| always| only)|cannot|can['’]t(?! imagine| believe)|may not|may"
        r" only|are (?:not )?to|have to (?!see|hear|try|visit|meet|come)|need to (?!see|hear|try|visit|meet|come))\b",
    ),
    (
        Force.ORDER,
        "should",
        r"(?<!\bi )(?<!\bwe )(?<!\bhe )(?<!\bthey )(?<!\bshe )\bshould (?:not|never|always|only|(?<!you should"
        r" )(?<!it should )(?:be (?!fine|ok|fun|good|great|sunny|easy|proud)|have (?:an?|the|no|at|only|its|one|two"
        r"|\d)|use|contain|include|stay|remain|start|end|match|support|return|follow|go to|go in))",
    ),
    (
        Force.ORDER,
        "no",
        r"^\W*no (?!problem|worries|idea|thanks?|one|way|wonder|matter|doubt|need|longer|kidding|clue|luck"
        r"|rush)(?!.*\b(?:was|were|has|have|had|did|is|are|came|know|i|lo|la|el|que|de|me|te|se|un|una|los|las|es"
        r"|por|tengo|puedo)\b)[\w-]+(?:,? [\w'’-]+){0,7}\W*$",
    ),
    (
        Force.ORDER,
        "i we",
        r"\b(?:i|we) (?:want|need|expect|would like|['’]d like) (?:you to|(?:it|them|this|that|everything|all"
        r"|(?:every|each|any|the) \w+|my \w+|your \w+) (?:to|in)\b)|\b(?:i|we) (?:don['’]t|do not) want (?:you|it"
        r"|them|any|the|my|to see)\b",
    ),
    (
        Force.WISH,
        "prefer rather preference preferable preferably",
        r"\b(?:i|we)(?:['’]d| would)? (?:strongly |really |much )?(?:prefer|rather)\b|\bmy preference\b"
        r"|\bpreferabl[ey]\b",
    ),
    (
        Force.WISH,
        "never always only",
        r"\b(?:i|we) (?:never|always|only) (?!" + _PAST + r"|wish|knew|hope|wonder|just|ever|have (?!to\b))\w+",
    ),
    (
        Force.WISH,
        "we our",
        r"\bwe (?:do not|don['’]t) (?!know|have|think|understand|mind|remember|see|want to)\w+|\bour \w+ (?:is|are)"
        r" (?:never|only)\b",
    ),
    (
        Force.WISH,
        "budget limit deadline maximum minimum cap length size price cost rate timeout most more",
        r"\b(?:budget|limit|deadline|maximum|minimum|cap|length|size|price|cost|rate|timeout)\b.{0,40}\b(?:at most"
        r"|at least|no more than|not exceed|is fixed|is hard|up to)\b|(?<!took )(?<!was )(?<!were )(?<!spent"
        r" )(?<!had )(?<!cost )\b(?:at most|no more than) \d",
    ),
    (
        Force.WISH,
        "i we my require required requires",
        r"\b(?:i|we) (?:really )?(?:(?:don['’]t|do not) (?:like|eat|drink|want)|dislike|hate|can['’]t (?:stand|eat"
        r"|have|tolerate))\b|\bi(?:['’]m| am) (?:allergic|vegan|vegetarian|lactose|gluten|intolerant)\b|\bmy \w+"
        r" (?:can['’]t|cannot|does(?:n['’]t| not)) (?:have|eat|drink)\b|\brequire[sd]?\b(?! a lot)",
    ),
    (
        Force.WISH,
        "let we i",
        r"\b(?:let['’]s|we(?:['’]ll| will)) (?:not |always |never |only )?(?:go with|use|stick|keep (?!in touch)"
        r"|avoid)|\b(?:i|we)(?:['’]ve| have)? (?:decided|agreed) (?:on|that|to (?:use|keep|go with|stick|drop|switch"
        r"|not))\b",
    ),
    (
        Force.WISH,
        "can cannot need needs has have",
        r"(?<!\bi )(?<!\bwe )(?<!\bhe )(?<!\bshe )(?<!\bthey )(?<!\bit )(?:can['’]t|cannot) (?:be (?!serious|real"
        r"|happening)|exceed|use|contain|include|go over)\b|(?<!\bi )(?<!\bhe )(?<!\bshe )(?<!\bwe )(?<!\bthey"
        r" )(?<!\byou )\b(?:needs?|ha(?:s|ve)) to (?:be (?!honest|careful)|fit|stay|match|include|contain|end|start"
        r"|remain|run|work|pass|use)\b",
    ),
)
NARRATIVE = re.compile(
    r"\b(?:said|says|told \w+|wrote|claims?|reads?|states?)\b[^\"“]{0,20}[\"“]"
    r"|\b(?:he|she|they|it|who|nobody|everyone|my \w+|his \w+|her \w+|their \w+) (?:\w+n['’]t |has |have |had |was "
    r"|were |is |are |will |just |almost )?(?:never|always|only|must|has to|have to) (?!not\b|be \w+(?:ed|en)\b|be"
    r" (?:in (?!town|bed)|an?\b|between|under|below)|use|contain|include|return|stay|exceed|run|work|match|end|start)"
    r"|\bi(?:['’]ll| will| can| could| would) (?:also |just |always )?(?:keep|use|avoid|stick|make sure|ensure)\b"
    r"|\b(?:never|always|only)\b (?:ever )?(?:have|has|had) (?:i|we|he|she)\b|\byou (?:must|should|have to|need to)"
    r" (?:really )?(?:see|hear|try|visit|meet|come|taste|watch|be (?:so|very|kidding|joking|proud|tired))\b|\bif"
    r" only\b|\bonly time will\b|\bnot only\b|\byou never know\b|\b(?:they|he|she|we|you|there) must be (?!\w+ed by)"
).search
"""What is told of the past, of others, or as likely."""
