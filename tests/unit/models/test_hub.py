"""A hub that is not there fails at once; one that answers, with whatever, is left to its own client."""

from __future__ import annotations

import http.server
import logging
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub import constants

from dvlm.config import ModelConfig
from dvlm.models import hub, load
from dvlm.values import InputError


@pytest.fixture(autouse=True)
def online(monkeypatch) -> None:
    """Whatever this machine has, and put back afterwards."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture
def closed(monkeypatch) -> str:
    """An address at which nothing listens."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{held.getsockname()[1]}"
        monkeypatch.setattr(constants, "ENDPOINT", address)
    return address


@pytest.fixture
def answering(monkeypatch) -> Iterator[str]:
    """A server that knows no HEAD: it answers with an error."""
    server = http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(constants, "ENDPOINT", address)
    yield address
    server.shutdown()
    server.server_close()


def test_without_a_hub_a_model_that_is_not_here_is_an_error(closed, tmp_path: Path, caplog):
    config = ModelConfig(model="nobody/no-such-model", max_model_len=4096)
    with caplog.at_level(logging.WARNING):
        assert load.resolve(config, tmp_path) == config
    assert f"{closed} cannot be reached" in caplog.text
    assert huggingface_hub.is_offline_mode()
    for read in (load.load_config, load.load_processor):
        with pytest.raises(InputError, match="nobody/no-such-model.* connect to"):
            read("nobody/no-such-model")


def test_a_hub_that_answers_is_asked(answering, caplog):
    assert hub.unreachable(answering) is None
    hub.settle()
    assert not huggingface_hub.is_offline_mode()
    assert caplog.text == ""
