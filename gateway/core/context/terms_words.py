"""Words that say nothing of what a text is about, and endings that do not change it, by language.

Function words only: what is left out here can never be found again, so nouns, numbers and names are never in it.
"""

from __future__ import annotations

STOP_WORDS = frozenset(
    # English
    """a about above after again against all also am an and any are as at be because been before being below between
    both but by can could did do does doing down during each either for from further get got had has have having
    he her here hers herself him himself his how i if in into is it its itself just let like me more most much
    my myself no nor not of off oh ok okay on once only onto or other ought our ours ourselves out over own
    please really same shall she should so some such than that the their theirs them themselves then there these
    they this those through to too under until up us very was we were what when where which while who whom whose
    why will with would yeah yes you your yours yourself yourselves

    s t d ll ve re isn aren wasn weren don doesn didn haven hasn hadn won wouldn couldn shouldn ain mustn needn

    aber als am an auch auf aus bei bin bis bist da damit dann das dass dein deine dem den denn der des die dies diese
    dieser dieses doch dort du durch ein eine einem einen einer eines er es euch euer für hab habe haben hat hatte
    hatten hier ich ihm ihn ihnen ihr ihre im in ist ja jede jeder jetzt kann kannst kein keine können mein meine mich
    mir mit muss nach nicht noch nun nur ob oder ohne schon sehr sein seine sich sie sind so soll um und uns unser
    unter vom von vor war waren warum was wann weil wem wen wenn wer werden wie wieder wir wird wo wurde würde zu zum
    zur über

    al algo ante aquel como con cual cuando cuándo cuál cómo de del desde donde dónde el él ella ellas ellos en entre
    era eres es esa ese eso esta está estaba están este esto estoy fue ha había han hasta hay la las le les lo los me
    mi mis muy más ni no nos o para pero por porque qué que quien quién se ser si sí sin sobre son soy su sus también
    te tengo tiene tu tus un una unas uno unos y ya yo

    à au aux avec ce ces cette dans de des du elle en est et eu il ils je la le les leur lui ma mais me même mes moi
    mon ne nos notre nous on ou où par pas pour qu que quel quelle qui quand quoi sa se ses son sont sur ta te tes toi
    ton tu un une vos votre vous

    ao as com da das do dos ele ela em essa esse eu foi isso isto mas meu minha na nas não nem no nos os ou pelo pela
    por quando quem são sem seu sua também tem um uma você che chi ci da dal dalla dei del della di e ed gli ho il io
    lei loro lui ma mi mia mio nel nella non o per perché più qual quale quando quello questa questo sono sta sul sulla
    tra un una uno

    а без был была были было бы в вас во вот все вы где для до его ее если есть еще же за и из или им их к как ко когда
    кто ли меня мне мой моя мы на над не него нее нет ни но о об он она они от по под при с со так там то тоже только
    ты у уже что чтобы эта это этот я

    في من على إلى عن مع هذا هذه ذلك تلك التي الذي ما ماذا متى أين كيف هل لا لم لن كان كانت هو هي هم أنا أنت نحن أن
    إن أو ثم قد كل بعد قبل عند لي لك له لها""".split()  # noqa: SIM905 - one list of words in several lines
)

ENDINGS: tuple[tuple[str, str], ...] = (
    # English, and the plurals of the Romance languages; the longest that fits is taken off.
    ("ational", "ate"),
    ("fulness", "ful"),
    ("iveness", "ive"),
    ("ization", "ize"),
    ("ically", "ic"),
    ("ations", "ate"),
    ("ation", "ate"),
    ("ments", "ment"),
    ("sses", "ss"),
    ("ness", ""),
    ("ings", ""),
    ("ies", "y"),
    ("ied", "y"),
    ("ing", ""),
    ("ers", "er"),
    ("ed", ""),
    ("ly", ""),
    ("es", ""),
    ("s", ""),
)

ARABIC_HEADS = ("وال", "بال", "كال", "فال", "لل", "ال", "و")
ARABIC_TAILS = ("ات", "ون", "ين", "ان", "ها", "هم", "ية", "ه", "ة", "ي")
