"""tapipy's methods for jobs, over any service: ``t.jobs.submitJob(...)``, ``t.jobs.cancelJob(jobUuid=...)``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from hpcjobs import errors
from hpcjobs.tapis_style.results import TapisResult
from hpcjobs.wording import near

if TYPE_CHECKING:
    from hpcjobs.client import Client
    from hpcjobs.handles import Job
    from hpcjobs.models import OutputFile

LOG = "tapisjob.out"
"""What Tapis calls the log of a job among its files."""

_OTHER_CALLS = frozenset(
    {
        "deleteJobShare", "deleteSubscriptions", "getJobSearchListByPostSqlStr", "getJobShare",
        "getResubmitRequestJson", "getSubscriptions", "patchJobAnnotations", "putJobAnnotations", "sendEvent",
        "shareJob", "subscribe",
    }
)  # fmt: skip
"""What tapipy can do with jobs, and only Tapis."""


class Jobs:
    """tapipy's methods for jobs, over any service.

    Each takes the job as ``jobUuid=``, as ``jobId=`` or as its first argument, and raises ``InvalidSpec`` for a keyword
    that it does not know and ``JobNotFound`` where there is no such job. tapipy's ``headers=`` and ``_tapis_headers=``
    are taken and not needed.
    """

    def __init__(self, client: Client, *, quiet: bool = False) -> None:
        self._client = client
        self._quiet = quiet

    def submitJob(self, **fields: Any) -> TapisResult:
        """Submit a job of an app: exactly one, whatever the network does.

        Args:
            **fields: Tapis's fields: ``name``, ``appId``, ``appVersion``, and what else is asked, ``parameterSet`` or
                ``maxMinutes`` say. Tapis is asked for them as they are, other services in their own words.

        Returns:
            The job, with its ``uuid``.

        Raises:
            InvalidSpec: A field is missing, not known or not right; names the nearest one. Nothing was sent.
            SubmissionUnknown: The answer was lost, and it cannot be known whether there is a job.
        """
        from hpcjobs.tapis_style.asking import check_words, job_fields

        how = {word: fields.pop(word) for word in list(fields) if word.startswith("_") or word in {"headers", "pretty"}}
        check_words("submitJob", how, ("name", "appId", "appVersion"))
        return _job(self._client.submit(**job_fields(fields, at_tapis=self._at_tapis)))

    def getJob(self, jobUuid: str | None = None, *, jobId: str | None = None, **more: Any) -> TapisResult:
        """Look at a job.

        Args:
            jobUuid: Which job.
            jobId: The same.
            **more: What changes nothing; any other word is an error.

        Returns:
            The job, with all of Tapis's fields; None where the service does not tell.
        """
        return _job(self._one("getJob", jobUuid, jobId, more))

    def getJobStatus(self, jobUuid: str | None = None, *, jobId: str | None = None, **more: Any) -> TapisResult:
        """Look at a job's status.

        Args:
            jobUuid: Which job.
            jobId: The same.
            **more: What changes nothing; any other word is an error.

        Returns:
            Its ``status`` and, where it has ended, its ``condition``.
        """
        job = _job(self._one("getJobStatus", jobUuid, jobId, more))
        return TapisResult({"status": job.status, "condition": job.condition})

    def getJobList(
        self,
        *,
        limit: int = 100,
        skip: int = 0,
        startAfter: str | None = None,
        orderBy: str | None = None,
        computeTotal: bool | None = None,
        listType: str = "MY_JOBS",
        **more: Any,
    ) -> list[TapisResult]:
        """List jobs, newest first; hidden ones are left out.

        Args:
            limit: At most so many; -1 for all.
            skip: How many are left out before the first one.
            startAfter: As Tapis has it; on other services use ``skip``.
            orderBy: Another order: ``"status(asc),created(desc)"``.
            computeTotal: Not needed: a list has a length.
            listType: ``"MY_JOBS"``, ``"SHARED_JOBS"`` or ``"ALL_JOBS"``.
            **more: What changes nothing; any other word is an error.

        Returns:
            The jobs, with the fields that Tapis's lists have; ``appId`` is None where a service's lists do not tell it.

        Raises:
            Unsupported: The service cannot list so.
        """
        from hpcjobs.tapis_data import LIST_KEYS

        return self._listed(
            "getJobList",
            LIST_KEYS,
            more,
            limit=limit,
            skip=skip,
            startAfter=startAfter,
            orderBy=orderBy,
            computeTotal=computeTotal,
            listType=listType,
        )

    def getJobSearchList(
        self,
        *,
        select: str | None = None,
        limit: int = 100,
        skip: int = 0,
        startAfter: str | None = None,
        orderBy: str | None = None,
        computeTotal: bool | None = None,
        listType: str = "MY_JOBS",
        **conditions: Any,
    ) -> list[TapisResult]:
        """Search jobs.

        Args:
            select: ``"allAttributes"``, or the fields that are wanted: ``"uuid,status"``. Without it, those of lists;
                with it, services other than Tapis are asked for each job.
            limit: At most so many; -1 for all.
            skip: How many are left out before the first one.
            startAfter: As Tapis has it; on other services use ``skip``.
            orderBy: Another order: ``"status(asc),created(desc)"``.
            computeTotal: Not needed: a list has a length.
            listType: ``"MY_JOBS"``, ``"SHARED_JOBS"`` or ``"ALL_JOBS"``.
            **conditions: As Tapis has them, ``**{"status.eq": "RUNNING"}``; or within ``_tapis_query_parameters=``, as
                tapipy wants them. All must hold.

        Returns:
            The jobs.

        Raises:
            Unsupported: The service cannot search so.
        """
        from hpcjobs.tapis_style.asking import QUERY, select_of

        wanted = {**(conditions.pop(QUERY, None) or {})}
        wanted |= {word: conditions.pop(word) for word in list(conditions) if "." in word}
        return self._listed(
            "getJobSearchList",
            select_of(select),
            conditions,
            wanted,
            limit=limit,
            skip=skip,
            startAfter=startAfter,
            orderBy=orderBy,
            computeTotal=computeTotal,
            listType=listType,
        )

    def getJobHistory(
        self,
        jobUuid: str | None = None,
        *,
        jobId: str | None = None,
        limit: int = 100,
        skip: int = 0,
        **more: Any,
    ) -> list[TapisResult]:
        """What was written down about a job, oldest first.

        Args:
            jobUuid: Which job.
            jobId: The same.
            limit: At most so many entries; -1 for all.
            skip: How many are left out before the first one.
            **more: What changes nothing; any other word is an error.

        Returns:
            The entries; ``eventDetail`` is the status, ``description`` is JSON inside text, as at Tapis.

        Raises:
            Unsupported: The service keeps no history.
        """
        from hpcjobs.tapis_style.asking import count_of
        from hpcjobs.tapis_style.jobs import change_record
        from hpcjobs.tapis_style.native import look

        limit, skip = count_of("limit", limit, least=-1), count_of("skip", skip)
        job = self._one("getJobHistory", jobUuid, jobId, more, ("limit", "skip"))
        if self._at_tapis:
            return _many(look(self._client, f"{job.id}/history", {"limit": limit, "skip": skip}))
        changes, record = job.history().changes, vars(_job(job))
        before = [None, *changes]
        entries = [change_record(change, before[number], record) for number, change in enumerate(changes)]
        return _many(entries[skip : None if limit < 0 else skip + limit])

    def cancelJob(
        self,
        jobUuid: str | None = None,
        *,
        jobId: str | None = None,
        reason: str | None = None,
        confirm: float | None = None,
        **more: Any,
    ) -> TapisResult:
        """Ask that a job not run, or stop; looks first, and asks nothing of a job that has ended.

        What happened is in ``message``, and a person in a notebook or on a terminal is told it. That a job was asked to
        stop does not say that it has: its status does.

        Args:
            jobUuid: Which job.
            jobId: The same.
            reason: Why, for everyone who sees the job; not a word of tapipy.
            confirm: Seconds to wait until the job has ended; not a word of tapipy.
            **more: What changes nothing; any other word is an error.

        Returns:
            ``message`` in words, ``outcome`` in one: ``"CANCELLED"``, ``"CANCEL_REQUESTED"``, ``"ALREADY_TERMINAL"`` or
            ``"FINISHED_FIRST"``; and the last known ``status``.

        Raises:
            CancelTimeout: The job had not stopped within ``confirm`` seconds; the request stands.
        """
        from hpcjobs import live
        from hpcjobs.models import CancelOutcome
        from hpcjobs.tapis_style.jobs import status_of

        job = self._one("cancelJob", jobUuid, jobId, more, ("reason", "confirm"))
        result = job.cancel(reason=reason, confirm=confirm)
        told = str(result)
        status = status_of(job.info)
        if result.outcome is CancelOutcome.CANCEL_REQUESTED:
            told += "; it has stopped when its status is CANCELLED"
        elif result.outcome is CancelOutcome.ALREADY_TERMINAL:
            told += "; nothing was cancelled"
        if not self._quiet:
            live.say(told)
        return TapisResult({"message": told, "outcome": str(result.outcome), "status": status, "uuid": job.id})

    def resubmitJob(self, jobUuid: str | None = None, *, jobId: str | None = None, **more: Any) -> TapisResult:
        """Submit once more what a job was asked for: a new job, with an id of its own.

        Args:
            jobUuid: Which job.
            jobId: The same.
            **more: What changes nothing; any other word is an error.

        Returns:
            The new job; the same one where the service does not tell what was asked, and runs it again itself.

        Raises:
            Conflict: The service runs a job again itself, and it runs.
            Unsupported: The service runs no job again.
        """
        from hpcjobs.models import JobSpec
        from hpcjobs.tapis_data import HIDDEN_TAG
        from hpcjobs.tapis_style.asking import own_options
        from hpcjobs.tapis_style.native import act

        job = self._one("resubmitJob", jobUuid, jobId, more)
        if self._at_tapis:
            return _job(self._client.job(act(self._client, f"{job.id}/resubmit", repeatable=False)["uuid"]))
        if job.info.spec is None:
            return _job(self._client.job(job.retry().new_id or job.id))
        asked = {field: value for field, value in job.info.spec.items() if value is not None}
        asked["tags"] = [tag for tag in job.tags if tag != HIDDEN_TAG]
        asked["options"] = own_options(asked.get("options") or {})
        return _job(self._client.submit(JobSpec.parse(asked)))

    def getJobOutputList(
        self,
        jobUuid: str | None = None,
        *,
        jobId: str | None = None,
        outputPath: str = "/",
        limit: int = 100,
        skip: int = 0,
        allowIfRunning: bool | None = None,
        **more: Any,
    ) -> list[TapisResult]:
        """List a folder of a job's outputs.

        Args:
            jobUuid: Which job.
            jobId: The same.
            outputPath: The folder, or a file; ``"/"`` for what is at the top. ``"tapisjob.out"`` there is the log.
            limit: At most so many entries; -1 for all.
            skip: How many are left out before the first one.
            allowIfRunning: Needed by Tapis while a job runs; other services list at any time.
            **more: What changes nothing; any other word is an error.

        Returns:
            The entries: ``name``, ``path``, ``type`` (``"file"`` or ``"dir"``), ``size`` in bytes, ``lastModified``.

        Raises:
            OutputNotFound: The job has no such output; names those that it has.
            Unsupported: The service lists no files.
        """
        from urllib.parse import quote

        from hpcjobs.tapis_style.asking import count_of
        from hpcjobs.tapis_style.native import look
        from hpcjobs.tapis_style.outputs import listed

        limit, skip = count_of("limit", limit, least=-1), count_of("skip", skip)
        words = ("outputPath", "limit", "skip", "allowIfRunning")
        job = self._one("getJobOutputList", jobUuid, jobId, more, words)
        if self._at_tapis:
            params = {"limit": limit, "skip": skip, "allowIfRunning": allowIfRunning}
            return _many(look(self._client, f"{job.id}/output/list/{quote(outputPath.lstrip('/'))}", params))
        found = listed(self._files(job)[0], outputPath)
        return _many(found[skip : None if limit < 0 else skip + limit])

    def getJobOutputDownload(
        self,
        jobUuid: str | None = None,
        *,
        jobId: str | None = None,
        outputPath: str,
        compress: bool = False,
        format: str = "zip",  # noqa: A002 - Tapis's name
        allowIfRunning: bool | None = None,
        **more: Any,
    ) -> bytes:
        """Fetch an output into memory; ``t.client.job(uuid).download("folder")`` fetches any amount, and into files.

        Args:
            jobUuid: Which job.
            jobId: The same.
            outputPath: The file, or a folder, which comes as a zip file; ``"tapisjob.out"`` for the job's log.
            compress: Whether a single file comes as a zip file, too.
            format: ``"zip"``; there is no other one.
            allowIfRunning: Not needed: what a running job has written so far can be fetched.
            **more: What changes nothing; any other word is an error.

        Returns:
            The bytes.

        Raises:
            OutputNotFound: The job has no such output; names those that it has.
            Unsupported: The service hands out no files.
        """
        from urllib.parse import quote

        from hpcjobs.tapis_style.native import fetch
        from hpcjobs.tapis_style.outputs import fetched

        words = ("outputPath", "compress", "format", "allowIfRunning")
        job = self._one("getJobOutputDownload", jobUuid, jobId, more, words)
        if format != "zip":
            raise errors.InvalidSpec([("format", f"is {format!r}; it can be 'zip' only")])
        if self._at_tapis:
            params = {"compress": compress, "format": format, "allowIfRunning": True}
            try:
                return fetch(self._client, f"{job.id}/output/download/{quote(outputPath.lstrip('/'))}", params)
            except errors.JobNotFound:
                raise
            except errors.NotFound as error:
                raise errors.OutputNotFound(outputPath, [file.path for file in job.files()]) from error

        def read(path: str) -> bytes:
            if path == LOG and log is not None:
                return job.logs().encode()
            with job.open(path, "rb") as file:
                return file.read()

        files, log = self._files(job)
        return fetched(files, outputPath, read, compress=compress)

    def hideJob(self, jobUuid: str | None = None, *, jobId: str | None = None, **more: Any) -> TapisResult:
        """Leave a job that has ended out of lists; it and its outputs stay, and :meth:`unhideJob` shows it again.

        Args:
            jobUuid: Which job.
            jobId: The same.
            **more: What changes nothing; any other word is an error.

        Returns:
            ``message`` in words.

        Raises:
            Conflict: The job has not ended.
            Unsupported: The service cannot hide a job.
        """
        return self._hide("hideJob", jobUuid, jobId, more, hide=True)

    def unhideJob(self, jobUuid: str | None = None, *, jobId: str | None = None, **more: Any) -> TapisResult:
        """Show a hidden job in lists again.

        Args:
            jobUuid: Which job.
            jobId: The same.
            **more: What changes nothing; any other word is an error.

        Returns:
            ``message`` in words.

        Raises:
            Conflict: The job has not ended.
            Unsupported: The service cannot hide a job.
        """
        return self._hide("unhideJob", jobUuid, jobId, more, hide=False)

    def __getattr__(self, name: str) -> Any:
        if name in _OTHER_CALLS:
            raise AttributeError(f"hpcjobs has no t.jobs.{name}; use tapipy for it, in an environment of its own")
        raise AttributeError(
            f"t.jobs has no {name!r}; {near(name, [word for word in dir(type(self)) if not word.startswith('_')])}"
        )

    @property
    def _at_tapis(self) -> bool:
        return self._client.service.name == "Tapis"

    def _one(
        self, method: str, uuid: object, job_id: object, extra: Mapping[str, Any], words: tuple[str, ...] = ()
    ) -> Job[Any]:
        """The job that is meant, as it is now."""
        from hpcjobs.tapis_style.asking import check_words, job_id_of

        check_words(method, extra, ("jobUuid", "jobId", *words))
        return self._client.job(job_id_of(method, uuid, job_id))

    def _files(self, job: Job[Any]) -> tuple[list[OutputFile], OutputFile | None]:
        """The outputs, with the log among them; and the log where it is kept apart from the files, else None."""
        from hpcjobs.models import OutputFile

        found = [file for file in job.files() if not file.unchanged_input]
        service = self._client.service
        if not service.capabilities.logs or any(file.path == LOG for file in found):
            return found, None
        look = service.log_tail(job.id, "stdout", size=1)
        end = self._client._session.run(look)  # noqa: SLF001 - they are of one piece
        if not end.attempt:  # it has not started
            return found, None
        log = OutputFile(path=LOG, size=end.total)
        return [*found, log], log

    def _listed(
        self,
        method: str,
        keys: tuple[str, ...],
        extra: Mapping[str, Any],
        conditions: Mapping[str, Any] | None = None,
        **how: Any,
    ) -> list[TapisResult]:
        from hpcjobs.services.tapis_records import own_tags
        from hpcjobs.tapis_data import JOB_KEYS
        from hpcjobs.tapis_style import listing, native
        from hpcjobs.tapis_style.asking import check_words, count_of

        check_words(method, extra, (*how, *(("select",) if conditions is not None else ())))
        how["limit"], how["skip"] = count_of("limit", how["limit"], least=-1), count_of("skip", how["skip"])
        if not self._at_tapis:
            return _many(listing.listed(self._client, keys, conditions or {}, **how))
        if conditions is None:
            return _many(native.look(self._client, "list", how))
        how["select"] = "allAttributes" if keys == JOB_KEYS else ",".join(keys)
        found = native.look(self._client, "search", {**conditions, **how})
        return _many({**record, **({"tags": own_tags(record)} if "tags" in record else {})} for record in found)

    def _hide(self, method: str, uuid: object, job_id: object, extra: Mapping[str, Any], *, hide: bool) -> TapisResult:
        from hpcjobs.tapis_data import HIDDEN_TAG
        from hpcjobs.tapis_style.native import act

        job = self._one(method, uuid, job_id, extra)
        if self._at_tapis:
            word = "hide" if hide else "unhide"
            return TapisResult(act(self._client, f"{job.id}/{word}", repeatable=True))
        if not self._client.service.capabilities.update:
            instead = "leave it, or remove it for good with t.client.delete(uuid)"
            raise errors.Unsupported(self._client.service.name, "hide a job", instead)
        if not job.done:
            raise errors.Conflict(f"job {job.id} is {job.info.label}, and only one that has ended can be hidden")
        job.update(
            lambda info: {"tags": [*(tag for tag in info.tags if tag != HIDDEN_TAG), *([HIDDEN_TAG] if hide else [])]}
        )
        return TapisResult({"message": f"job {job.id} is {'hidden: lists leave it out' if hide else 'shown in lists'}"})


def _job(job: Job[Any]) -> TapisResult:
    from hpcjobs.tapis_style.jobs import record_of

    return TapisResult(record_of(job.info))


def _many(records: Any) -> list[TapisResult]:
    """Records as results; where they are of jobs, ``id`` is what ``uuid`` is."""
    return [TapisResult({**record, **({"id": record["uuid"]} if "uuid" in record else {})}) for record in records]
