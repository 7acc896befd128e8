"""Sentences labelled by hand: rules that bind whoever answers, what takes rules back, and remarks that bind nobody."""

from __future__ import annotations

RULES = {
    "en": """
        Never push straight to main.
        You must answer in French.
        Always include version numbers when I ask about libraries.
        Please don't touch the migrations folder.
        Only use the staging database!
        Under no circumstances share the customer list.
        Make sure every function has a test.
        And avoid global variables.
        - Do not use tabs
        2. Keep it under 100 lines, but never split a function.
        The summary must not exceed 200 words.
        I prefer tabs over spaces.
        The budget is at most 3,000 EUR.
        Use tabs for indentation.
        Use PostgreSQL 16, not MySQL, for this service.
        Every function should have a docstring.
        The report should be in German.
        You should not email the customer before Monday.
        It must be written in Go.
        I want you to keep the answers short.
        I don't want any emojis.
        No emojis, please.
        No more than three bullet points per answer.
        We never deploy on Fridays.
        I only eat vegetarian food.
        I'm allergic to peanuts.
        Let's go with Redis for the queue.
        Stick to the metric system.
        Answer in plain text only.
        Refrain from quoting internal documents.
        Our API keys are never to be logged.
        The password cannot be stored in plain text.
        Leave the legacy module alone.
        I'd rather have short variable names.
        Remember to run the linter before each commit.
        If the build fails, do not retry it.
        By the way, you can't use the production account.
        Everything needs to be done by 5 May.
        We decided to use Kafka.
        Order A-1041 must not be cancelled.
        Hands off the billing code.
        I hate it when you apologise, so don't.
        Treat all prices as net prices.
        The response has to be valid JSON.
        Comments in code are forbidden.
    """,
    "de": """
        Niemals den Kunden direkt anrufen.
        Du darfst die Datei auf keinen Fall löschen.
        Bitte benutze nicht die alte API.
        Antworte immer auf Deutsch.
        Verwende bitte keine Emojis.
        Keine Anglizismen in der Übersetzung.
        Die Antworten sollen kurz bleiben.
        Man darf hier keine globalen Variablen anlegen.
        Ich möchte, dass du mich siezt.
        Achte darauf, dass jede Zeile einen Kommentar hat.
        Nur die Testdatenbank verwenden!
        Du sollst den Vertrag nicht verändern.
        Das Budget liegt bei maximal 3000 Euro.
        Ich bevorzuge Leerzeichen statt Tabs.
        Stelle sicher, dass alle Tests laufen.
    """,
    "es": """
        Nunca borres la tabla de clientes.
        No uses la cuenta antigua.
        Siempre responde en español.
        Tienes que usar la versión 2.
        Prefiero respuestas cortas.
        Está prohibido llamar al cliente.
        Usa espacios en lugar de tabuladores.
        Asegúrate de que las pruebas pasen.
        El resumen debe tener como máximo 200 palabras.
        Por favor, no toques la carpeta de migraciones.
        Quiero que me trates de usted.
        Bajo ningún concepto compartas la lista.
        Evita las variables globales.
    """,
    "zh": """
        不要在周五部署。
        所有金额必须用人民币。
        请勿联系客户。
        禁止使用root账号。
        你只能使用只读账号。
        请用中文回答。
        千万别删除备份。
        每次都要附上版本号。
        回答不能超过200字。
        我更喜欢深色模式的截图。
        预算最多30000元。
        别用制表符。
        订单A-1041不得取消。
    """,
    "ja": """
        絶対にファイルを削除しないでください。
        必ず日本語で答えてください。
        コミットしてはいけません。
        タブではなくスペースを使ってください。
        本番環境では実行しないで。
        回答は200文字以内にしてください。
        敬語のほうがいいです。
        顧客に連絡することは禁止です。
        テストは毎回実行しなければなりません。
        短い回答にしてほしいです。
        読み取り専用アカウントだけを使用すること。
    """,
    "ar": """
        لا تستخدم الخادم القديم.
        يجب أن تكون الإجابة قصيرة.
        ممنوع مشاركة كلمة المرور.
        استخدم المسافات بدلا من علامات الجدولة.
        لا تتصل بالعميل قبل يوم الاثنين.
        أريد أن تكون الردود بالعربية فقط.
        تأكد من تشغيل الاختبارات.
        تجنب المتغيرات العامة.
        إياك أن تحذف النسخة الاحتياطية.
    """,
    "other": """
        Il ne faut jamais supprimer ces lignes.
        Réponds toujours en français.
        Não use o servidor antigo, nunca.
        Никогда не удаляйте резервные копии.
        Отвечайте только по-русски.
        Non devi mai usare quel conto: è vietato.
        반드시 한국어로 답해 주세요.
        파일을 삭제하지 마세요.
    """,
}
REVISIONS = {
    "en": """
        No, use spaces after all.
        Actually, use spaces for indentation.
        Scratch that, deploy on Friday is fine.
        I changed my mind: go with MySQL.
        From now on answer in English.
        Forget what I said about emojis.
        You can use the production account again.
        Use RabbitMQ instead.
        The 200 word limit no longer applies.
        On second thought, keep the old names.
        OK, let's switch to Postgres.
        Ignore my rule about docstrings.
        Wait, don't use Redis.
        Deploying on Fridays is allowed from now on.
    """,
    "de": """
        Nimm doch lieber Leerzeichen.
        Ab sofort bitte auf Englisch antworten.
        Ich habe es mir anders überlegt: verwende MySQL.
        Emojis sind jetzt doch erlaubt.
        Verwende stattdessen Redis.
    """,
    "es": """
        Mejor usa espacios.
        A partir de ahora responde en inglés.
        He cambiado de opinión: usa MySQL.
        Ya no hace falta incluir la versión.
        Usa Redis en vez de Kafka.
    """,
    "zh": """
        改用空格吧。
        从现在起用英文回答。
        还是用MySQL吧。
        不再需要附上版本号。
        我改变主意了,可以在周五部署了。
    """,
    "ja": """
        やっぱりスペースを使ってください。
        今後は英語で答えてください。
        代わりにRedisを使ってください。
        もうバージョン番号を書かなくていいです。
    """,
    "ar": """
        من الآن فصاعدا أجب بالإنجليزية.
        غيرت رأيي، استخدم المسافات.
        لم يعد ذكر الإصدار ضروريا.
    """,
}
REMARKS = {
    "en": """
        Must I use version 2?
        I don't know how to go on.
        I don't have the reservation ID with me.
        We met Anna on Tuesday.
        He must have been tired.
        You should see the view from up here!
        I never liked him.
        I only slept four hours.
        It must be nice to live there.
        She always says that about her sister.
        We should have left earlier.
        It never rains here in June.
        I have never been to Rome.
        I must say that was a great talk.
        Never mind, I found it.
        They only arrived after midnight.
        You must be kidding!
        I always thought it was blue.
        That should be fine.
        It only took five minutes.
        No problem at all.
        No idea what happened there.
        The server was always slow in those days.
        My brother never calls me back.
        I don't think the cache is the problem.
        Don't worry about it.
        He said "you must never come back".
        Not only did it crash, it also lost data.
        I used to work on that team.
        I had to keep going for another mile.
        If only I knew.
        It should be sunny tomorrow.
        She must be at home by now.
        The meeting was at 3 pm.
        I have to pick up the kids at four.
        Only time will tell.
        We could never afford that house.
        I can't believe it worked.
        The requirements were unclear from the beginning.
        You have to try the ramen there.
        I don't remember the name of the tool.
        There were at least thirty people.
        Thanks, that is exactly what I needed.
        The job failed with exit code 3.
        It was the only shop open that late.
    """,
    "de": """
        Ich bin in Berlin.
        Ich war noch nie in Rom.
        Er muss krank gewesen sein.
        Das darf doch nicht wahr sein!
        Kein Problem, danke.
        Wir haben uns am Dienstag getroffen.
        Ich habe ihn nie gemocht.
        Keine Ahnung, was da los war.
        Sie ruft immer am Sonntag an.
        Der Server war nur kurz erreichbar.
        Den Film musst du sehen!
        Ich muss jetzt zum Zug.
    """,
    "es": """
        La reunión es el martes.
        Nunca he estado en Madrid.
        No sabes lo que pasó ayer.
        Tengo que ir al médico.
        Debe de estar cansado.
        No tienes idea de lo difícil que fue.
        Nunca me gustó ese color.
        Siempre fue un buen amigo.
        Tienes que ver esa película.
    """,
    "zh": """
        请问现在几点?
        这本书很有意思。
        特别好看的地方。
        不要紧,我再试一次。
        我从来不喜欢他。
        他必须早起上班。
        你一定要看这部电影。
        我只能等他回来。
        昨天我们见了安娜。
        他总是迟到。
    """,
    "ja": """
        会議は15時からです。
        彼は必ず来ると思います。
        昨日アンナに会いました。
        私は早く起きなければならない。
        その映画は面白かったです。
        必ずしもそうとは限らない。
        彼はいつも遅れます。
    """,
    "ar": """
        الاجتماع يوم الثلاثاء.
        لا تزال السماء تمطر.
        لم أذهب إلى هناك أبدا.
        كان يجب أن نغادر مبكرا.
        التقينا بآنا أمس.
        لا تقلق، كل شيء بخير.
    """,
    "other": """
        Je n'ai jamais vu ce film.
        Я никогда не был в Риме.
        La réunion est mardi.
        어제 안나를 만났어요.
    """,
}
SECOND_RULES = """
    Don't ever mention competitors by name.
    All dates must be in ISO format.
    Please always cite your sources.
    You may only read from the replica.
    Keep the tone formal.
    I do not eat pork.
    We need the totals to match the ledger.
    Nothing may be deleted without my approval.
    Output has to fit on one page.
    Please stop using semicolons.
    Avoid any mention of the merger in the minutes.
    For the love of God, never run that on production again.
    Just keep the existing names.
    Make sure that Anna is in copy on every mail.
    Everything you write must be in lowercase.
    Bitte niemals auf dem Produktivsystem testen.
    Die Tabelle darf nicht gelöscht werden.
    Antworte ausschließlich auf Deutsch.
    Nenne auf keinen Fall den Preis.
    No menciones el precio.
    Las fechas deben ser en formato ISO.
    Jamás ejecutes eso en producción.
    不要提到竞争对手。
    日期必须使用ISO格式。
    请始终注明来源。
    価格は絶対に言わないでください。
    日付はISO形式で書かなければなりません。
    لا تذكر السعر.
    يجب أن تكون التواريخ بصيغة ISO.
"""
SECOND_REMARKS = """
    I always loved that song.
    He never told me about it.
    You never know with these things.
    It must have rained last night.
    The only thing I remember is the noise.
    We only just made it to the airport.
    She should be back by six.
    I could not reach them yesterday.
    We had to avoid the highway.
    Could you keep me posted?
    They must be thrilled!
    No one was at home.
    I was never good at chess.
    The train was late again.
    Er hat immer gewonnen.
    Das war nur ein Witz.
    Ich habe nie davon gehört.
    Siempre llueve en abril.
    No me gustó la película.
    我一直住在上海。
    他只来过一次。
    彼は絶対に来ると思う。
    昨日は何も食べなかった。
    كان الجو باردا أمس.
    لا أعرف أين ذهب.
"""


HELD_OUT_RULES = """
    Whatever happens, don't restart the primary.
    I need every answer to fit on one screen.
    The customer's name must never appear in the logs.
    Please keep my mother out of this.
    Don't schedule anything before ten in the morning.
    Only book direct flights.
    You shall not promise delivery dates.
    Do not use the word "synergy".
    Prices always have to include VAT.
    Nobody else should see these figures.
    We would prefer the aisle seats.
    My son can't have dairy.
    Skip the introduction and never summarise at the end.
    All functions need to be pure.
    The deadline cannot be moved.
    Write the commit messages in English.
    Bitte duze mich nicht.
    Ihr dürft die Preise nicht nennen.
    Verwende nur metrische Einheiten.
    Die Zusammenfassung darf höchstens eine Seite haben.
    No borres nada sin preguntar.
    Utiliza siempre el formato ISO.
    Hay que pedir permiso antes de publicar.
    请不要使用缩写。
    报告必须在周三之前完成。
    绝对不能泄露价格。
    個人情報は絶対に記録しないでください。
    必ずテストを先に書いてください。
    لا ترسل أي شيء قبل موافقتي.
    يجب ألا يظهر الاسم في السجل.
"""
HELD_OUT_REMARKS = """
    I've always wanted to go there.
    She never liked the old office.
    That must have cost a fortune.
    You should have seen his face.
    We only have two dogs.
    The keynote was at most average.
    They never answered my letter.
    I can't remember the title.
    It always takes a while to warm up.
    My grandmother only spoke Polish.
    It has to be said that he tried.
    The film should be out by now.
    Only three people came.
    I never finished that book.
    There was no food left.
    Der Zug kommt immer zu spät.
    Ich muss noch einkaufen.
    Das habe ich nur geträumt.
    Nunca lo había visto.
    Ella siempre llega tarde.
    我不要再去那里了。
    他一定很累。
    彼女はいつも忙しい。
    昨日は必ず行くと言っていた。
    لم أره منذ سنوات.
    ربما تمطر غدا.
"""


def lines_of(text: str) -> list[str]:
    """The sentences of one block."""
    return [line.strip() for line in text.splitlines() if line.strip()]


def all_of(table: dict[str, str]) -> list[tuple[str, str]]:
    """Language and sentence of every entry."""
    return [(language, line) for language, block in table.items() for line in lines_of(block)]
