"""Who asks AWS, in which region, at which address: botocore knows, from the environment, profiles, SSO and roles.

botocore is imported when a service is made, and not before: it comes with ``pip install 'hpcjobs[aws]'``. It finds
credentials and signs; nothing is sent with it but what it asks itself to get credentials.
"""

from __future__ import annotations

import os
import threading
from collections.abc import AsyncGenerator, Generator
from typing import TYPE_CHECKING

import httpx

from hpcjobs.errors import AuthenticationError, ConfigError

if TYPE_CHECKING:
    from botocore.credentials import ReadOnlyCredentials
    from botocore.session import Session

TARGET = "x-amz-target"
"""The header that names the operation where the address does not; such requests are for CloudWatch Logs."""

STALE = ("Expired", "UnrecognizedClient", "InvalidClientTokenId")
"""Words in the code of an answer with 403 after which other credentials may do better."""

_NO_CREDENTIALS = (
    "no AWS credentials are configured{profile}: run `aws configure` or `aws sso login`, set AWS_ACCESS_KEY_ID and "
    "AWS_SECRET_ACCESS_KEY, or name a profile with AWS_PROFILE or profile="
)


class Account:
    """What botocore knows of who asks, for one profile.

    Args:
        profile: A profile of the AWS configuration; None for the usual.

    Raises:
        ConfigError: botocore is not installed, or there is no such profile.
    """

    def __init__(self, profile: str | None = None) -> None:
        self.profile = profile
        self._session = self._open()

    def _open(self) -> Session:
        try:
            import botocore.session
            from botocore.exceptions import BotoCoreError
        except ImportError as error:
            raise ConfigError(
                f"AWS Batch needs botocore, which signs requests ({error}); install it: pip install 'hpcjobs[aws]'"
            ) from None
        try:
            session = botocore.session.Session(profile=self.profile)
            session.get_scoped_config()  # says whether there is such a profile
        except BotoCoreError as error:
            raise ConfigError(f"the AWS configuration cannot be used: {error}; see `aws configure list`") from None
        return session

    def region(self) -> str | None:
        """The region that is configured, if any."""
        return os.environ.get("AWS_REGION") or self._session.get_config_variable("region")

    def endpoint(self, service: str, region: str) -> str:
        """The address of a service of AWS: by ``AWS_ENDPOINT_URL_...`` or the profile, else that of the region.

        Raises:
            ConfigError: The region or the configuration makes none.
        """
        from botocore.exceptions import BotoCoreError

        # A client of botocore is what knows it; it is not used. With keys that are none it looks for no others, which
        # could take a second or two where there are none.
        none = "unused"
        try:
            client = self._session.create_client(
                service, region_name=region, aws_access_key_id=none, aws_secret_access_key=none
            )
        except (BotoCoreError, ValueError) as error:
            raise ConfigError(f"there is no address of {service} in the region {region!r}: {error}") from None
        return str(client.meta.endpoint_url)

    def credentials(self) -> ReadOnlyCredentials:
        """The credentials as they are good now; may ask AWS, so that it takes its time.

        Raises:
            AuthenticationError: There are none, or they cannot be renewed.
        """
        from botocore.exceptions import BotoCoreError

        try:
            found = self._session.get_credentials()
            if found is not None:
                return found.get_frozen_credentials()
        except BotoCoreError as error:
            named = f" --profile {self.profile}" if self.profile else ""
            raise AuthenticationError(
                f"the AWS credentials cannot be had: {error}; log in again, as by `aws sso login{named}`"
            ) from error
        profile = f" for the profile {self.profile!r}" if self.profile else ""
        raise AuthenticationError(_NO_CREDENTIALS.format(profile=profile))

    def renew(self) -> None:
        """Read the configuration anew: somebody may have logged in meanwhile."""
        self._session = self._open()


class AwsAuth(httpx.Auth):
    """Signs requests to AWS (Signature Version 4); where the credentials have ended, once more with what there is then.

    A request that names its operation in ``X-Amz-Target`` is one to CloudWatch Logs, any other one to Batch.

    Args:
        account: Whose requests they are.
        region: The region that they are for.
    """

    def __init__(self, account: Account, region: str) -> None:
        self._account, self._region = account, region
        self._lock = threading.Lock()

    def sync_auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Sign ``request``."""
        request.read()
        used = self._sign(request)
        response = yield request
        if response.status_code == 403:
            response.read()
            if self._sign_again(request, response, used):
                yield request

    async def async_auth_flow(self, request: httpx.Request) -> AsyncGenerator[httpx.Request, httpx.Response]:
        """Sign ``request``, in a thread: to get credentials may take a round trip or several."""
        import asyncio  # not at the top: what is sync does without it

        await request.aread()
        used = await asyncio.to_thread(self._sign, request)
        response = yield request
        if response.status_code == 403:
            await response.aread()
            if await asyncio.to_thread(self._sign_again, request, response, used):
                yield request

    def _sign(self, request: httpx.Request) -> ReadOnlyCredentials:
        from botocore.auth import SigV4Auth
        from botocore.awsrequest import AWSRequest

        with self._lock:  # botocore's session is no place for two threads
            credentials = self._account.credentials()
        for name in ("authorization", "x-amz-date", "x-amz-security-token"):
            request.headers.pop(name, None)
        kept = {name: text for name, text in request.headers.items() if name in {"content-type", TARGET}}
        signed = AWSRequest(request.method, str(request.url), data=request.content, headers=kept)
        SigV4Auth(credentials, "logs" if TARGET in kept else "batch", self._region).add_auth(signed)
        request.headers.update(dict(signed.headers))
        return credentials

    def _sign_again(self, request: httpx.Request, response: httpx.Response, used: ReadOnlyCredentials) -> bool:
        """Whether there are other credentials by now, with which the request was signed again."""
        said = response.headers.get("x-amzn-errortype", "") + response.text[:2000]
        if not any(word in said for word in STALE):
            return False
        with self._lock:
            self._account.renew()
        return bool(self._sign(request) != used)
