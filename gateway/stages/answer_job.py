"""In place of the last stages: `GET` and `DELETE /api/v1/vision/index/jobs/{id}` tell how far a job is, or end it."""

from __future__ import annotations

from gateway.core.vision.wire_told import told_job
from gateway.exchange import Exchange
from gateway.remembering import answer_json, owner_of
from gateway.seeing import Seeing, id_in_path, unknown


class AnswerJobStage:
    """Answers 200 with the job as it is then, or 404; a job that has ended stays as it was.

    Args:
        seeing: the store and its rules.
    """

    def __init__(self, seeing: Seeing) -> None:
        self._seeing = seeing

    async def __call__(self, exchange: Exchange) -> None:
        job_id, owner, seeing = id_in_path(exchange, "job"), owner_of(exchange), self._seeing
        is_end = exchange.method == "DELETE"
        job = await seeing.ask(seeing.jobs.cancel(owner, job_id) if is_end else seeing.store.job(owner, job_id))
        if job is None:
            raise unknown("job", job_id)
        await answer_json(exchange, told_job(job))
