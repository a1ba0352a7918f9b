"""What an answer of Azure Blob Storage tells of trouble, and what to look at then."""

from __future__ import annotations

from datetime import datetime
from email.utils import parsedate_to_datetime

from athens_tx.http_client import OpenResponse, Response
from athens_tx.storage import xml_documents

#: Seconds by which Azure lets a clock be wrong.
CLOCK = 900.0

_ADVICE = {
    "ContainerNotFound": "look at Storage.AzureBlob.ContainerName",
    "InvalidBlobOrBlock": "blocks of another program's unfinished upload are in the way, for a week at most",
    "SnapshotsPresent": "a blob that has snapshots is not deleted: delete them first",
    "KeyBasedAuthenticationNotPermitted": "the account takes no keys: use ManagedIdentityResourceID",
}


def error_code(response: Response | OpenResponse) -> str:
    """@return: Azure's own word for the trouble; empty if there is none. To HEAD the header alone has it."""
    code = response.header("x-ms-error-code")
    return code or (xml_documents.error_code(response.body)[0] if isinstance(response, Response) else "")


def described(response: Response) -> str:
    """@return: what an answer says of the trouble, and what to look at; for L{Calls<athens_tx.storage.calls.Calls>}."""
    code = error_code(response)
    advice = _ADVICE.get(code, "")
    if not advice and response.status in (401, 403):
        advice = "look at the credentials, at what they may do in the container, and at this machine's clock"
    return ": ".join(filter(None, (code, _said(response), advice)))


def _said(response: Response) -> str:
    """@return: the sentence for people; behind it are an id and the time."""
    return xml_documents.error_code(response.body)[1].partition("RequestId:")[0].strip()


def refusal(response: Response, advice: str, now: datetime) -> str:
    """
    @param advice: what to look at where the one who asks is refused.
    @return: why the program can't start, in one line.
    """
    code = error_code(response)
    if code == "ContainerNotFound":
        return "Storage.AzureBlob.ContainerName: there is no such container; make it, or name another"
    text = f"Storage.AzureBlob: the server answers {response.status} {code or 'without a reason'}"
    if response.status not in (401, 403):
        return f"{text}: {_said(response)}: look at AccountName, Endpoint and ContainerName"
    wrong = _clock_error(response, now)
    if abs(wrong) > CLOCK:
        return f"{text}: this machine's clock is {abs(wrong) / 60:.0f} min {'fast' if wrong > 0 else 'slow'}"
    role = 'reading, writing, deleting and listing must be allowed (the role "Storage Blob Data Contributor" allows it)'
    return f"{text}: {_ADVICE.get(code, advice)}; {role}"


def _clock_error(response: Response, now: datetime) -> float:
    """@return: by how many seconds the clock of this machine is fast, as far as the answer tells."""
    try:
        return (now - parsedate_to_datetime(response.header("Date") or "")).total_seconds()
    except (ValueError, TypeError):
        return 0.0
