"""The hub of models is asked once whether it is there: else each file of a model would be retried for half a minute."""

from __future__ import annotations

import http.client
import logging
import ssl
import urllib.error
import urllib.request

import huggingface_hub
from huggingface_hub import constants

log = logging.getLogger(__name__)
PATIENCE = 10.0  # seconds: the hub's own


def settle() -> None:
    """Where the hub cannot be reached, let this process take models from the local cache only, and say so."""
    if huggingface_hub.is_offline_mode():
        return
    reason = unreachable(constants.ENDPOINT)
    if reason is not None:
        log.warning("%s cannot be reached (%s): only models in the local cache can be used", constants.ENDPOINT, reason)
        constants.HF_HUB_OFFLINE = True


def unreachable(address: str) -> OSError | None:
    """Why nothing answers at `address`, through whatever proxy is set; None where something does, be it an error."""
    try:
        urllib.request.urlopen(urllib.request.Request(address, method="HEAD"), timeout=PATIENCE).close()
    except (urllib.error.HTTPError, http.client.HTTPException):
        return None
    except OSError as error:
        # The hub's client may know certificates that Python does not.
        return None if isinstance(getattr(error, "reason", error), ssl.SSLError) else error
    return None
