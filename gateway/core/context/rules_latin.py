"""The forms of rules in other languages of Latin and Cyrillic letters, each with words without which it cannot stand.

Order matters: a sentence has the force of the first form that it has. Forms are written in lower case.
"""

from __future__ import annotations

import re

from gateway.core.context.rules_force import Force, forms_of

FORMS = forms_of(
    (
        Force.REVISION,
        "doch stattdessen jetzt sofort heute überlegt mehr vergiss",
        r"\b(?:doch (?:lieber|wieder|besser)|stattdessen|ab (?:jetzt|sofort|heute)|anders überlegt|nicht mehr"
        r" (?:nötig|verboten|gültig|verwenden|benutzen|erlaubt)|vergiss (?:das|was ich)|doch (?:erlaubt|nicht))\b",
    ),
    (
        Force.REVISION,
        "mejor partir opinión idea vez lugar pensándolo olvida ya final",
        r"\b(?:mejor (?:usa|usemos|utiliza|no|en)|a partir de ahora|(?:cambi[ée]|cambiado) de (?:opinión|idea)|en"
        r" (?:vez|lugar) de \w+,? (?:usa|utiliza|pon)|pensándolo mejor|olvida lo que|ya no (?:hace falta|es"
        r" necesario|está prohibido|uses|quiero)|al final (?:usa|usemos|sí|no|prefiero))\b",
    ),
    (
        Force.REVISION,
        "finalement désormais avis maintenant verdade agora ideia ora idea отныне передумал передумала момента",
        r"\b(?:finalement,? (?!il|elle|on a)|désormais|changé d['’]avis|à partir de maintenant|na verdade,? (?:use"
        r"|não)|de agora em diante|mudei de ideia|d['’]ora in poi|ho cambiato idea|отныне|я передумал[а]?|с этого"
        r" момента)\b",
    ),
    (
        Force.ORDER,
        "niemals unbedingt verboten untersagt fall darf dürfen darfst dürft durften bitte kein keine keinen nie "
        "immer nur",
        r"\b(?:niemals|unbedingt|verboten|untersagt)\b|\bauf (?:gar )?keinen fall\b|\b(?:du|sie|man|ihr)"
        r" d[aü]rf\w*\b.{0,60}\b(?:nicht|nur|kein\w*)\b|\bbitte\b.{1,60}\b(?:nicht|kein\w*|nur|immer|nie)\b"
        r"|\bd[aü]rf(?:en)?\b(?! doch).{0,50}\b(?:nicht|nur|höchstens|kein\w*)\b|^\W*(?:kein(?:e|en)?|nie|immer|nur)"
        r" (?!ahnung|problem|sorge|wunder|mensch|zeit|war|mal|wieder|einer|eine\b)",
    ),
    (
        Force.ORDER,
        "du ihr man soll sollen sollte sollten muss müssen verwende benutze benutz nutze antworte achte vergiss "
        "stell stelle stellt vermeide halte schreib schreibe schreibt",
        r"\b(?:du|ihr|man) (?:muss|musst|müssen|müsst|soll|sollst|sollen|solltest)\b(?!.{0,40}\b(?:sehen|lesen|hören"
        r"|probieren)\W*$)|\b(?:soll(?:en|te|ten)?|muss|müssen)\b(?! ich| wir).{0,60}\b(?:\w+ werden|enthalten"
        r"|bleiben|verwenden|nicht|kurz sein|haben|entsprechen)\W*$|(?:^\W*|[,;:] |\bbitte )(?:verwende|benutze?"
        r"|nutze|antworte|achte darauf|vergiss nicht|stell\w* sicher|vermeide|halte dich|schreib\w* .{0,30}(?:auf|in"
        r"|nur|immer|nie))\b",
    ),
    (
        Force.ORDER,
        "nunca jamás prohibido obligatorio debe debes deben tienes hay asegúrate bajo ninguna",
        r"\b(?:nunca|jamás)\b(?! (?:me|te|lo|la|le|se|nos)? ?(?:he|ha|has|hemos|han|había\w*|vi|supe|fui|\w+(?:é|í|ó"
        r"|aba|ía))\b)(?! \w+(?:é|í|ó|aba|ía|aron|ieron)\b)|\b(?:prohibido|obligatorio|no debes?(?! de)|(?:tú |usted"
        r" )debes?(?! de)|tienes que (?!ver|probar)|hay que|asegúrate|debes?n? (?:ser|estar|tener|incluir|usar\w*|ir"
        r"|quedar)|bajo ningún|de ninguna manera)\b",
    ),
    (
        Force.ORDER,
        "siempre no usa utiliza responde contesta evita mantén recuerda escribe solo sólo",
        r"(?:^\W*|[,;:] |\bpor favor,? )(?:siempre (?:usa|utiliza|responde|contesta|escribe|incluye|pon|mantén"
        r"|verifica|revisa|añade|ejecuta|cita|haz|pregunta|avisa|guarda|formatea|traduce|da|di)\b|no (?!(?:sabes"
        r"|tienes?|quieres|puedes|eres|crees|ves|vas|haces|tienen|saben|están|estas|entiendes|dejas|sales|pasas"
        r"|conoces|más|mas|las\b|los\b|es\b|antes|además|menos)\b)\w+(?:es|as|en|an)\b|(?:usa|utiliza|responde"
        r"|contesta|evita|mantén|recuerda|escribe(?= (?:en|siempre|solo)))\b|s[oó]lo (?:usa|utiliza|responde))",
    ),
    (
        Force.ORDER,
        "jamais interdit faut veuillez obligatoire proibido não vietato devi никогда нельзя запрещено обязательно "
        "используй используйте отвечай отвечайте не utilise utilises utilisez utiliser réponds répondez évite "
        "évitez use",
        r"\b(?:(?<!\bn['’]ai )(?<!\bn['’]est )(?<!\bn['’]a )jamais|interdit|il faut|veuillez|obligatoire|proibido"
        r"|não (?:deve|pode)|vietato|devi|никогда не (?!был|видел|слышал|знал|думал)|нельзя|запрещено|обязательно)\b"
        r"|(?:^\W*|[,;:] |\bпожалуйста,? )(?:используйте?|отвечайте?|не \w+(?:йте?|ите?)\b)|(?:^\W*|[,;:]"
        r" )(?:utilise[zr]?|réponds|répondez|évite[zr]?|use [oa]s?)\b",
    ),
    (
        Force.WISH,
        "ich mir liebsten lieber höchstens maximal",
        r"\b(?:ich bevorzuge|ich (?:möchte|will),? (?:nicht|kein\w*|dass|nur)|mir ist wichtig|(?:am liebsten|lieber)"
        r" \w+|höchstens \d+|maximal \d+)\b|\bich (?:esse|trinke|benutze|verwende) (?:nie|nur|kein\w*|immer)\b",
    ),
    (
        Force.WISH,
        "prefiero preferimos quiero máximo sumo únicamente solamente gustaría",
        r"\b(?:prefiero|preferimos|quiero que|no quiero (?:que|ver)|como máximo|a lo sumo|únicamente|solamente|me"
        r" gustaría que)\b",
    ),
    (
        Force.WISH,
        "préfère seulement uniquement toujours ne prefiro preferisco apenas somente soltanto предпочитаю только "
        "должен должны всегда",
        r"\b(?:je préfère|seulement|uniquement|toujours (?!été|aimé)|ne\b.{1,25}\bpas\W*$|prefiro|preferisco|apenas"
        r"|somente|soltanto|я предпочитаю|только (?!что)|должен|должны|всегда (?!был))\b",
    ),
)
NARRATIVE = re.compile(
    r"\b(?:er|sie|es|der|die|das) (?:muss|müssen|soll|sollen) .{0,40}\b(?:gewesen|gehabt|krank|sein müssen|wahr)"
    r" ?(?:sein|haben)?\W*$|\bdarf doch\b|\bich (?:war|bin|habe|hatte|musste|wollte)\b.{0,20}\b(?:nie|niemals|immer"
    r"|nur)\b"
).search
"""What is told of the past, of others, or as likely."""
