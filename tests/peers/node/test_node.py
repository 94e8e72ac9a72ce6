from tests.peers.node.conftest import Sdk


def test_every_method_of_the_sdk(sdk: Sdk) -> None:
    """The script asserts what each answers; here it is only asked whether it left one out."""
    found = sdk("everyMethod")

    assert found["called"] == found["methods"]
