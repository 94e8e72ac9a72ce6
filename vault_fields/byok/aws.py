"""A customer key in AWS KMS, asked with boto3: the only module that imports it."""

import math
import threading
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from cryptography.exceptions import InvalidTag
from django.core.exceptions import ImproperlyConfigured

from vault_fields.byok.settings import checked
from vault_fields.client import is_loopback
from vault_fields.embedded.customer.provider import Binding, KeyProvider
from vault_fields.exceptions import KeyRevoked, VaultError, VaultRefused, VaultThrottled, VaultUnavailable
from vault_fields.runtime.deadline import NoAnswerInTime
from vault_fields.runtime.forks import follow_forks, leave_to_parent
from vault_fields.runtime.frames import forgetful_class

if TYPE_CHECKING:
    from botocore.exceptions import ClientError

__all__ = ["AwsKms"]

INSTALL = "AWS KMS needs boto3. Type: pip install 'django-vault-fields[aws]'"

# The codes of KMS for a key whose owner does not let it be used.
WITHDRAWN = {"AccessDeniedException", "DisabledException", "KMSInvalidStateException", "NotFoundException"}
DOES_NOT_OPEN = {"IncorrectKeyException", "InvalidCiphertextException"}
THROTTLED = {
    "LimitExceededException",
    "RequestLimitExceeded",
    "Throttling",
    "ThrottlingException",
    "TooManyRequestsException",
}
AWAY = {"DependencyTimeoutException", "KeyUnavailableException", "KMSInternalException", "ServiceUnavailable"}


@forgetful_class
class AwsKms(KeyProvider):
    """
    A symmetric key in AWS KMS. Settings: ``key_id``, best an ARN; ``region``, ``profile`` and ``endpoint_url``.

    Credentials are those that boto3 finds (environment, profile, role of the machine), and never settings. The binding
    is the encryption context, which AWS writes to CloudTrail in the clear.
    """

    name = "AWS_KMS"

    def __init__(self, settings: Mapping[str, str]) -> None:
        self._settings = checked(settings, required=["key_id"], optional=["region", "profile", "endpoint_url"])
        endpoint = urlsplit(self._settings.get("endpoint_url", "https://kms"))
        if not endpoint.hostname or "@" in endpoint.netloc or endpoint.query or endpoint.fragment:
            raise ValueError("endpoint_url must be an address with nothing but a host, a port and a path.")
        if endpoint.scheme != "https" and (endpoint.scheme != "http" or not is_loopback(endpoint.hostname)):
            raise ValueError("endpoint_url must begin with https://.")
        try:
            import boto3  # noqa: F401
        except ImportError:
            raise ImproperlyConfigured(INSTALL) from None
        self._clients: dict[float, Any] = {}
        self.reset_in_child()
        follow_forks(self)

    def __repr__(self) -> str:
        return f"<AwsKms {self._settings['key_id']}>"

    def wrap(self, sealed: bytes, binding: Binding, *, timeout: float) -> bytes:
        answer = self._ask("encrypt", timeout, Plaintext=sealed, EncryptionContext=dict(binding))
        wrapped: bytes = answer["CiphertextBlob"]
        return wrapped

    def unwrap(self, wrapped: bytes, binding: Binding, *, timeout: float) -> bytes:
        answer = self._ask("decrypt", timeout, CiphertextBlob=wrapped, EncryptionContext=dict(binding))
        sealed: bytes = answer["Plaintext"]
        return sealed

    def reset_in_child(self) -> None:
        """Make new connections in a forked child: they are not shared."""
        leave_to_parent(self._clients)
        self._lock = threading.Lock()
        self._clients = {}

    def close(self) -> None:
        with self._lock:
            clients, self._clients = self._clients, {}
        for client in clients.values():
            client.close()

    def _ask(self, operation: str, timeout: float, **parameters: Any) -> Mapping[str, Any]:
        from botocore.exceptions import BotoCoreError, ClientError, ConnectTimeoutError, ReadTimeoutError

        # A try takes up to two thirds of the time: one third to connect, and one for the answer. Another try fits in if
        # it begins in the first third.
        last_start = time.monotonic() + timeout / 3
        pause = timeout / 50
        host = ""
        while True:
            try:
                client = self._client(_rounded(timeout / 3))
                host = f" Host: {urlsplit(client.meta.endpoint_url).hostname}."
                call = getattr(client, operation)
                answer: Mapping[str, Any] = call(KeyId=self._settings["key_id"], **parameters)
            except ClientError as error:
                failure = _failure(error, host)
            except BotoCoreError as error:
                is_silent = isinstance(error, (ConnectTimeoutError, ReadTimeoutError))
                kind = NoAnswerInTime if is_silent else VaultUnavailable
                # Only the kind of error: its text may quote received data.
                failure = kind(f"AWS KMS cannot be asked ({type(error).__name__}).{host}")
            else:
                return answer
            if not isinstance(failure, VaultUnavailable) or time.monotonic() + pause > last_start:
                raise failure
            time.sleep(pause)
            pause *= 2

    def _client(self, timeout: float) -> Any:
        client = self._clients.get(timeout)
        if client is None:
            # Made before the lock is taken: boto3 may use the network to look for credentials.
            made = self._connect(timeout)
            with self._lock:
                client = self._clients.setdefault(timeout, made)
            if client is not made:
                made.close()
        return client

    def _connect(self, timeout: float) -> Any:
        import boto3
        from botocore.config import Config

        config = Config(
            connect_timeout=timeout,
            read_timeout=timeout,
            # Retries are made above, within the deadline.
            retries={"total_max_attempts": 1, "mode": "standard"},
            max_pool_connections=32,
        )
        # A session of its own: the default one is not for threads.
        session = boto3.session.Session(
            profile_name=self._settings.get("profile"), region_name=self._settings.get("region") or self._region()
        )
        return session.client("kms", endpoint_url=self._settings.get("endpoint_url"), config=config)

    def _region(self) -> str | None:
        parts = self._settings["key_id"].split(":")
        return parts[3] if len(parts) == 6 and parts[0] == "arn" else None


def _rounded(timeout: float) -> float:
    """
    Return a little less, one of a few lengths: a client has its time-out for ever, and the time left is arbitrary.
    """
    return math.pow(2, math.floor(math.log2(timeout) * 4) / 4)


def _failure(error: "ClientError", host: str) -> VaultError:
    code = str(error.response.get("Error", {}).get("Code", ""))[:80]
    answer = error.response.get("ResponseMetadata", {})
    status, request_id = answer.get("HTTPStatusCode"), answer.get("RequestId")
    if code in DOES_NOT_OPEN:
        raise InvalidTag from None
    kind: type[VaultError] = VaultRefused
    if code in WITHDRAWN:
        kind = KeyRevoked
    elif code in THROTTLED:
        kind = VaultThrottled
    elif code in AWAY or (status or 0) >= 500:
        kind = VaultUnavailable
    return kind(f"AWS KMS answered {code}.{host}", status=status, request_id=request_id)
