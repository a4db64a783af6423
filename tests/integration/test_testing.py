"""``hpcjobs.testing`` as its users have it: in a test suite of their own, run by a pytest of its own."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import hpcjobs
from hpcjobs import CancelTimeout, Client, ConfigError, NoService
from hpcjobs.testing import LocalService, local_service
from tests import leftovers
from tests.running import Service, clean_environ, until


@pytest.fixture
def hpcjobs_like(shared_service: Service, tmp_path: Path) -> LocalService:
    """A service that runs already, as the fixture tells of one."""
    return LocalService(url=shared_service.url, token=shared_service.token, owner="tester", data=tmp_path)


def run_suite(folder: Path, conftest: str, tests: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run a small test suite; its temporary folders are in ``folder``."""
    (folder / "conftest.py").write_text(textwrap.dedent(conftest))
    (folder / "test_mine.py").write_text(textwrap.dedent(tests))
    (folder / "pytest.ini").write_text("[pytest]\n")
    temporary = folder / "t"
    temporary.mkdir(exist_ok=True)
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(folder)],
        cwd=folder,
        env={**clean_environ(), "TMPDIR": str(temporary), **environ},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_a_suite_of_a_user_has_a_service_and_leaves_nothing_behind(tmp_path: Path) -> None:
    """One service for all tests, with the options that the suite wants; jobs that run do not outlive it.

    What the developer's own settings say, here of a database that is not there, does not count.
    """
    before = leftovers.running()
    done = run_suite(
        tmp_path,
        """
        import pytest

        pytest_plugins = ["hpcjobs.testing"]


        @pytest.fixture(scope="session")
        def hpcjobs_service_options():
            return {"workers": 2, "cores": 1}
        """,
        """
        import os
        import subprocess
        import sys

        import hpcjobs

        seen = []


        def test_a_job_runs(hpcjobs_client):
            job = hpcjobs_client.submit("echo hello")
            assert job.wait(timeout=120).state == "FINISHED"
            assert job.logs() == "hello\\n"
            seen.append(job.id)


        def test_it_is_the_same_service_with_the_options(hpcjobs_service, hpcjobs_client):
            with hpcjobs_service.client() as operator:
                assert operator.job(seen[0]).done
                info = operator.info()
            assert (info.workers, info.max_cores) == (2, 1)
            assert hpcjobs_service.data.is_dir()
            assert hpcjobs_service.token not in repr(hpcjobs_service)


        def test_each_has_an_owner_without_jobs_whom_the_code_under_test_is(hpcjobs_client):
            assert list(hpcjobs_client.jobs()) == []
            job = hpcjobs_client.submit("true")
            with hpcjobs.Client(start=False) as other:
                assert [one.id for one in other.jobs()] == [job.id]


        def test_a_user_has_a_name(hpcjobs_service):
            with hpcjobs.tapis_style.connect(**hpcjobs_service.user("ada").tapis) as t:
                assert t.jobs.submitJob(name="greet", appId="hello", appVersion="1.0").owner == "ada"


        def test_a_job_that_is_left_running(hpcjobs_client):
            seen.append(hpcjobs_client.submit("sleep 600").id)


        def test_is_cancelled(hpcjobs_service):
            with hpcjobs_service.client() as operator:
                assert operator.job(seen[-1]).wait(timeout=60).state == "CANCELLED"


        def test_the_style_of_tapipy(hpcjobs_service):
            with hpcjobs.tapis_style.connect(**hpcjobs_service.tapis) as t:
                job = t.jobs.submitJob(name="greet", appId="hello", appVersion="1.0")
                assert t.client.job(job.uuid).wait(timeout=120).state == "FINISHED"


        def test_the_command_finds_it(hpcjobs_service):
            command = [sys.executable, "-m", "hpcjobs.cli", "show", seen[0]]
            environ = {**os.environ, **hpcjobs_service.environ}
            said = subprocess.run(command, env=environ, capture_output=True, text=True, check=True)
            assert "FINISHED" in said.stdout


        def test_what_tapipy_is_given(hpcjobs_service):
            assert hpcjobs_service.tapis == {
                "base_url": hpcjobs_service.url,
                "tenant_id": "dev",
                "username": hpcjobs_service.owner,
                "password": hpcjobs_service.token,
            }


        def test_one_more_is_left_running(hpcjobs_service):
            client = hpcjobs_service.client()
            client.submit("sleep 600")
            client.close()
        """,
        HPCJOBS_SERVER_DATABASE_URL="postgresql://127.0.0.1:1/nothing",
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "10 passed" in done.stdout
    assert list((tmp_path / "t").glob("hpcjobs-*")) == []
    assert leftovers.find(before, roots=[str(tmp_path)], long_lived=set()) == []


def test_a_service_that_cannot_start_says_why_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    with pytest.raises(NoService, match="--worker"), local_service(worker=2):
        pass
    assert list(tmp_path.iterdir()) == []


def test_what_is_settled_cannot_be_given() -> None:
    with pytest.raises(ConfigError, match="port"), local_service(port=8765):
        pass


def test_apps_of_ones_own_and_faults_on_purpose(tmp_path: Path) -> None:
    """What the page shows: an app is registered; a cancel that got lost is not said to be done; a lost answer makes one job."""
    apps = tmp_path / "apps.toml"
    apps.write_text(
        textwrap.dedent(
            """
            [apps.nap]
            version = "1.0"
            command = ["sleep"]

            [[apps.nap.args]]
            name = "seconds"
            arg = "60"
            """
        )
    )
    with (
        local_service(workers=1, apps=apps, faults=True) as service,
        hpcjobs.tapis_style.connect(**service.tapis) as t,
    ):
        job = t.jobs.submitJob(name="nap", appId="nap", appVersion="1.0")
        until(lambda: t.jobs.getJobStatus(jobUuid=job.uuid).status == "RUNNING", what="the job's start")
        service.fail("cancel_lost")
        with pytest.raises(CancelTimeout):
            t.jobs.cancelJob(jobUuid=job.uuid, confirm=3)
        assert t.jobs.getJobStatus(jobUuid=job.uuid).status == "RUNNING"
        assert t.jobs.cancelJob(jobUuid=job.uuid, confirm=60).outcome == "CANCELLED"
        service.fail("html_502_after", method="POST", path="/v3/jobs/submit")
        twice = t.jobs.submitJob(name="once", appId="hello", appVersion="1.0")
        assert [one.uuid for one in t.jobs.getJobList() if one.name == "once"] == [twice.uuid]
        with pytest.raises(ConfigError, match="bogus"):
            service.fail("bogus")


def test_faults_are_off_unless_they_are_asked_for(hpcjobs_like: LocalService) -> None:
    with pytest.raises(ConfigError, match="--faults"):
        hpcjobs_like.fail("slow")


def test_a_folder_that_is_given_is_kept_and_a_running_service_is_not_taken(tmp_path: Path) -> None:
    data = tmp_path / "d"
    with local_service(data=data, workers=1) as service:
        with service.client() as client:
            job = client.submit("echo kept")
            job.wait(timeout=120)
        with pytest.raises(ConfigError, match="already"), local_service(data=data):
            pass
        with Client(url=service.url, token=service.token) as client:  # it still runs
            assert client.job(job.id).done
    with local_service(data=data, workers=0) as service, service.client() as client:
        assert client.job(job.id).logs() == "kept\n"
