"""In place of the last stages: `DELETE /api/v1/sessions/{name}` forgets what a client's session has kept.

Its journal goes, and with it all briefs that were made for requests that named it, and all memories that were mined
from it. Other clients' sessions of that name are not seen. What a request that is still running leaves behind
afterwards is a new session.
"""

from __future__ import annotations

from gateway.core.context.journal import session_key
from gateway.core.errors import Refusal, invalid_request
from gateway.core.wire.overrides import is_session_name
from gateway.core.wire.paths import session_name_of
from gateway.exchange import Exchange
from gateway.ports import BriefStore, Journal
from gateway.remembering import Remembering


class ForgetSessionStage:
    """Answers 204, or says why not.

    Args:
        journal: of all sessions.
        briefs: of all clients.
        remembering: the store of memories; None where there is none.
    """

    def __init__(self, journal: Journal, briefs: BriefStore, remembering: Remembering | None = None) -> None:
        self._journal = journal
        self._briefs = briefs
        self._remembering = remembering

    async def __call__(self, exchange: Exchange) -> None:
        assert exchange.client is not None
        name = session_name_of(exchange.path)
        if not is_session_name(name):
            raise invalid_request("A session's name is 1 to 128 printable ASCII characters.", code="invalid_value")
        owner, key = exchange.client.scope, session_key(exchange.client.scope, name)
        remembering = self._remembering
        mined = await remembering.ask(lambda: remembering.store.delete_all(owner, session=key)) if remembering else 0
        gone = await self._journal.forget(key)
        if gone is None:
            message = f"The state store cannot be asked now; the session {name!r} may still be there. Try again."
            raise Refusal(503, "state_unavailable", message, retry_after_s=1)
        for scope in gone.brief_scopes:
            await self._briefs.forget(scope)
        if not gone.was_there and not mined:
            raise Refusal(404, "session_not_found", f"Nothing is kept of a session {name!r} of this client.")
        exchange.outcome.status = 204
        await exchange.outbound.start(204, [], 0)
        await exchange.outbound.end()
