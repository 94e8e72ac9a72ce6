from collections.abc import Iterator

import pytest

from tests.byok.peers import Bao, running_bao


@pytest.fixture(scope="session")
def bao(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bao]:
    with running_bao(tmp_path_factory.mktemp("bao")) as bao:
        yield bao
