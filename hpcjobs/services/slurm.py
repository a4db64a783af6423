"""Slurm, by its REST service: slurmrestd of Slurm 22.05 and all that came after.

What is said of it here was measured on 22.05, 24.11 and 26.05. How it is spoken to is in
:mod:`hpcjobs.services.slurm_rest`, looking at jobs in :mod:`hpcjobs.services.slurm_looking`, and what differs between
its versions in :mod:`hpcjobs.services.slurm_versions`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from hpcjobs.actions import JobUpdate, RetryOutcome, RetryResult, UpdateOutcome, UpdateResult
from hpcjobs.arrays import ArrayInfo, ArrayOrder
from hpcjobs.errors import (
    PASSING,
    AuthenticationError,
    Conflict,
    InvalidRequest,
    JobNotFound,
    PermissionDenied,
    ServiceError,
    TransportError,
)
from hpcjobs.lifecycle import JobState
from hpcjobs.models import CancelOutcome, CancelResult, Capabilities, JobInfo, JobSpec
from hpcjobs.protocol import Op, each
from hpcjobs.services import slurm_comment
from hpcjobs.services.repeating import patiently, until_found
from hpcjobs.services.slurm_answers import BUSY, ENDED, NO_SUCH_JOB, NOT_NOW, notices
from hpcjobs.services.slurm_looking import CHUNK, SlurmLooking, parts_of
from hpcjobs.services.slurm_records import num
from hpcjobs.services.slurm_requests import array_request_of, begin_of, request_of, signal_name, sum_of_asked

Record = Mapping[str, Any]

IGNORED = "Ignoring unknown field"
"""How slurmrestd says that it lost what was asked."""

OPERATORS = frozenset({"root", "slurm"})
"""Who may cancel anybody's jobs, where there is no accounting that says so of others."""

BUSY_PAUSES = (0.05, 0.1, 0.1, 0.2, 0.2, 0.3, 0.3, 0.5, 0.5, 1.0, 1.0)
"""Seconds before a request is sent again for which Slurm was too busy."""

JUST_SEEN = 10.0
"""Seconds for which a look at a job is recent enough to act on: whose it is never changes."""


class SlurmService(SlurmLooking):
    """One cluster, by its slurmrestd.

    Args:
        url: ``slurm+http://host:6820``, ``slurm+https://host`` or ``slurm+unix:///path/to/socket``.
        token: The token (a JWT), or what returns one: called again before it ends. None for ``SLURM_JWT`` of the
            environment; behind a unix socket none is needed where slurmrestd knows its callers by their user id.
        username: Who is meant; None for whom the token names, else for who runs this program.
        api: The version, ``"v0.0.42"``; None for the newest that is served and understood.
        folder: Where jobs start unless they say otherwise: a folder that is there on the nodes. None for the present
            one behind a unix socket, as ``sbatch`` has it; elsewhere it cannot be known, and must be said.
        account: What is charged unless a job says otherwise.
        partition: Where jobs run unless they say otherwise.
        qos: The quality of service unless a job says otherwise.
        min_poll: Seconds between two looks at least, where the cluster's operators want it.

    Raises:
        ConfigError: The address or an option makes no sense, or there is no token.

    Example:
        >>> service = SlurmService("slurm+http://head:6820", token="e30.e30.c2ln", username="me", api="v0.0.42")
        >>> next(service.get("17")).path
        '/slurm/v0.0.42/job/17'
    """

    capabilities = Capabilities.model_construct(
        cancel_reason=True,
        bulk_cancel=CHUNK,
        bulk_get=CHUNK,
        arrays=True,
        dependencies=True,
        update=True,
        find_within=20.0,
        min_poll=1.0,
    )

    # Submitting

    def submit(self, spec: JobSpec, key: str) -> Op[JobInfo]:
        """Ask for a job; the key travels in its comment, by which it is found again after a lost answer.

        Raises:
            InvalidSpec: What is asked for has no place in Slurm, or would not run; nothing was sent.
            InvalidRequest: Slurm refuses it.
        """
        api = yield from self.served()
        number, remarks = yield from self._send(request_of(spec, key, api, self.defaults), key)
        return (yield from self._made(number, remarks))

    def submit_array(self, order: ArrayOrder, key: str) -> Op[tuple[ArrayInfo, list[JobInfo]]]:
        """Ask for an array of Slurm's own: one script, in which each task finds its command.

        Raises:
            InvalidSpec: What is asked for has no place in Slurm, or would not run; nothing was sent.
            InvalidRequest: Slurm refuses it: it may have more tasks than the cluster's MaxArraySize.
            Conflict: The key was used for another job.
        """
        api = yield from self.served()
        body = array_request_of(order, key, api, self.defaults)
        number = yield from self._array_of_key(order, key)
        if number is None:
            try:
                number, _ = yield from self._send(body, key)
            except (TransportError, ServiceError) as error:
                if not error.may_have_acted:
                    raise
                number = yield from self._adopted(order, key)
                if number is None:
                    raise
        number, _, jobs = yield from self._array(number)
        items = order.over or [None] * len(jobs)
        jobs = [
            job.model_copy(update={"item": items[index]})
            for job in jobs
            if (index := job.array_index) is not None and index < len(items)
        ]
        size = order.size or len(items)
        info = (yield from self.array(number)).model_copy(update={"size": size})
        return info, jobs

    def _array_of_key(self, order: ArrayOrder, key: str) -> Op[str | None]:
        """The array that was made with a key.

        Raises:
            Conflict: The key was used for another job.
        """
        known = yield from self.find(key)
        if known is None:
            return None
        told = slurm_comment.read((known.spec or {}).get("comment"))
        if told.sum and told.sum != sum_of_asked(order):
            raise Conflict(f"the key {key!r} was used for another job, {known.id}; use another one", status=409)
        return parts_of(known.id)[0]

    def _adopted(self, order: ArrayOrder, key: str) -> Op[str | None]:
        """Look an array up whose answer was lost, for as long as it may take to appear."""
        return until_found(
            lambda: self._array_of_key(order, key), within=self.capabilities.find_within, passing=PASSING
        )

    def asked_for(self, info: JobInfo, spec: JobSpec, key: str) -> bool:  # noqa: ARG002
        """Whether a job that was found by ``key`` is the one that ``spec`` asks for."""
        told = slurm_comment.read((info.spec or {}).get("comment"))
        return not told.sum or told.sum == sum_of_asked(spec)

    def _send(self, body: Mapping[str, Any], key: str) -> Op[tuple[str, list[str]]]:
        """Submit, once; the job's number, and what Slurm remarks."""
        try:
            answer = yield from self._post(body)
        except AuthenticationError as error:
            if error.code != "5005":
                raise
            # an old version says so of a dead token, and of a controller that died on the way: which it was, and
            # whether there is a job, is told by a look, for which the token is renewed
            if (known := (yield from self.find(key))) is not None:
                return parts_of(known.id)[0], []
            answer = yield from self._post(body)
        remarks = notices(answer)
        number = num(answer.get("job_id")) or 0
        if number <= 0:
            raise InvalidRequest(
                f"Slurm has made no job: {'; '.join(remarks) or 'it does not say why'}", status=200, body=answer
            )
        ignored = [text for text in remarks if text.startswith(IGNORED)]
        if ignored:  # it would run, and not as it was asked for: the same must not be paid for twice
            try:
                yield from self.ask("DELETE", f"job/{number}", strict=False)
                came = f"job {number} was cancelled"
            except (TransportError, ServiceError) as error:
                came = f"job {number} was to be cancelled, and may run (cancel it: {error})"
            raise InvalidRequest(
                f"Slurm ignores a part of what was asked for, so {came}: {'; '.join(ignored)}. "
                "Leave it out of options=, or fix the version by api=",
                status=200,
                body=answer,
            )
        self._memory.bind(key, str(number))
        return str(number), remarks

    def _post(self, body: Mapping[str, Any]) -> Op[dict[str, Any]]:
        return self.ask("POST", "job/submit", json=body, repeatable=False, strict=False)

    def _made(self, number: str, remarks: Sequence[str]) -> Op[JobInfo]:
        """A job that was accepted: a look that fails now must not hide it."""
        try:
            info = yield from self.get(number)
        except (TransportError, ServiceError):
            info = JobInfo(id=number, state=JobState.QUEUED, native_state="PENDING", owner=self.user)
        if remarks and info.reason is None and not info.terminal:
            return info.model_copy(update={"reason": "; ".join(remarks)})
        return info

    # Cancelling

    def cancel(self, ids: Sequence[str], *, reason: str | None, abort: bool, delete: bool) -> Op[list[CancelResult]]:  # noqa: ARG002
        """Cancel jobs, and look at each afterwards: what Slurm answers says little of the job.

        The reason goes into the job's comment. Another user's job is NOT_FOUND among many, and an error if it is alone:
        some versions of Slurm hang for good when they are asked for it, so that they are not.

        Raises:
            PermissionDenied: The one job that is asked for is another user's.
        """
        api = yield from self.served()
        before = yield from self._seen(ids)
        results: dict[str, CancelResult] = {}
        active: dict[str, JobInfo] = {}
        for job_id in dict.fromkeys(ids):
            info = before.get(job_id)
            if info is None or not self._may_cancel(info):
                if info is not None and len(ids) == 1:
                    raise _foreign(info, self.user)
                results[job_id] = _result(job_id, CancelOutcome.NOT_FOUND, reason)
            elif info.terminal:
                results[job_id] = _result(job_id, CancelOutcome.ALREADY_TERMINAL, reason, info, info)
            else:
                active[job_id] = info
        targets = yield from self._whole_arrays(active)
        kept: dict[str, bool] = {}
        for target, covered in targets.items():
            told = reason is not None and (yield from self._write_reason(target, reason))
            kept.update(dict.fromkeys(covered, told))
        for target in (yield from self._stop(list(targets), many=api.cancels_many, alone=len(ids) == 1)):
            results.update((job_id, _result(job_id, CancelOutcome.NOT_FOUND, reason)) for job_id in targets[target])
        for job_id in active:
            self._memory.ask(job_id, reason)
        asked = [job_id for job_id in active if job_id not in results]
        after = {info.id: info for info in (yield from self.get_many(asked)).items} if asked else {}
        for job_id in asked:
            results[job_id] = self._came_of(active[job_id], after.get(job_id), reason, kept=kept.get(job_id, False))
        return [results[job_id] for job_id in ids]

    def _seen(self, ids: Sequence[str]) -> Op[dict[str, JobInfo]]:
        """The jobs as they are; a look that was a moment ago is enough, because whose a job is never changes."""
        seen: dict[str, JobInfo] = {}
        for job_id in ids:
            known = self._memory.known(job_id)
            if known is not None and self._memory.age(known) < JUST_SEEN and not known.info.terminal:
                seen[job_id] = known.info
        if unseen := [job_id for job_id in ids if job_id not in seen]:
            seen.update((info.id, info) for info in (yield from self.get_many(unseen)).items)
        return seen

    def _whole_arrays(self, active: Mapping[str, JobInfo]) -> Op[dict[str, list[str]]]:
        """What is to be asked for, and what each covers: jobs, and arrays of which all tasks that go on are meant."""
        targets = {job_id: [job_id] for job_id in active}
        tasks: dict[str, list[str]] = {}
        for job_id, info in active.items():
            if info.array_id is not None:
                tasks.setdefault(info.array_id, []).append(job_id)
        for number, named in tasks.items():
            if len(named) < 2 or number in targets:
                continue
            _, _, every = yield from self._array(number)
            if {task.id for task in every if not task.terminal} <= set(named):
                for job_id in named:
                    del targets[job_id]
                targets[number] = named
        return targets

    def _stop(self, targets: Sequence[str], *, many: bool, alone: bool) -> Op[list[str]]:
        """Ask Slurm to cancel jobs and arrays; those that it does not know, or that are another's, are returned."""
        unknown: list[str] = []
        if many and len(targets) > 1:
            for start in range(0, len(targets), CHUNK):
                body = {"jobs": list(targets[start : start + CHUNK])}
                answer = yield from self.ask("DELETE", "jobs", json=body, strict=False)
                unknown += [
                    str(item.get("step_id"))
                    for item in answer.get("status") or ()
                    if num((item.get("error") or {}).get("code")) == NO_SUCH_JOB
                ]
            return [target for target in targets if target in unknown]
        for target in targets:
            try:
                yield from self._delete(target)
            except Conflict:  # it has ended, or is about to: a look tells
                continue
            except (JobNotFound, PermissionDenied) as error:
                if alone and isinstance(error, PermissionDenied):
                    raise
                unknown.append(target)
        return unknown

    def _may_cancel(self, info: JobInfo) -> bool:
        """Whether Slurm may be asked to cancel a job: it hangs for good where it is another's, in some versions."""
        if not info.owner or info.owner == self.user or self.user in OPERATORS or self._accounting:
            return True
        return self._api is None or not self._api.locks_up

    def _write_reason(self, job_id: str, reason: str) -> Op[bool]:
        """Write a reason into a job's comment; whether it was kept."""
        number, index = parts_of(job_id)
        if index is not None:  # the comment of one task is that of its whole array
            return False
        known = self._memory.known(job_id)
        if known is not None and known.comment:
            comment = known.comment
        else:
            comment = next((str(record.get("comment") or "") for record in (yield from self.records(number))), "")
        text = slurm_comment.replaced(slurm_comment.read(comment), reason=reason)
        if slurm_comment.too_long(text):
            return False
        try:
            yield from self.ask("POST", f"job/{number}", json={"comment": text}, repeatable=True)
        except (ServiceError, TransportError):  # the cancel itself is what matters
            return False
        return True

    def _delete(self, job_id: str, signal: str | None = None) -> Op[None]:
        """Ask Slurm to cancel a job, or to send it a signal.

        Raises:
            JobNotFound: There is no such job.
            Conflict: It has ended.
        """
        params = [("signal", signal)] if signal else []
        # a signal that is sent twice is two signals
        body = yield from _when_it_can(
            lambda: self.ask("DELETE", f"job/{job_id}", params=params, repeatable=signal is None)
        )
        for item in body.get("status") or ():
            code = num((item.get("error") or {}).get("code"))
            if code == NO_SUCH_JOB:
                raise JobNotFound(f"Slurm does not know job {job_id}", status=404, code="job_not_found")
            if code == ENDED and len(body["status"]) == 1:
                raise Conflict(f"job {job_id} has ended", status=409, code=str(ENDED))

    def _came_of(self, before: JobInfo, after: JobInfo | None, reason: str | None, *, kept: bool) -> CancelResult:
        """What a request to cancel came to, by how the job is afterwards."""
        if after is None:
            if before.array_index is None or not before.state.not_started:
                return _result(before.id, CancelOutcome.CANCEL_REQUESTED, reason, before, kept=kept)
            # a task that waited is struck from its array's list, and leaves no record
            word = JobState.CANCELLED
            told = {"state": word, "native_state": word.value, "reason": reason, "cancel_reason": reason, "spec": None}
            after = before.model_copy(update=told)
            self._memory.ended(after)
        if after.state is JobState.CANCELLED:
            return _result(before.id, CancelOutcome.CANCELLED, reason, before, after, kept=kept)
        outcome = CancelOutcome.ALREADY_TERMINAL if after.terminal else CancelOutcome.CANCEL_REQUESTED
        return _result(before.id, outcome, reason, before, after, kept=kept)

    def signal(self, job_id: str, name: str) -> Op[JobInfo]:
        """Send a signal to a running job, and look at it: ``client.run(client.service.signal("17", "USR1"))``.

        A job that TERM ends this way is FAILED and not CANCELLED: to stop one, cancel it.

        Args:
            job_id: Which job.
            name: The signal: ``"USR1"``, ``"SIGUSR1"`` or ``signal.SIGUSR1``.

        Raises:
            InvalidSpec: Slurm knows no such signal; nothing was sent.
            Conflict: The job does not run.
            JobNotFound: There is no such job.
        """
        word = signal_name(name)
        info = yield from self.get(job_id)
        if not self._may_cancel(info):
            raise _foreign(info, self.user)
        if info.terminal or info.state.not_started:
            raise Conflict(f"job {job_id} is {info.label}; signals are for jobs that run", status=409)
        yield from self._delete(job_id, word)
        return (yield from self.get(job_id))

    # Changing

    def hold(self, job_id: str) -> Op[JobInfo]:
        """Keep a job from starting: ``client.run(client.service.hold("17"))``.

        Raises:
            Conflict: The job has started.
            JobNotFound: There is no such job.
        """
        return self._hold(job_id, hold=True)

    def release(self, job_id: str) -> Op[JobInfo]:
        """Let a job start that is held.

        Raises:
            Conflict: The job has started.
            PermissionDenied: An operator holds it.
            JobNotFound: There is no such job.
        """
        return self._hold(job_id, hold=False)

    def _hold(self, job_id: str, *, hold: bool) -> Op[JobInfo]:
        info = yield from self.get(job_id)
        if not info.state.not_started:
            raise Conflict(f"job {job_id} is {info.label}; only one that waits can be held or released", status=409)
        yield from self._change(job_id, {"hold": hold})
        return (yield from self.get(job_id))

    def update(self, items: Sequence[JobUpdate]) -> Op[list[UpdateResult]]:
        """Change what can change of a job: name, queue, priority, start, and in its comment tags and meta."""
        return each(self._update(item) for item in items)

    def _update(self, item: JobUpdate) -> Op[UpdateResult]:
        api = yield from self.served()
        given = item.changes.given
        try:
            before = yield from self.get(item.id)
        except JobNotFound:
            return UpdateResult(job_id=item.id, outcome=UpdateOutcome.NOT_FOUND)

        def refused(detail: str, outcome: UpdateOutcome = UpdateOutcome.REFUSED) -> UpdateResult:
            return UpdateResult(job_id=item.id, outcome=outcome, before=before.state, after=before.state, detail=detail)

        others = given.keys() - {"name", "queue", "priority", "start_at", "start_in", "tags", "meta"}
        if others:
            return refused(
                f"{', '.join(sorted(others))}: Slurm changes no such thing; cancel it and submit another one"
            )
        if "name" in given and not api.renames:
            return refused(f"name: slurmrestd {api} changes none; cancel it and submit another one")
        if before.terminal:
            return refused(f"it is {before.label}, and Slurm changes nothing of a job that has ended")
        if late := item.changes.refused(before.state):
            return refused(f"it is {before.label}: {', '.join(late)} can no longer be changed")
        body: dict[str, Any] = {}
        if "name" in given:
            body["name"] = given["name"] or ""
        if given.get("queue"):
            body["partition"] = given["queue"]
        if "priority" in given:
            body["nice"] = -(given["priority"] or 0)
        if "start_at" in given or "start_in" in given:
            body["begin_time"] = begin_of(given.get("start_at"), given.get("start_in")) or "now"
        if "tags" in given or "meta" in given:
            note = slurm_comment.read((before.spec or {}).get("comment"))
            told = {name: given[name] or type(getattr(note, name))() for name in ("tags", "meta") if name in given}
            body["comment"] = slurm_comment.replaced(note, **told)
            if more := slurm_comment.too_long(body["comment"]):
                return refused(f"tags and meta are {more} bytes too long for Slurm's comment", UpdateOutcome.INVALID)
        try:
            yield from self._change(item.id, body)
        except JobNotFound:
            return UpdateResult(job_id=item.id, outcome=UpdateOutcome.NOT_FOUND)
        except (Conflict, InvalidRequest, PermissionDenied) as error:
            advice = "; only operators raise a job above others" if body.get("nice", 0) < 0 else ""
            return refused(f"{error.detail}{advice}")
        after = yield from self.get(item.id)
        return UpdateResult(job_id=item.id, outcome=UpdateOutcome.UPDATED, before=before.state, after=after.state)

    def _change(self, job_id: str, body: Mapping[str, Any]) -> Op[None]:
        """Change a job.

        Raises:
            Conflict: It is one of an array's tasks, which are changed together.
            ServiceError: Slurm refuses it.
        """
        number, index = parts_of(job_id)
        if index is not None:
            raise Conflict(f"Slurm changes the tasks of an array together: change {number}", status=409)
        answer = yield from _when_it_can(lambda: self.ask("POST", f"job/{number}", json=dict(body), repeatable=True))
        ignored = [text for text in notices(answer) if text.startswith(IGNORED)]
        if ignored:
            raise InvalidRequest("; ".join(ignored), status=200, body=answer)

    def retry(self, ids: Sequence[str]) -> Op[list[RetryResult]]:
        """Run jobs again, where the version can have them requeued; Slurm does not hand out the script of a job.

        Raises:
            Unsupported: It cannot.
        """
        api = yield from self.served()
        if not api.requeues:
            raise self._cannot(
                "run a job again by this version of its REST service (v0.0.45 can)",
                "submit it again, or say on the cluster: scontrol requeue ID",
            )
        return (yield from each(self._requeue(job_id) for job_id in ids))

    def _requeue(self, job_id: str) -> Op[RetryResult]:
        try:
            before = yield from self.get(job_id)
            if before.state.not_started:
                yield from self._change(job_id, {"begin_time": "now"})
            elif not before.terminal:
                return RetryResult(
                    job_id=job_id, outcome=RetryOutcome.STILL_RUNNING, before=before.state, after=before.state
                )
            else:
                yield from self.ask("GET", f"job/{job_id}/requeue", repeatable=False)
            after = yield from self.get(job_id)
        except JobNotFound:
            return RetryResult(job_id=job_id, outcome=RetryOutcome.NOT_FOUND)
        return RetryResult(job_id=job_id, outcome=RetryOutcome.RETRIED, before=before.state, after=after.state)


def _when_it_can(ask: Callable[[], Op[dict[str, Any]]]) -> Op[dict[str, Any]]:
    """Ask again for a while where Slurm says that it can do it later, and has done nothing.

    A job that is just starting takes no signal; and newer versions refuse a change of the partition every other time.
    """
    return patiently(ask, BUSY_PAUSES, lambda error: error.code in {str(BUSY), str(NOT_NOW)})


def _result(
    job_id: str,
    outcome: CancelOutcome,
    reason: str | None,
    before: JobInfo | None = None,
    after: JobInfo | None = None,
    *,
    kept: bool = False,
) -> CancelResult:
    return CancelResult(
        job_id=job_id,
        outcome=outcome,
        before=before.state if before is not None else None,
        after=after.state if after is not None else None,
        reason=reason,
        reason_kept=kept or reason is None,
    )


def _foreign(info: JobInfo, user: str) -> PermissionDenied:
    return PermissionDenied(f"job {info.id} is {info.owner}'s, and not {user}'s", status=403, code="2002")
